"""What goes to and comes from registries."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from engine.late_dataclasses import dataclass
from engine.types.identity import DiffId, Digest, ImageId
from engine.types.images import ImageConfig


class TransferStatus(StrEnum):
    """What becomes of a layer on its way; the words are Docker's."""

    WAITING = "Pulling fs layer"
    DOWNLOADING = "Downloading"
    VERIFYING = "Verifying Checksum"
    DOWNLOADED = "Download complete"
    EXTRACTING = "Extracting"
    DONE = "Pull complete"
    EXISTS = "Already exists"
    RETRYING = "Retrying"
    PREPARING = "Preparing"
    PUSHING = "Pushing"
    PUSHED = "Pushed"
    MOUNTED = "Mounted from"
    PRESENT = "Layer already exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTransfer:
    """How far one layer has come."""

    digest: Digest
    """Of the blob as the registry has it."""
    status: TransferStatus
    done_bytes: int = 0
    total_bytes: int | None = None
    detail: str = ""
    """What a status says besides: the repository it is mounted from, the seconds to wait."""


class TransferListener(Protocol):
    """Is told of layers on the engine's loop, at most ten times a second each; returns at once."""

    def __call__(self, transfer: LayerTransfer, /) -> None:
        """Take note of the newest state of a layer; earlier ones are superseded."""


def ignore_transfers(_transfer: LayerTransfer, /) -> None:
    """Listen to nothing: the default of calls that report layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledImage:
    """An image that came from a registry."""

    image_id: ImageId
    name: str
    """Familiar, with tag or digest."""
    digest: Digest
    """What the registry calls it: of the index, where the name leads to one."""
    is_new: bool
    """The name leads to something else than before."""
    warnings: tuple[str, ...] = ()
    """What the host could not make as new layers have it, and what the registry warns of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImage:
    """An image that a registry has taken."""

    name: str
    digest: Digest
    """Of the manifest."""
    size_bytes: int
    """Of the manifest, as Docker's last line has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """A repository that a search found."""

    name: str
    description: str
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False
    pull_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResult:
    """Who is known to a registry now."""

    registry: str
    username: str
    stored_in: str
    """The file that has the password now, or the credential helper that was given it; empty for
    a login that was kept before."""
    is_plain: bool
    """The file has it unencrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLayer:
    """One step of the history of an image that is in a registry, oldest first."""

    position: int
    """0 is the bottom. Counts history steps, also the empty ones."""
    created_by: str
    created_at: float | None
    comment: str
    is_empty: bool
    """The step changed only the config; the fields below are None or 0."""
    diff_id: DiffId | None = None
    digest: Digest | None = None
    """Of the blob."""
    size_bytes: int = 0
    """As it is in the registry: compressed, as a rule."""
    is_present: bool = False
    """This store has the layer: a pull would not fetch it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteImage:
    """An image in a registry, looked at without pulling it."""

    name: str
    digest: Digest
    """Of the manifest for the platform."""
    image_id: ImageId
    platform: str
    """`linux/amd64`."""
    created_at: float | None
    author: str
    config: ImageConfig
    layers: tuple[RemoteLayer, ...]
    """Oldest first, empty steps included."""
    size_bytes: int
    """Sum of the layers' sizes in the registry."""
    config_json: str
    """The config document, indented for people."""
    platforms: tuple[str, ...] = ()
    """What there is to choose from under the name; its own alone where no index says more."""
