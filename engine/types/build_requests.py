"""What is asked of a build."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types.options import Ulimit

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContext:
    """Files besides the context, for `FROM name` and `--from=name`."""

    name: str
    source: str
    """An absolute path of a directory, or an image behind `docker-image://`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSecret:
    """What a step may read as `--mount=type=secret,id=…`; it is written down nowhere."""

    secret_id: str
    path: Path | None = None
    """A file of the host's, read when a step wants it; None if `value` is meant."""
    value: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSsh:
    """An agent that a step may ask as `--mount=type=ssh,id=…`."""

    ssh_id: str = "default"
    socket: Path
    """Where the agent listens on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build. Paths are absolute: the engine does not know where the person stands."""

    context: Path | int | None = None
    """A directory; a descriptor of a tar, which stays the caller's; None for no files at all."""
    dockerfile: str = ""
    """Path in the context, or an absolute one; empty for `Dockerfile`."""
    dockerfile_content: bytes | None = None
    """In place of the file."""
    names: tuple[str, ...] = ()
    """What the image is called: repositories, with or without a tag."""
    target: str = ""
    """Name or number of the stage that is wanted; empty for the last."""
    arguments: tuple[tuple[str, str], ...] = ()
    """`ARG` values; the last one of a name holds."""
    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""
    """`linux/amd64`; another one than this host's is refused."""
    uses_cache: bool = True
    uncached_stages: tuple[str, ...] = ()
    """Stages whose steps are run although the cache has them."""
    pulls: bool = False
    """Ask the registry for base images that are here, too."""
    cache_sources: tuple[str, ...] = ()
    """Images whose layers serve as if this store had built them; whoever made them is trusted."""
    squashes: bool = False
    """All that the build adds to the base is one layer."""
    named_contexts: tuple[NamedContext, ...] = ()
    secrets: tuple[BuildSecret, ...] = ()
    ssh: tuple[BuildSsh, ...] = ()
    network: str = ""
    """Of `RUN`: empty for the default network, `none` or `host`."""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """Names and addresses for `/etc/hosts` of `RUN`."""
    shared_memory_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    epoch_seconds: int | None = None
    """The latest time that files and the image have; None for the beginning of 1980, but the image
    was then made when the context was committed, if it was."""
    keeps_times: bool = False
    """Times are as they happened, and two builds differ."""
    keeps_failed_step: bool = False
    """What a step that fails has written becomes an image without a name."""
    most_parallel_steps: int = 0
    """0 is as many as there are processors."""
