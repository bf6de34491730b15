"""Saving images: what is meant by each reference, and an archive that appears when it is whole."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING

import msgspec

from engine.errors import CopyRefusedError, ImageNotFoundError, InvalidInputError
from engine.errors import InvalidReferenceError as BadReferenceError
from engine.images.archive_writing import (
    SaveArguments,
    SavedImage,
    SavedLayer,
    SavedName,
    SaveResult,
)
from engine.images.catalog import layer_directory
from engine.images.documents import require_platform
from engine.late_dataclasses import dataclass
from engine.linux.files import descriptor_path, sync_file_system
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, carry_through
from engine.snapshots.job_parts import JobProgress
from engine.types import ArchiveFormat, Compression, ImageId, SavedArchive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.image_records import ImageRecord, ImageRecords
    from engine.types import SaveOptions

_STEP = "Saving"
# NFS and old FUSE file systems have none.
_NO_NAMELESS_FILES = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS))


class ImageSaver:
    """Saves images of one store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        blobs: BlobStore,
        runner: JobRunner,
        resolve: Callable[[str], Awaitable[ImageId]],
        keep: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        """Save from a store.

        Args:
            config: Where it is.
            records: Of its images.
            blobs: Of the store.
            runner: Writes the archive.
            resolve: Finds an image by whatever names it.
            keep: Keeps blobs and layers in the store, by their digests, until we are done.
        """
        self._config = config
        self._records = records
        self._blobs = blobs
        self._runner = runner
        self._resolve = resolve
        self._keep = keep

    async def save(
        self,
        references: Sequence[str],
        target: Path | int,
        options: SaveOptions,
        *,
        staging: Path,
        progress: ProgressListener,
    ) -> SavedArchive:
        """As EngineApi.save_images; `staging` is an empty directory of the store's."""
        if (
            options.format is ArchiveFormat.OCI_DIRECTORY
            and options.archive_compression is not Compression.NONE
        ):
            raise InvalidInputError(
                "a directory cannot be compressed as a whole",
                hint="Compress its layers, or write an archive",
            )
        images = await self._images(references, options.platform)
        output = await _opened(target, options.format)
        try:
            result = await self._write(images, output, options, staging, progress)
            # From here on it is whole: a cancellation comes after its name.
            await carry_through(asyncio.to_thread(output.finish))
        finally:
            await carry_through(asyncio.to_thread(output.drop))
        return SavedArchive(
            image_ids=tuple(ImageId(image_id) for image_id in result.image_ids),
            layer_count=result.layer_count,
            size_bytes=result.size_bytes,
            warnings=result.warnings,
        )

    async def _write(
        self,
        images: tuple[SavedImage, ...],
        output: _Output,
        options: SaveOptions,
        staging: Path,
        progress: ProgressListener,
    ) -> SaveResult:
        arguments = SaveArguments(
            label=output.label,
            images=images,
            format=options.format,
            layer_compression=options.layer_compression,
            archive_compression=options.archive_compression,
            can_seek=output.can_seek,
        )
        progress(Progress(step=_STEP))

        def on_progress(message: bytes) -> None:
            done = msgspec.json.decode(message, type=JobProgress)
            progress(Progress(step=_STEP, done=done.done, total=done.total or None, unit="bytes"))

        directory = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            result = await self._runner.run_job(
                "save-archive",
                msgspec.json.encode(arguments),
                descriptors=(output.descriptor, directory),
                on_progress=on_progress,
            )
        finally:
            os.close(directory)
        return msgspec.json.decode(result, type=SaveResult)

    # --- what is meant ------------------------------------------------------------------------

    async def _images(self, references: Sequence[str], platform: str) -> tuple[SavedImage, ...]:
        """Each image once, in the order of the references, with the names that were asked for."""
        names: dict[ImageId, list[str]] = {}
        for reference in references:
            for image_id, name in await self._meant(reference):
                known = names.setdefault(image_id, [])
                if name is not None and name not in known:
                    known.append(name)
        images = []
        for image_id, image_names in names.items():
            record = await self._records.find(image_id)
            if record is not None:
                await self._keep(_digests_of(record))
                # It may have gone before it was claimed; from now on it does not.
                record = await self._records.find(image_id)
            if record is None:
                raise ImageNotFoundError(image_id)
            require_platform(record.config, image_names[0] if image_names else image_id, platform)
            images.append(self._saved(record, image_names))
        return tuple(images)

    async def _meant(self, reference: str) -> list[tuple[ImageId, str | None]]:
        """An image with the name that was said, none for an id; a repository is all its tags."""
        try:
            parsed = parse_reference(reference)
        except BadReferenceError:
            return [(await self._resolve(reference), None)]
        if parsed.digest is not None:
            return [(await self._resolve(reference), None)]
        if not parsed.tag:
            beginning = f"{parsed.familiar_repository}:"
            found = {
                name: image.image_id
                for image in await self._records.list_images()
                for name in image.names
                if name.startswith(beginning)
            }
            if found:
                return [(found[name], name) for name in sorted(found)]
        image_id = await self._resolve(reference)
        has_name = parsed.familiar_name in await self._records.names_of(image_id)
        return [(image_id, parsed.familiar_name if has_name else None)]

    def _saved(self, record: ImageRecord, names: Sequence[str]) -> SavedImage:
        return SavedImage(
            config_path=str(self._blobs.path(record.image_id)),
            image_id=record.image_id,
            manifest_path=str(self._blobs.path(record.manifest_digest)),
            manifest_digest=record.manifest_digest,
            names=tuple(_saved_name(name) for name in names),
            layers=tuple(
                SavedLayer(
                    diff_id=part.layer.diff_id,
                    path=str(layer_directory(self._config, part.layer.chain_id)),
                    blob_path=self._kept(part.blob_digest),
                    blob_digest=part.blob_digest or "",
                    blob_media_type=part.blob_media_type,
                )
                for part in record.layers
            ),
        )

    def _kept(self, digest: str | None) -> str:
        return str(self._blobs.path(digest)) if digest and self._blobs.has(digest) else ""


def _digests_of(record: ImageRecord) -> tuple[str, ...]:
    blobs = (part.blob_digest for part in record.layers if part.blob_digest)
    chain_ids = (part.layer.chain_id for part in record.layers)
    return (record.image_id, record.manifest_digest, *chain_ids, *blobs)


def _saved_name(name: str) -> SavedName:
    parsed = parse_reference(name)
    return SavedName(
        familiar=parsed.familiar_name,
        canonical=parsed.canonical_name,
        repository=parsed.familiar_repository,
        tag=parsed.tag,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What is written to; a file or a directory gets its name when it is whole.

    Attributes:
        label: What errors call it.
        descriptor: Of what is written.
        can_seek: It is a new file.
        unfinished: Its name until then; None for a stream.
        target: Its name after that.
        is_ours: The descriptor is closed with it.
        is_nameless: The file has no name at all yet, so that a kill leaves nothing.
    """

    label: str
    descriptor: int
    can_seek: bool = False
    unfinished: Path | None = None
    target: Path | None = None
    is_ours: bool = True
    is_nameless: bool = False

    def finish(self) -> None:
        """Sync it and give it its name; blocking."""
        if self.unfinished is None or self.target is None:
            return
        try:
            if self.can_seek:
                os.fsync(self.descriptor)
                if self.is_nameless:
                    _link(self.descriptor, self.unfinished)
            else:
                sync_file_system(self.descriptor)
            self.unfinished.rename(self.target)
        except OSError as error:
            raise _refused(self.target, error) from None

    def drop(self) -> None:
        """Close it, and remove what has not got its name; blocking."""
        if self.is_ours:
            os.close(self.descriptor)
        if self.unfinished is None:
            return
        if self.can_seek:
            self.unfinished.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.unfinished, ignore_errors=True)


def _link(descriptor: int, path: Path) -> None:
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a directory's descriptor it is linkat(2), which follows to the file itself.
        os.link(descriptor_path(descriptor), path.name, dst_dir_fd=parent)
    finally:
        os.close(parent)


async def _opened(target: Path | int, archive_format: ArchiveFormat) -> _Output:
    opening = asyncio.ensure_future(asyncio.to_thread(_open_output, target, archive_format))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait((opening,))
        if opening.exception() is None:
            opening.result().drop()
        raise


def _open_output(target: Path | int, archive_format: ArchiveFormat) -> _Output:
    if isinstance(target, int):
        if archive_format is ArchiveFormat.OCI_DIRECTORY:
            raise InvalidInputError(
                "a directory cannot be written to a stream", hint="Name it with --output"
            )
        return _Output(label="the standard output", descriptor=target, is_ours=False)
    target = target.absolute()
    unfinished = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        if archive_format is ArchiveFormat.OCI_DIRECTORY:
            return _open_directory(target, unfinished)
        return _open_file(target, unfinished)
    except OSError as error:
        raise _refused(target, error) from None


def _open_directory(target: Path, unfinished: Path) -> _Output:
    if target.is_dir() and any(target.iterdir()):
        raise CopyRefusedError(
            f"cannot write {target}: the directory is not empty",
            hint="Name a directory that is empty or not there yet",
        )
    unfinished.mkdir(mode=0o755)
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return _Output(label=str(target), descriptor=descriptor, unfinished=unfinished, target=target)


def _open_file(target: Path, unfinished: Path) -> _Output:
    try:
        kind = stat.S_IFMT(target.stat().st_mode)
    except FileNotFoundError:
        kind = stat.S_IFREG
    if kind != stat.S_IFREG:
        # A device or a pipe is written into as it is; a pipe that nobody reads and a directory
        # refuse.
        descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(descriptor, True)
        return _Output(label=str(target), descriptor=descriptor)
    try:
        descriptor = os.open(target.parent, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        is_nameless = True
    except OSError as error:
        if error.errno not in _NO_NAMELESS_FILES:
            raise
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600)
        is_nameless = False
    return _Output(
        label=str(target),
        descriptor=descriptor,
        can_seek=True,
        unfinished=unfinished,
        target=target,
        is_nameless=is_nameless,
    )


def _refused(target: Path, error: OSError) -> CopyRefusedError:
    return CopyRefusedError(
        f"cannot write {target}: {(error.strerror or 'error').lower()}",
        hint="Name a file in a directory that exists and belongs to you",
    )
