"""What a layer of COPY, ADD or WORKDIR will hold, before anything is written.

Destinations are resolved in the image below, links and all, as a process in it would; from there
on nothing is followed any more: a directory that is copied onto a link, or a file onto a
directory, is refused as BuildKit refuses it. Later sources replace what earlier ones have put
there.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from engine.build.image_files import Owner
from engine.errors import BuildCopyError
from engine.late_dataclasses import dataclass
from engine.linux.files import read_attributes
from engine.snapshots.index import sort_key
from engine.snapshots.tar import TarKind
from engine.snapshots.tar_writer import TarHeader
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.build.file_tree import SourceFile
    from engine.build.image_files import ImageFiles
    from engine.build.selection import SelectedSource

_SECOND_NS = 1_000_000_000
_NEW_DIRECTORY_MODE = 0o755
_WHITEOUT_PREFIX = b".wh."
_SEVERAL = (
    "When using COPY with more than one source file, the destination must be a directory and "
    "end with a /"
)
_TAR_KINDS = {
    FileKind.FILE: TarKind.FILE,
    FileKind.DIRECTORY: TarKind.DIRECTORY,
    FileKind.SYMLINK: TarKind.SYMLINK,
    FileKind.FIFO: TarKind.FIFO,
    FileKind.CHARACTER_DEVICE: TarKind.CHARACTER_DEVICE,
    FileKind.BLOCK_DEVICE: TarKind.BLOCK_DEVICE,
}


class PlannedFile:
    """One path of the layer.

    Attributes:
        source: Where its content comes from; None for directories that are made on the way.
        root: Which of the roots `source` is in.
        content: Of a file that stands in the Dockerfile; None for others.
        shared_with: The same for all names of one file; None where it has only one.
        is_way: A directory of the image, here only because it leads to something.
    """

    __slots__ = (
        "content",
        "group_id",
        "is_way",
        "kind",
        "mode",
        "mtime_ns",
        "root",
        "shared_with",
        "source",
        "user_id",
        "xattrs",
    )

    def __init__(self, *, kind: FileKind, mode: int, owner: Owner, mtime_ns: int) -> None:
        self.kind = kind
        self.mode = mode
        self.user_id, self.group_id = owner
        self.mtime_ns = mtime_ns
        self.source: SourceFile | None = None
        self.root = 0
        self.content: bytes | None = None
        self.shared_with: tuple[int, bytes] | None = None
        self.is_way = False
        self.xattrs: tuple[tuple[bytes, bytes], ...] = ()

    def tar_header(
        self,
        path: bytes,
        *,
        size: int = 0,
        link: bytes = b"",
        device: int = 0,
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
    ) -> TarHeader:
        """What stands before it in the layer's archive, but what only its content tells."""
        return TarHeader(
            name=path,
            kind=_TAR_KINDS[self.kind],
            mode=self.mode,
            user_id=self.user_id,
            group_id=self.group_id,
            size=size,
            modified_at=self.mtime_ns // _SECOND_NS,
            link=link,
            device_major=device >> 32,
            device_minor=device & 0xFFFFFFFF,
            xattrs=xattrs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLook:
    """How everything looks that is copied.

    Attributes:
        owner: Of all of it; None keeps those of the sources, and new directories are root's.
        change_mode: Makes a mode of one and whether it is a directory's; None keeps them.
        latest_ns: No time stamp is later; None for any.
        now_ns: When directories were made.
    """

    owner: Owner | None
    change_mode: Callable[[int, bool], int] | None
    latest_ns: int | None
    now_ns: int

    def time(self, mtime_ns: int) -> int:
        """A time stamp as the layer has it: whole seconds, and no later than allowed."""
        if self.latest_ns is not None and mtime_ns > self.latest_ns:
            mtime_ns = self.latest_ns
        return mtime_ns - mtime_ns % _SECOND_NS


class CopyPlan:
    """Gathers what is copied, source by source."""

    def __init__(self, image: ImageFiles, look: CopyLook, *, destination: bytes) -> None:
        """Begin with nothing.

        Args:
            image: What is below; of `--link` an empty one.
            look: Owners, modes, times.
            destination: From the image's root; a slash at its end says that it is a directory.

        Raises:
            BuildCopyError: Links lead round in circles.
        """
        self._image = image
        self._look = look
        self._files: dict[bytes, PlannedFile] = {}
        self._destination = image.resolve(destination)
        self._shown = os.fsdecode(destination)
        self._is_directory_wanted = destination.endswith((b"/", b"/.")) or destination in {
            b"",
            b".",
        }
        self._source_count = 0
        self._has_file_at_destination = False

    @property
    def destination(self) -> bytes:
        """Where it leads."""
        return self._destination

    @property
    def is_empty(self) -> bool:
        """Nothing changes."""
        return all(file.is_way for file in self._files.values())

    def files(self) -> list[tuple[bytes, PlannedFile]]:
        """Every path, in the order of a layer's index: parents first."""
        return sorted(self._files.items(), key=lambda item: sort_key(item[0]))

    def make_destination(self) -> None:
        """Make the destination a directory, with the directories that lead to it.

        Raises:
            BuildCopyError: Something else is there.
        """
        self._make_directory(self._destination)

    def add(self, source: SelectedSource) -> None:
        """Copy a source.

        Raises:
            BuildCopyError: It does not fit what is there.
        """
        self._source_count += 1
        if source.is_directory:
            self._make_directory(self._destination)
            base = self._destination + b"/" if self._destination else b""
            for file in source.files:
                self._place(base + file.target, file, source)
            return
        (file,) = source.files
        self._place(self._file_target(source.name), file, source)

    def _file_target(self, name: bytes) -> bytes:
        if self._is_directory_wanted or self._is_directory(self._destination):
            self._make_directory(self._destination)
            return self._destination + b"/" + name if self._destination else name
        if self._has_file_at_destination:
            raise BuildCopyError(_SEVERAL, hint=f"Write {self._shown}/")
        self._has_file_at_destination = True
        self._make_directory(self._destination.rpartition(b"/")[0])
        return self._destination

    # --- directories --------------------------------------------------------------------------

    def _is_directory(self, path: bytes) -> bool:
        planned = self._files.get(path)
        if planned is not None:
            return planned.kind is FileKind.DIRECTORY
        return self._image.has_directory(path)

    def _make_directory(self, path: bytes) -> None:
        """Have a directory, and those that lead to it; what the image has stays as it is there."""
        missing = []
        while path and path not in self._files:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        if path and self._files[path].kind is not FileKind.DIRECTORY:
            raise _no_directory(path)
        for new in reversed(missing):
            self._files[new] = way_of(self._image, new) or new_directory(self._look)

    # --- files --------------------------------------------------------------------------------

    def _place(self, path: bytes, file: SourceFile, source: SelectedSource) -> None:
        refuse_removal(path.rpartition(b"/")[2], file.path)
        is_directory = file.kind is FileKind.DIRECTORY
        known = self._files.get(path)
        if known is not None:
            was_directory = known.kind is FileKind.DIRECTORY
        elif self._image.has_directory(path.rpartition(b"/")[0]):
            below = self._image.status(path)
            was_directory = is_directory if below is None else stat.S_ISDIR(below.st_mode)
        else:
            was_directory = is_directory
        if is_directory and not was_directory:
            raise _no_directory(path)
        if was_directory and not is_directory:
            raise BuildCopyError(f"cannot replace to directory /{os.fsdecode(path)} with file")
        self._files[path] = self._planned(file, source)

    def _planned(self, file: SourceFile, source: SelectedSource) -> PlannedFile:
        look = self._look
        mode = file.mode
        if file.kind is FileKind.SYMLINK:
            mode = 0o777
        elif look.change_mode is not None:
            mode = look.change_mode(mode, file.kind is FileKind.DIRECTORY)
        planned = PlannedFile(
            kind=file.kind,
            mode=mode,
            owner=look.owner or Owner(file.user_id, file.group_id),
            mtime_ns=look.time(file.mtime_ns),
        )
        planned.source = file
        planned.root = source.root
        planned.content = source.content
        if file.shared_as:
            planned.shared_with = (self._source_count, file.shared_as)
        return planned


def _no_directory(path: bytes) -> BuildCopyError:
    return BuildCopyError(f"cannot copy to non-directory: /{os.fsdecode(path)}")


def way_of(image: ImageFiles, path: bytes) -> PlannedFile | None:
    """A directory of the image, as it is there; None if nothing is there.

    Raises:
        BuildCopyError: Something else is there.
    """
    below = image.open(path)
    if below is None:
        return None
    try:
        status = os.fstat(below)
        if not stat.S_ISDIR(status.st_mode):
            raise _no_directory(path)
        way = PlannedFile(
            kind=FileKind.DIRECTORY,
            mode=stat.S_IMODE(status.st_mode),
            owner=Owner(status.st_uid, status.st_gid),
            mtime_ns=status.st_mtime_ns - status.st_mtime_ns % _SECOND_NS,
        )
        way.is_way = True
        way.xattrs = tuple(one for one in read_attributes(below) if b".overlay." not in one[0])
    finally:
        os.close(below)
    return way


def new_directory(look: CopyLook) -> PlannedFile:
    """A directory that is made because something goes into it."""
    mode = _NEW_DIRECTORY_MODE
    return PlannedFile(
        kind=FileKind.DIRECTORY,
        mode=mode if look.change_mode is None else look.change_mode(mode, True),
        owner=look.owner or Owner(0, 0),
        mtime_ns=look.time(look.now_ns),
    )


def refuse_removal(name: bytes, path: bytes) -> None:
    """Refuse a name that in a layer would say that something was removed.

    Raises:
        BuildCopyError: It is one; `path` is how it is called.
    """
    if name.startswith(_WHITEOUT_PREFIX):
        raise BuildCopyError(
            f"{os.fsdecode(path)}: no image can hold a file with a name like this",
            hint="In a layer, names that begin with .wh. say that something was removed",
        )
