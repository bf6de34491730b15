"""What is mounted into containers."""

from __future__ import annotations

from engine.late_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """One mount of a container, as `-v`, `--mount` or `--tmpfs` asks for it.

    Attributes:
        kind: `bind`, `volume` or `tmpfs`.
        source: A path of the host, a volume's name, or empty for an anonymous volume.
        target: Absolute path in the container.
        propagation: Of a bind mount: `rprivate` (also when empty), `private`, `rshared`, `shared`,
            `rslave` or `slave`.
        recursion: Of a bind mount: `enabled` takes what is mounted below the source along,
            `disabled` does not, `writable` makes only the topmost mount read-only.
        makes_source: A directory of the host's that is missing is made (`-v`), not refused.
        has_copy: A volume that is empty is filled with what the image has at the target.
        subpath: A directory or file inside the volume that is mounted instead of all of it.
        volume_labels: Of a volume that is made for this mount.
        tmpfs_options: Of a tmpfs, as mount(8) has them: `size=64m`, `mode=1770`, `exec`.
        is_anonymous: The volume was made for this container and goes with it when asked to.
        is_inherited: It was another container's before (`--volumes-from`).
    """

    kind: str
    source: str
    target: str
    is_read_only: bool = False
    propagation: str = ""
    recursion: str = "enabled"
    makes_source: bool = False
    has_copy: bool = True
    subpath: str = ""
    volume_labels: tuple[tuple[str, str], ...] = ()
    tmpfs_options: tuple[str, ...] = ()
    is_anonymous: bool = False
    is_inherited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPoint:
    """One mount that a container has, as `inspect` shows it.

    Attributes:
        kind: `bind`, `volume` or `tmpfs`.
        name: The volume's; empty for the others.
        source: Path on the host; empty for a tmpfs.
        target: Absolute path in the container.
        subpath: What of the volume is mounted; empty for all of it.
        propagation: Of a bind mount.
        options: Further options, as they were written.
    """

    kind: str
    name: str
    source: str
    target: str
    is_read_only: bool
    subpath: str = ""
    propagation: str = ""
    options: tuple[str, ...] = ()
