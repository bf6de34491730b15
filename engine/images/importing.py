"""Importing a root filesystem: a tar becomes an image of one layer.

Config, history and the comment are what `docker import` makes (moby
daemon/containerd/image_import.go).
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import TYPE_CHECKING

import msgspec

from engine.errors import ArchiveError, InvalidInputError
from engine.images.archive import StagedLayer
from engine.images.archive_documents import LayerIdentity, NewImage
from engine.images.commits import sync_staging
from engine.images.instructions import apply_changes
from engine.oci.digests import digest_of
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    ConfigSection,
    Descriptor,
    HistoryDocument,
    ImageDocument,
    Manifest,
    RootFsDocument,
    encode_document,
    format_time,
)
from engine.oci.platforms import host_platform, parse_platform
from engine.oci.reference import parse_reference
from engine.operations import Progress
from engine.snapshots.job_parts import JobProgress
from engine.snapshots.removal import engine_error
from engine.snapshots.tar_import import ImportArguments, ImportResult
from engine.types import ChainId, DiffId, ImageId, ImportedImage

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import LayerLimits
    from engine.images.archive import ImageCatalog
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.types import ImportRequest

_STEP = "Importing"


async def import_image(
    source: Path | int,
    request: ImportRequest,
    *,
    staging: Path,
    catalog: ImageCatalog,
    runner: JobRunner,
    limits: LayerLimits,
    uses_user_xattrs: bool,
    progress: ProgressListener,
) -> ImportedImage:
    """As EngineApi.import_image.

    Args:
        source: A path, or a descriptor that is read to its end.
        request: What the image looks like.
        staging: An empty directory of the store's.
        catalog: Where the image ends up.
        runner: Unpacks with the container's ids.
        limits: How much it may unpack to.
        uses_user_xattrs: Mark opaque directories by `user.` attributes.
        progress: Is told of the bytes that were read.
    """
    # Everything that can be refused is, before gigabytes were read.
    name = None
    if request.name is not None:
        parsed = parse_reference(request.name)
        if parsed.digest is not None:
            raise InvalidInputError(
                "an imported image cannot be given a digest", hint="Name it REPOSITORY[:TAG]"
            )
        name = parsed.familiar_name
    platform = parse_platform(request.platform) if request.platform else host_platform()
    if platform.os != "linux":
        raise InvalidInputError(
            f"operating system is not supported: {platform.os}",
            hint="Write the platform as linux/amd64 or linux/arm64/v8",
        )
    section = apply_changes(ConfigSection(), request.changes)
    label = "the standard input" if isinstance(source, int) else source.name
    arguments = ImportArguments(label=label, uses_user_xattrs=uses_user_xattrs, limits=limits)
    made = await _unpack(source, arguments, staging, runner, progress)
    progress(Progress(step="Writing to the disk"))
    await asyncio.to_thread(sync_staging, staging)
    created = format_time(time.time())
    config = encode_document(
        ImageDocument(
            created=created,
            architecture=platform.architecture,
            variant=platform.variant or None,
            os=platform.os,
            config=section,
            rootfs=RootFsDocument(type="layers", diff_ids=(made.diff_id,)),
            history=(
                HistoryDocument(
                    created=created,
                    comment=request.message
                    or f"Imported from {'-' if isinstance(source, int) else source.name}",
                ),
            ),
        )
    )
    image = _new_image(config, made, name)
    layer = StagedLayer(
        chain_id=ChainId(made.diff_id),
        parent_chain_id=None,
        diff_id=DiffId(made.diff_id),
        size_bytes=made.size_bytes,
        entry_count=made.entry_count,
        directory=staging / "layer",
        warnings=made.warnings,
    )
    present = await catalog.find_layers((layer.chain_id,))
    await catalog.publish((image,), () if present else (layer,))
    return ImportedImage(
        image_id=image.image_id,
        name=name,
        size_bytes=made.size_bytes,
        entry_count=made.entry_count,
        warnings=made.warnings,
    )


def _new_image(config: bytes, made: ImportResult, name: str | None) -> NewImage:
    manifest = encode_document(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
            layers=(Descriptor(media_type=OCI_LAYER, digest=made.diff_id, size=made.tar_bytes),),
        )
    )
    return NewImage(
        image_id=ImageId(digest_of(config)),
        manifest_digest=digest_of(manifest),
        names=() if name is None else (name,),
        config=config,
        manifest=manifest,
        layers=(LayerIdentity(chain_id=ChainId(made.diff_id), diff_id=DiffId(made.diff_id)),),
    )


async def _unpack(
    source: Path | int,
    arguments: ImportArguments,
    staging: Path,
    runner: JobRunner,
    progress: ProgressListener,
) -> ImportResult:
    directory = staging / "layer"
    total = 0
    descriptor = source if isinstance(source, int) else _open_source(source)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            total = status.st_size
        progress(Progress(step=_STEP, total=total or None, unit="bytes"))

        def on_progress(message: bytes) -> None:
            done = msgspec.json.decode(message, type=JobProgress).done
            progress(Progress(step=_STEP, done=done, total=total or None, unit="bytes"))

        try:
            directory.mkdir(mode=0o700)
            target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise engine_error(error, str(directory)) from error
        try:
            result = await runner.run_job(
                "import-layer",
                msgspec.json.encode(arguments),
                descriptors=(descriptor, target),
                on_progress=on_progress,
            )
        finally:
            os.close(target)
    finally:
        if not isinstance(source, int):
            os.close(descriptor)
    return msgspec.json.decode(result, type=ImportResult)


def _open_source(path: Path) -> int:
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would hold up everything.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArchiveError(
            str(path), os.strerror(error.errno or 5), hint="Give the path of a tar archive"
        ) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError(
            str(path), "it is a directory", hint=f"`tar c -C {path} . | lamella import -`"
        )
    os.set_blocking(descriptor, True)
    return descriptor
