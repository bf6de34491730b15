"""Looking at images that are in a registry, without pulling them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from engine.errors import (
    ArchiveError,
    DigestMismatchError,
    FileNotInLayerError,
    ImageNotFoundError,
    InvalidInputError,
    StoreError,
)
from engine.images.blocking import BlockingCalls
from engine.images.documents import container_config, indented
from engine.images.layer_cache import KeptLayer
from engine.images.remote import read_image
from engine.late_dataclasses import dataclass
from engine.oci.documents import HistoryDocument, parse_time
from engine.oci.platforms import platform_rank
from engine.operations import Progress
from engine.snapshots.streams import CHUNK_BYTES, decompress
from engine.snapshots.tar import TarEntry, TarKind, TarLimits, TarReader, too_large_error
from engine.snapshots.viewing import not_viewable_error, view_path
from engine.types import (
    MAXIMUM_VIEWED_BYTES,
    ChangeKind,
    FileContent,
    FileEntry,
    FileKind,
    FileTree,
    RemoteImage,
    RemoteLayer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from engine.config import EngineConfig
    from engine.images.layer_cache import LayerCache
    from engine.images.pull import SourceMaker
    from engine.images.remote import ImageInRegistry, ImageSource, PullLayer
    from engine.oci.documents import Platform
    from engine.oci.reference import Reference
    from engine.operations import ProgressListener
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecords
    from engine.types import ChainId

    _Teller = Callable[[int, int], None]
    _Entries = Iterator[tuple[TarEntry, TarReader]]

_MAGIC_BYTES = 6
_MOST_IMAGES = 4
_MOST_HARD_LINKS = 8
"""One is what tars have; a hostile one can have a circle."""
_SECONDS_BETWEEN = 0.1
_WHITEOUT_PREFIX = ".wh."
_OPAQUE_NAME = ".wh..wh..opq"
_Result = TypeVar("_Result")
_KINDS = {
    TarKind.FILE: FileKind.FILE,
    TarKind.DIRECTORY: FileKind.DIRECTORY,
    TarKind.SYMLINK: FileKind.SYMLINK,
    TarKind.HARD_LINK: FileKind.HARD_LINK,
    TarKind.CHARACTER_DEVICE: FileKind.CHARACTER_DEVICE,
    TarKind.BLOCK_DEVICE: FileKind.BLOCK_DEVICE,
    TarKind.FIFO: FileKind.FIFO,
}


class BlobReading(Protocol):
    """A blob while it is read."""

    def read(self, size: int, /) -> bytes:
        """At least one byte; empty at the end."""


class ImagePeeker:
    """Looks at images in registries."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        blobs: BlobStore,
        connect: SourceMaker,
        layers: LayerCache,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._connect = connect
        self._limits = config.layer_limits
        self._layers = layers
        self._images: dict[tuple[str, str], ImageInRegistry] = {}
        """By repository and the manifest's digest: what was looked into last is at the end."""

    async def peek(self, name: Reference, platform: Platform) -> RemoteImage:
        """What an image is made of; fetches manifest and config.

        Raises:
            RegistryError: The registry does not have it or does not give it.
            ArchiveError: It is no image that can be used here.
        """
        async with self._connected() as (source, calls):
            image = await calls.run(lambda: self._read_image(source, name, platform))
        present = await self._records.layer_chain_ids()
        return RemoteImage(
            name=name.familiar_name,
            digest=image.manifest_digest,
            image_id=image.image_id,
            platform=str(image.document.platform),
            created_at=parse_time(image.document.created),
            author=image.document.author or "",
            config=container_config(image.document),
            layers=_steps(image, present),
            size_bytes=sum(layer.blob.size_bytes for layer in image.layers),
            config_json=indented(image.config),
            platforms=image.platforms,
        )

    async def list_layer_files(
        self, name: Reference, position: int, platform: Platform, *, progress: ProgressListener
    ) -> FileTree:
        """The files of one history step; fetches that layer alone, unless it was looked into last.

        Raises:
            ImageNotFoundError: There is no such step.
            DigestMismatchError: The layer is not what the manifest says.
        """
        tell = _telling(progress)
        async with self._connected() as (source, calls):

            def look() -> FileTree:
                step = self._find_step(source, name, position, platform)
                files: dict[str, FileEntry] = {}

                def take(entries: _Entries) -> None:
                    files.clear()
                    for entry, _reader in entries:
                        found = _file_entry(entry)
                        if found is not None:
                            files[found.path] = found

                if step.layer is not None:
                    self._go_through(source, name, step.layer, tell, take)
                ordered = sorted(files.values(), key=lambda one: one.path.split("/"))
                return FileTree(
                    title=step.title,
                    entries=tuple(ordered),
                    size_bytes=sum(one.size_bytes for one in ordered),
                )

            return await calls.run(look)

    async def read_file(
        self,
        name: Reference,
        position: int,
        path: str,
        platform: Platform,
        *,
        progress: ProgressListener,
    ) -> FileContent:
        """The beginning of a file of one history step; fetches all of that layer, as above.

        Raises:
            ImageNotFoundError: There is no such step.
            FileNotInLayerError: The layer does not have it.
            InvalidInputError: It is no file.
            DigestMismatchError: The layer is not what the manifest says.
        """
        tell = _telling(progress)
        async with self._connected() as (source, calls):

            def look() -> FileContent:
                step = self._find_step(source, name, position, platform)
                label = f"{name.familiar_name} (step {position})"
                missing = FileNotInLayerError(
                    path,
                    label,
                    hint=f"`lamella peek --files {position} {name.familiar_name}` lists what the "
                    "step has",
                )
                if step.layer is None:
                    raise missing
                wanted = view_path(path)
                for _name in range(_MOST_HARD_LINKS):
                    found = self._find(source, name, step.layer, wanted, tell)
                    if found is None:
                        raise missing
                    entry, content = found
                    if entry.kind is FileKind.FILE:
                        return FileContent(
                            path=view_path(path), size_bytes=entry.size_bytes, content=content
                        )
                    if entry.kind is not FileKind.HARD_LINK:
                        raise not_viewable_error(entry.path, entry.kind, entry.link_target)
                    wanted = view_path(entry.link_target)
                raise missing

            return await calls.run(look)

    def _read_image(
        self, source: ImageSource, name: Reference, platform: Platform
    ) -> ImageInRegistry:
        """What describes an image; asks for nothing where that is known for good."""
        key = (name.familiar_repository, name.digest or "")
        known = self._images.pop(key, None)
        if known is None or platform_rank(known.document.platform, platform) is None:
            known = read_image(source, name, platform)
        self._images[known.name.familiar_repository, known.manifest_digest] = known
        while len(self._images) > _MOST_IMAGES:
            self._images.pop(next(iter(self._images)), None)
        return known

    def _find_step(
        self, source: ImageSource, name: Reference, position: int, platform: Platform
    ) -> _Step:
        image = self._read_image(source, name, platform)
        steps = _steps(image, frozenset())
        if not 0 <= position < len(steps):
            raise ImageNotFoundError(f"{name.familiar_name} (step {position})")
        step = steps[position]
        number = sum(not below.is_empty for below in steps[:position])
        return _Step(title=step.created_by, layer=None if step.is_empty else image.layers[number])

    def _find(
        self, source: ImageSource, name: Reference, layer: PullLayer, wanted: str, tell: _Teller
    ) -> tuple[FileEntry, bytes] | None:
        """What a layer has at a path, the last where it has several, and how a file begins."""

        def take(entries: _Entries) -> tuple[FileEntry, bytes] | None:
            found = None
            for entry, reader in entries:
                one = _file_entry(entry)
                if one is not None and one.path == wanted:
                    found = one, _beginning(entry, reader)
            return found

        return self._go_through(source, name, layer, tell, take)

    def _go_through(
        self,
        source: ImageSource,
        name: Reference,
        layer: PullLayer,
        tell: _Teller,
        take: Callable[[_Entries], _Result],
    ) -> _Result:
        """Give every entry of a layer to `take`, which takes them all; maybe twice."""
        label = f"{name.familiar_name} (layer {layer.blob.digest[:19]})"
        digest = layer.blob.digest
        kept = self._open_kept(digest)
        if kept is not None:
            try:
                with kept:
                    return take(self._entries(kept, layer, label, tell, _ignore_piece))
            except ArchiveError:
                # It was damaged here: the registry has it as well.
                self._layers.drop(digest)
        with (
            source.open_blob(name, layer.descriptor) as stream,
            self._layers.copy(digest, layer.blob.size_bytes) as copy,
        ):
            result = take(self._entries(stream, layer, label, tell, copy.write))
            copy.finish()
            return result

    def _open_kept(self, digest: str) -> KeptLayer | None:
        """A layer that was looked into, or that was pulled."""
        kept = self._layers.open(digest)
        if kept is None:
            with contextlib.suppress(StoreError, InvalidInputError):
                kept = KeptLayer(self._blobs.open(digest))
        return kept

    def _entries(
        self,
        stream: BlobReading,
        layer: PullLayer,
        label: str,
        tell: _Teller,
        keep: Callable[[bytes], None],
    ) -> _Entries:
        """Every entry of a layer; who takes them all hears whether it is what was promised."""
        hashed = hashlib.sha256()
        taken = 0
        limits = TarLimits(entries=self._limits.entries, content_bytes=self._limits.unpacked_bytes)

        def pieces(first: bytes) -> Iterator[bytes]:
            nonlocal taken
            piece = first
            while piece:
                hashed.update(piece)
                keep(piece)
                taken += len(piece)
                tell(taken, layer.blob.size_bytes)
                yield piece
                piece = stream.read(CHUNK_BYTES)

        first = b""
        while len(first) < _MAGIC_BYTES and (piece := stream.read(CHUNK_BYTES)):
            first += piece
        chunks = _Chunks(
            decompress(
                pieces(first),
                first[:_MAGIC_BYTES],
                label,
                window_bytes=self._limits.window_bytes,
            ),
            label=label,
            maximum_bytes=self._limits.unpacked_bytes,
        )
        reader = TarReader(chunks, label=label, limits=limits)
        for entry in reader:
            yield entry, reader
        chunks.drain()
        actual = f"sha256:{hashed.hexdigest()}"
        if actual != layer.blob.digest:
            raise DigestMismatchError(label, expected=layer.blob.digest, actual=actual)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[ImageSource, BlockingCalls]]:
        source = await asyncio.to_thread(self._connect)
        with (
            contextlib.closing(source),
            BlockingCalls("peek", thread_count=1, end=source.cancel) as calls,
        ):
            yield source, calls


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A history step that somebody looks into."""

    title: str
    layer: PullLayer | None
    """None for one that changed only the config."""


def _ignore_piece(_piece: bytes) -> None:
    """Keep nothing: it is kept."""


def _telling(progress: ProgressListener) -> _Teller:
    """Pass on, from a thread, how much of a layer has come; made on the engine's loop."""
    loop = asyncio.get_running_loop()
    told_at = 0.0

    def tell(done_bytes: int, total_bytes: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _SECONDS_BETWEEN:
            told_at = now
            newest = Progress(
                step="Fetching the layer", done=done_bytes, total=total_bytes, unit="bytes"
            )
            loop.call_soon_threadsafe(progress, newest)

    return tell


def _beginning(entry: TarEntry, reader: TarReader) -> bytes:
    """How the current entry's file begins, with zeros for its holes."""
    size = min(entry.size, MAXIMUM_VIEWED_BYTES)
    segments = ((0, entry.data_bytes),) if entry.segments is None else entry.segments
    content = bytearray(size)
    pieces = reader.pieces()
    piece = b""
    for offset, length in segments:
        left = length
        position = offset
        while left and position < size:
            piece = piece or next(pieces, b"")
            if not piece:
                break
            part = piece[:left]
            shown = part[: size - position]
            content[position : position + len(shown)] = shown
            position += len(part)
            left -= len(part)
            piece = piece[len(part) :]
        if offset >= size:
            break
    return bytes(content)


def _steps(image: ImageInRegistry, present: frozenset[ChainId]) -> tuple[RemoteLayer, ...]:
    """The history with the layers that it made; not believed where their numbers differ."""
    history = image.document.history or ()
    if sum(not step.empty_layer for step in history) != len(image.layers):
        history = tuple(HistoryDocument(created=image.document.created) for _ in image.layers)
    remaining = iter(image.layers)
    steps: list[RemoteLayer] = []
    for position, step in enumerate(history):
        layer = None if step.empty_layer else next(remaining)
        steps.append(
            RemoteLayer(
                position=position,
                created_by=step.created_by or "",
                created_at=parse_time(step.created),
                comment=step.comment or "",
                is_empty=layer is None,
                diff_id=layer.diff_id if layer else None,
                digest=layer.blob.digest if layer else None,
                size_bytes=layer.blob.size_bytes if layer else 0,
                is_present=layer is not None and layer.chain_id in present,
            )
        )
    return tuple(steps)


def _file_entry(entry: TarEntry) -> FileEntry | None:
    """One path as the layer has it; nothing is known of the layers below."""
    path = view_path(os.fsdecode(entry.name))
    parent, _, name = path.rpartition("/")
    if not path or name == _OPAQUE_NAME:
        return None
    kind, change = _KINDS[entry.kind], ChangeKind.ADDED
    if name.startswith(_WHITEOUT_PREFIX):
        hidden = name.removeprefix(_WHITEOUT_PREFIX)
        path = f"{parent}/{hidden}" if parent else hidden
        kind, change = FileKind.WHITEOUT, ChangeKind.REMOVED
    return FileEntry(
        path=path,
        kind=kind,
        mode=entry.mode,
        user_id=entry.user_id,
        group_id=entry.group_id,
        size_bytes=entry.size if kind is FileKind.FILE else 0,
        modified_at=entry.mtime_ns / 1e9,
        link_target=os.fsdecode(entry.link),
        change=change,
    )


class _Chunks:
    """A ByteSource over chunks that are made while it is read."""

    def __init__(self, chunks: Iterator[bytes], *, label: str, maximum_bytes: int) -> None:
        self._chunks = chunks
        self._label = label
        self._maximum_bytes = maximum_bytes
        self._given_bytes = 0
        self._chunk = b""
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """As ByteSource."""
        if self._position >= len(self._chunk):
            self._chunk, self._position = self._next(), 0
        piece = self._chunk[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def skip(self, size: int, /) -> int:
        """As ByteSource."""
        left = size
        while left and (piece := self.read(left)):
            left -= len(piece)
        return size - left

    def drain(self) -> None:
        """Read what is left, to its end."""
        while self._next():
            pass

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._given_bytes += len(chunk)
        if self._given_bytes > self._maximum_bytes:
            raise too_large_error(self._label, self._maximum_bytes)
        return chunk
