"""Where a copy goes: Docker's rules about files, directories and trailing slashes.

The same for both directions (docs.docker.com/reference/cli/docker/container/cp, moby
pkg/archive/copy.go): only how a path is opened differs.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from engine.errors import CopyRefusedError, FileNotInContainerError
from engine.late_dataclasses import dataclass
from engine.linux.files import open_in_root

if TYPE_CHECKING:
    from engine.errors import EngineError

_LINK_LIMIT = 40


class PathOpener(Protocol):
    """Opens paths where a copy goes to, and says what is missing there."""

    def open(self, path: bytes, flags: int, /) -> int:
        """Get a descriptor of a path; OSError is raised as by the system call."""

    def missing(self, path: bytes, /) -> EngineError:
        """What is said when a directory that must be there is not."""


class ContainerPaths:
    """Paths in a container's root, which no link leads out of."""

    def __init__(self, root: int, *, container: str) -> None:
        """Resolve below `root`, a descriptor; `container` is its name for messages."""
        self._root = root
        self._container = container

    def open(self, path: bytes, flags: int, /) -> int:
        """As PathOpener."""
        return open_in_root(self._root, path, flags)

    def missing(self, path: bytes, /) -> EngineError:
        """As PathOpener."""
        return FileNotInContainerError(os.fsdecode(path), self._container)


class HostPaths:
    """Paths as the person who copies means them."""

    def open(self, path: bytes, flags: int, /) -> int:
        """As PathOpener."""
        return os.open(path, flags | os.O_CLOEXEC)

    def missing(self, path: bytes, /) -> EngineError:
        """As PathOpener."""
        return CopyRefusedError(
            f'invalid output path: directory "{os.fsdecode(path)}" does not exist',
            hint="Make the directory first",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the copied thing ends up.

    Attributes:
        directory: Descriptor of the directory that it is put into; the holder closes it.
        name: What it is called there; empty when only its content is put there.
    """

    directory: int
    name: bytes


def open_destination(
    paths: PathOpener,
    path: bytes,
    *,
    is_directory: bool,
    source_name: bytes,
    copies_content: bool,
) -> Destination:
    """Find where a copy goes.

    Args:
        paths: Opens.
        path: As it was typed.
        is_directory: Whether a directory is copied.
        source_name: What the copied thing is called where it comes from.
        copies_content: Only what is in the directory, not itself (`source/.`).

    Raises:
        CopyRefusedError: Source and destination do not fit each other.
        EngineError: What `paths` says of a directory that is missing.
        OSError: Anything else that the file system says.
    """
    wants_directory = path.endswith((b"/", b"/.")) or path in {b"", b"."}
    for _ in range(_LINK_LIMIT):
        try:
            found = paths.open(path or b".", os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            if wants_directory and not is_directory:
                raise CopyRefusedError(
                    "no such directory", hint="Without the slash at the end a file is made"
                ) from None
            return _beside(paths, path)
        except NotADirectoryError:
            raise _not_a_directory() from None
        mode = os.fstat(found).st_mode
        if stat.S_ISLNK(mode):
            # The last name is followed by hand: where it leads to need not be there yet.
            target = os.readlink(b"", dir_fd=found)
            os.close(found)
            path = os.path.join(os.path.dirname(path), target)
            continue
        if stat.S_ISDIR(mode):
            os.close(found)
            directory = paths.open(path or b".", os.O_RDONLY | os.O_DIRECTORY)
            return Destination(directory=directory, name=b"" if copies_content else source_name)
        os.close(found)
        if wants_directory:
            raise _not_a_directory()
        if is_directory:
            raise CopyRefusedError("cannot copy directory", hint="The destination is a file")
        return _beside(paths, path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _not_a_directory() -> CopyRefusedError:
    return CopyRefusedError("not a directory", hint="Leave the slash at the end out")


def _beside(paths: PathOpener, path: bytes) -> Destination:
    """In the directory that a path's last name is in, which must be there."""
    stripped = path.rstrip(b"/")
    parent, name = os.path.split(stripped)
    if name == b".":
        parent, name = os.path.split(parent)
    try:
        directory = paths.open(parent or (b"/" if path.startswith(b"/") else b"."), _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise paths.missing(parent or b"/") from None
    return Destination(directory=directory, name=name)


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
