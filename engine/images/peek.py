"""Looking at images that are in a registry, without pulling them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from engine.errors import DigestMismatchError, ImageNotFoundError
from engine.images.blocking import BlockingCalls
from engine.images.documents import container_config, indented
from engine.images.remote import read_image
from engine.oci.documents import HistoryDocument, parse_time
from engine.snapshots.streams import CHUNK_BYTES, decompress
from engine.snapshots.tar import TarEntry, TarKind, TarLimits, TarReader
from engine.types import (
    ChangeKind,
    FileEntry,
    FileKind,
    FileTree,
    RemoteImage,
    RemoteLayer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from engine.config import LayerLimits
    from engine.images.pull import SourceMaker
    from engine.images.remote import ImageInRegistry, ImageSource, PullLayer
    from engine.oci.documents import Platform
    from engine.oci.reference import Reference
    from engine.store.image_records import ImageRecords
    from engine.types import ChainId

_MAGIC_BYTES = 6
_WHITEOUT_PREFIX = ".wh."
_OPAQUE_NAME = ".wh..wh..opq"
_KINDS = {
    TarKind.FILE: FileKind.FILE,
    TarKind.DIRECTORY: FileKind.DIRECTORY,
    TarKind.SYMLINK: FileKind.SYMLINK,
    TarKind.HARD_LINK: FileKind.HARD_LINK,
    TarKind.CHARACTER_DEVICE: FileKind.CHARACTER_DEVICE,
    TarKind.BLOCK_DEVICE: FileKind.BLOCK_DEVICE,
    TarKind.FIFO: FileKind.FIFO,
}


class ImagePeeker:
    """Looks at images in registries."""

    def __init__(self, *, records: ImageRecords, connect: SourceMaker, limits: LayerLimits) -> None:
        self._records = records
        self._connect = connect
        self._limits = limits

    async def peek(self, name: Reference, platform: Platform) -> RemoteImage:
        """What an image is made of; fetches manifest and config.

        Raises:
            RegistryError: The registry does not have it or does not give it.
            ArchiveError: It is no image that can be used here.
        """
        async with self._connected() as (source, calls):
            image = await calls.run(lambda: read_image(source, name, platform))
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
        )

    async def list_layer_files(
        self, name: Reference, position: int, platform: Platform
    ) -> FileTree:
        """The files of one history step; fetches that layer alone, and keeps nothing of it.

        Raises:
            ImageNotFoundError: There is no such step.
            DigestMismatchError: The layer is not what the manifest says.
        """
        async with self._connected() as (source, calls):

            def look() -> FileTree:
                image = read_image(source, name, platform)
                steps = _steps(image, frozenset())
                if not 0 <= position < len(steps):
                    raise ImageNotFoundError(f"{name.familiar_name} (step {position})")
                step = steps[position]
                if step.is_empty:
                    return FileTree(title=step.created_by, entries=(), size_bytes=0)
                number = sum(not below.is_empty for below in steps[:position])
                return self._read(source, name, image.layers[number], step.created_by)

            return await calls.run(look)

    def _read(self, source: ImageSource, name: Reference, layer: PullLayer, title: str) -> FileTree:
        label = f"{name.familiar_name} (layer {layer.blob.digest[:19]})"
        hashed = hashlib.sha256()
        files: dict[str, FileEntry] = {}
        limits = TarLimits(entries=self._limits.entries, content_bytes=self._limits.unpacked_bytes)
        with source.open_blob(name, layer.descriptor) as stream:

            def pieces(first: bytes) -> Iterator[bytes]:
                piece = first
                while piece:
                    hashed.update(piece)
                    yield piece
                    piece = stream.read(CHUNK_BYTES)

            first = b""
            while len(first) < _MAGIC_BYTES and (piece := stream.read(CHUNK_BYTES)):
                first += piece
            chunks = _Chunks(decompress(pieces(first), first[:_MAGIC_BYTES], label))
            for entry in TarReader(chunks, label=label, limits=limits):
                found = _file_entry(entry)
                if found is not None:
                    files[found.path] = found
            chunks.drain()
        actual = f"sha256:{hashed.hexdigest()}"
        if actual != layer.blob.digest:
            raise DigestMismatchError(label, expected=layer.blob.digest, actual=actual)
        ordered = sorted(files.values(), key=lambda one: one.path.split("/"))
        return FileTree(
            title=title,
            entries=tuple(ordered),
            size_bytes=sum(one.size_bytes for one in ordered),
        )

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[ImageSource, BlockingCalls]]:
        source = await asyncio.to_thread(self._connect)
        with (
            contextlib.closing(source),
            BlockingCalls("peek", thread_count=1, end=source.cancel) as calls,
        ):
            yield source, calls


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
    path = os.path.normpath("/" + os.fsdecode(entry.name)).lstrip("/")
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

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._next: Callable[[], bytes] = lambda: next(chunks, b"")
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
