"""Where the engine keeps things, and the few settings that change how it works."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, LimitError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping


_SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)b?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLimits:
    """What is refused of a layer that comes from elsewhere: a small blob can unpack to anything.

    Attributes:
        unpacked_bytes: Of its tar, and of all its files together with their holes.
        entries: In its tar.
        window_bytes: What zstd must remember of it to decompress, which is memory. Docker,
            Podman, Buildah, BuildKit and skopeo need 32 MiB at their highest level.
    """

    unpacked_bytes: int = 64 << 30
    entries: int = 2_000_000
    window_bytes: int = 64 << 20

    @classmethod
    def load(cls, values: Mapping[str, str]) -> LayerLimits:
        """Take LAMELLA_LAYER_BYTES (`100g`), _ENTRIES and _WINDOW (`128m`), or the defaults.

        Raises:
            LimitError: A value is no number.
        """
        given = {}
        for field, name, expected in (
            ("unpacked_bytes", "LAMELLA_LAYER_BYTES", "a size such as 100g"),
            ("entries", "LAMELLA_LAYER_ENTRIES", "a number"),
            ("window_bytes", "LAMELLA_LAYER_WINDOW", "a size such as 128m"),
        ):
            if text := values.get(name):
                match = _SIZE.fullmatch(text)
                if match is None or (field == "entries" and not text.isdigit()):
                    raise LimitError(name, text, expected)
                given[field] = int(match[1]) << _UNITS[match[2].lower()]
        return replace(cls(), **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Paths and settings of one engine.

    Attributes:
        root: What outlives a reboot: images, layers, containers, the database.
        run: What does not: sockets and locks. Must be on a local file system.
        layer_limits: What is refused of layers.
        default_network: What containers are in that ask for nothing: `bridge`, or `none`.
    """

    root: Path
    run: Path
    layer_limits: LayerLimits = LayerLimits()
    default_network: str = "bridge"

    @classmethod
    def load(
        cls,
        *,
        root: Path | None = None,
        run: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> EngineConfig:
        """Find the paths: arguments first, then LAMELLA_ROOT and LAMELLA_RUN, then defaults.

        With a root of one's own and no run directory, `<root>/run` is used, so that one setting
        is enough to keep a store apart. Touches nothing on disk.

        Raises:
            InvalidInputError: A path is relative, and the working directory was removed, or a
                limit is no number.
        """
        values = os.environ if environment is None else environment
        is_root = os.geteuid() == 0
        if root is None and values.get("LAMELLA_ROOT"):
            root = Path(values["LAMELLA_ROOT"])
        if run is None and values.get("LAMELLA_RUN"):
            run = Path(values["LAMELLA_RUN"])
        if run is None and root is not None:
            run = root / "run"
        if root is None:
            root = Path("/var/lib/lamella") if is_root else _user_data(values) / "lamella"
        if run is None:
            run = Path("/run/lamella") if is_root else _user_runtime(values)
        return cls(
            root=_absolute(root),
            run=_absolute(run),
            layer_limits=LayerLimits.load(values),
            default_network=_default_network(values),
        )

    @property
    def database_path(self) -> Path:
        """SQLite file with every record."""
        return self.root / "lamella.db"

    @property
    def events_path(self) -> Path:
        """Append-only JSON lines."""
        return self.root / "events.jsonl"

    @property
    def blobs_directory(self) -> Path:
        """Holds `sha256/<hex>`."""
        return self.root / "blobs"

    @property
    def layers_directory(self) -> Path:
        """Holds `<chain id's hex>/diff` and `<chain id's hex>/index`."""
        return self.root / "layers"

    @property
    def staging_directory(self) -> Path:
        """Holds half-done work; what nobody has locked is swept at the next start."""
        return self.root / "staging"

    @property
    def volumes_directory(self) -> Path:
        """Holds `<name>/_data`."""
        return self.root / "volumes"

    @property
    def downloads_directory(self) -> Path:
        """Holds `<digest's hex>/content`: blobs that are not whole, or not unpacked yet."""
        return self.root / "downloads"

    def volume_directory(self, name: str) -> Path:
        """Of one volume; its files are in `_data`."""
        return self.volumes_directory / name

    def layer_lock_path(self, chain_id: str) -> Path:
        """The lock of who makes a layer; whoever has it may remove its directory."""
        return self.run / "layers" / chain_id.removeprefix("sha256:") / "lock"

    def build_lock_path(self, build_id: str) -> Path:
        """The lock of the application that a build runs in."""
        return self.run / "builds" / build_id

    def volume_run_directory(self, name: str) -> Path:
        """Of one volume: its lock."""
        return self.run / "volumes" / name

    def network_run_directory(self, network_id: str) -> Path:
        """Of one network: its lock, and who is in it."""
        return self.run / "networks" / network_id

    def network_members_directory(self, network_id: str) -> Path:
        """What the members of a network are called, by container id."""
        return self.network_run_directory(network_id) / "members"

    def container_directory(self, container_id: str) -> Path:
        """Of one container: config.json, state.json, upper/, work/, log."""
        return self.root / "containers" / container_id

    def container_run_directory(self, container_id: str) -> Path:
        """Of one container: attach.sock, lock."""
        return self.run / "containers" / container_id


def _default_network(values: Mapping[str, str]) -> str:
    name = values.get("LAMELLA_DEFAULT_NETWORK") or "bridge"
    if name not in {"bridge", "none"}:
        raise InvalidInputError(
            f"LAMELLA_DEFAULT_NETWORK cannot be {name!r}", hint="It can be bridge or none"
        )
    return name


def _user_data(values: Mapping[str, str]) -> Path:
    return Path(values.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _user_runtime(values: Mapping[str, str]) -> Path:
    runtime = values.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        return Path(runtime) / "lamella"
    # No login session (su, cron, a bare SSH command): the data directory is ours alone as well.
    return _user_data(values) / "lamella" / "run"


def _absolute(path: Path) -> Path:
    # A removed working directory must not matter to someone who gives absolute paths.
    if path.is_absolute():
        return path
    try:
        return Path(os.path.abspath(path))
    except FileNotFoundError:
        raise InvalidInputError(
            f"cannot use {path}: the working directory was removed",
            hint="`cd` to a directory that exists, or give an absolute path",
        ) from None
