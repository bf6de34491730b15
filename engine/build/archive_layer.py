"""The layer of an ADD that unpacks archives.

Entries keep the order of the archive, so the layer's tar is written as they come, and unpacked as
any layer is, in the same go. Links are followed inside the destination, as if it were the root of
everything, and only on the way to an entry: what an entry names is replaced, whatever it was.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from engine.build.archive_streams import ArchiveStream
from engine.build.copy_plan import new_directory, refuse_removal, way_of
from engine.build.selection import SelectedSource
from engine.build.source_roots import file_pieces, public_attributes
from engine.errors import ArchiveError, BuildSourceChangedError
from engine.linux.files import open_directory
from engine.snapshots.apply import LayerApplier
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.index import write_index
from engine.snapshots.layer_tar import LayerTarRecorder
from engine.snapshots.packing import SealedLayer
from engine.snapshots.streams import PackedSource
from engine.snapshots.tar import TarKind, TarReader
from engine.snapshots.tar_writer import TarHeader, TarStream
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.build.copy_plan import CopyLook, CopyPlan, PlannedFile
    from engine.build.image_files import ImageFiles
    from engine.build.source_roots import SourceRoots
    from engine.snapshots.lowers import LowerLayers
    from engine.snapshots.tar import TarEntry

_SECOND_NS = 1_000_000_000
_PIECE_BYTES = 1 << 20
_ZEROES = bytes(_PIECE_BYTES)
_KEPT_XATTRS = (b"user.", b"security.capability")


class ArchiveLayer:
    """Makes one such layer; used once, blocking."""

    def __init__(
        self,
        directory: int,
        *,
        image: ImageFiles,
        look: CopyLook,
        lowers: LowerLayers,
        roots: SourceRoots,
        label: str,
    ) -> None:
        """Prepare.

        Args:
            directory: Of the layer, with an empty `diff`; the caller's.
            image: What is below.
            look: Owners and times; modes of what is unpacked stay as they are.
            lowers: The layers that `image` looks at.
            roots: Where the archives are.
            label: What errors call the layer.
        """
        self._directory = directory
        self._image = image
        self._look = look
        self._lowers = lowers
        self._roots = roots
        self._label = label
        self._stream = TarStream(_nowhere)
        self._written: set[bytes] = set()
        self.warnings: tuple[str, ...] = ()

    def write(
        self,
        parts: Sequence[CopyPlan | SelectedSource],
        destination: bytes,
    ) -> SealedLayer:
        """Write the layer.

        Args:
            parts: In their order: what is copied as it is, and archives.
            destination: Where archives are unpacked, links resolved.

        Raises:
            ArchiveError: An archive is damaged, or climbs out.
            BuildSourceChangedError: It is not what it was when it was selected.
            OSError: It cannot be read or written.
        """

        def pack(write: Callable[[bytes], None]) -> None:
            self._stream = TarStream(write)
            for part in parts:
                if isinstance(part, SelectedSource):
                    self._unpack(part, destination)
                else:
                    for path, planned in part.files():
                        self._copy(path, planned)
            self._stream.close()

        root = open_directory(self._directory, DIFF_NAME.encode())
        try:
            with (
                PackedSource(pack) as source,
                LayerTarRecorder(source, self._directory) as recorder,
            ):
                applier = LayerApplier(
                    root,
                    lowers=self._lowers,
                    recorder=recorder,
                    label=self._label,
                    # Nothing is hidden here, so no directory is marked.
                    uses_user_xattrs=False,
                )
                index = applier.apply(TarReader(recorder, label=self._label), on_entry=_nothing)
                recorder.finish()
                diff_id = source.finish()
        finally:
            self._roots.close()
            os.close(root)
        self.warnings = applier.warnings
        write_index(self._directory, index)
        return SealedLayer(
            diff_id=diff_id,
            tar_bytes=source.produced_bytes,
            size_bytes=index.size_bytes,
            entry_count=index.entry_count,
        )

    # --- what is copied as it is --------------------------------------------------------------

    def _copy(self, path: bytes, planned: PlannedFile) -> None:
        """Append a planned file; no content is shared by names here."""
        source = planned.source
        if planned.is_way and path in self._written:
            return
        self._note(path, planned)
        if planned.kind is not FileKind.FILE or source is None:
            device = 0 if source is None else source.device
            link = b"" if source is None else source.link
            self._stream.begin(
                planned.tar_header(path, link=link, device=device, xattrs=planned.xattrs)
            )
            return
        if planned.content is not None:
            self._stream.begin(planned.tar_header(path, size=len(planned.content)))
            if planned.content:
                self._stream.write(planned.content)
            return
        descriptor = self._roots.open(planned.root, source.layer, source.path)
        try:
            xattrs = public_attributes(descriptor) if source.xattrs_digest else ()
            self._stream.begin(planned.tar_header(path, size=source.size_bytes, xattrs=xattrs))
            digest = hashlib.sha256()
            for piece in file_pieces(descriptor, source.size_bytes):
                digest.update(piece)
                self._stream.write(piece)
            is_longer = os.read(descriptor, 1)
        finally:
            os.close(descriptor)
        is_wrong = source.content_digest and digest.digest() != source.content_digest
        if is_longer or is_wrong or self._stream.missing_bytes:
            raise BuildSourceChangedError(os.fsdecode(source.path))

    def _note(self, path: bytes, planned: PlannedFile) -> None:
        self._written.add(path)
        is_link = planned.kind is FileKind.SYMLINK and planned.source is not None
        self._image.put(path, planned.source.link if is_link and planned.source else None)

    # --- archives -----------------------------------------------------------------------------

    def _unpack(self, source: SelectedSource, destination: bytes) -> None:
        (file,) = source.files
        label = source.text
        descriptor = self._roots.open(source.root, file.layer, file.path)
        try:
            self._make_way(destination + b"/x")
            stream = ArchiveStream(descriptor, label=label)
            reader = TarReader(stream, label=label)
            for entry in reader:
                self._unpack_entry(entry, reader, destination, label)
            digest = stream.finish()
        finally:
            os.close(descriptor)
        if file.content_digest and digest != file.content_digest:
            raise BuildSourceChangedError(os.fsdecode(file.path))

    def _unpack_entry(
        self, entry: TarEntry, reader: TarReader, destination: bytes, label: str
    ) -> None:
        path = self._place(entry.name, destination, label)
        if path == destination:
            return  # the archive's own root: the destination stays as it is
        link = entry.link
        if entry.kind is TarKind.HARD_LINK:
            link = self._place(entry.link, destination, label)
            if link == path:
                return
        self._make_way(path)
        owner = self._look.owner or (entry.user_id, entry.group_id)
        is_device = entry.kind in {TarKind.CHARACTER_DEVICE, TarKind.BLOCK_DEVICE}
        if is_device and not entry.device_major and not entry.device_minor:
            raise ArchiveError(label, f"entry {os.fsdecode(entry.name)!r}: it is no device")
        self._stream.begin(
            TarHeader(
                name=path,
                kind=entry.kind,
                mode=entry.mode,
                user_id=owner[0],
                group_id=owner[1],
                size=entry.size if entry.kind is TarKind.FILE else 0,
                modified_at=self._look.time(entry.mtime_ns) // _SECOND_NS,
                link=link,
                device_major=entry.device_major,
                device_minor=entry.device_minor,
                xattrs=tuple(one for one in entry.xattrs if one[0].startswith(_KEPT_XATTRS)),
            )
        )
        if entry.kind is TarKind.FILE:
            for piece in _whole_content(entry, reader):
                self._stream.write(piece)
        self._written.add(path)
        self._image.put(path, entry.link if entry.kind is TarKind.SYMLINK else None)

    def _place(self, name: bytes, destination: bytes, label: str) -> bytes:
        """Where an entry goes: links are followed up to its own name."""
        names = [part for part in name.split(b"/") if part not in {b"", b"."}]
        if b".." in names:
            raise ArchiveError(
                label, f"entry {os.fsdecode(name)!r}: it climbs out of the directory"
            )
        if not names:
            return destination
        refuse_removal(names[-1], name)
        parent = self._image.resolve(b"/".join(names[:-1]), top=destination)
        return parent + b"/" + names[-1] if parent else names[-1]

    def _make_way(self, path: bytes) -> None:
        """Have the directories that lead to a path in the layer."""
        missing = []
        parent = path.rpartition(b"/")[0]
        while parent and parent not in self._written:
            missing.append(parent)
            parent = parent.rpartition(b"/")[0]
        for new in reversed(missing):
            planned = way_of(self._image, new) or new_directory(self._look)
            self._written.add(new)
            self._stream.begin(planned.tar_header(new, xattrs=planned.xattrs))


def _whole_content(entry: TarEntry, reader: TarReader) -> Iterator[bytes]:
    """A file's content, the holes of a sparse one as zeros."""
    position = 0
    for start, piece in _stored(entry, reader):
        yield from _zeroes(start - position)
        yield piece
        position = start + len(piece)
    yield from _zeroes(entry.size - position)


def _stored(entry: TarEntry, reader: TarReader) -> Iterator[tuple[int, bytes]]:
    segments = iter(entry.segments or ((0, entry.data_bytes),))
    offset = left = 0
    for piece in reader.pieces():
        rest = piece
        while rest:
            while not left:
                offset, left = next(segments)
            part = rest[:left]
            yield offset, part
            offset += len(part)
            left -= len(part)
            rest = rest[len(part) :]


def _zeroes(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROES[:count]
        count -= _PIECE_BYTES


def _nothing() -> None:
    """Nobody listens to single entries."""


def _nowhere(_piece: bytes) -> None:
    """Before anything is written."""
