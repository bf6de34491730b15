"""The archives of the fake engine: a file that says which images it holds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ArchiveError, CopyRefusedError, InvalidInputError
from engine.events import EventSubject
from engine.images.instructions import apply_changes
from engine.oci.documents import ConfigSection
from engine.oci.platforms import host_platform, parse_platform
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    ArchiveFormat,
    Compression,
    ImageConfig,
    ImageId,
    ImportedImage,
    SavedArchive,
    SaveOptions,
)
from tests.fake_images import FakeImages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.types import ImportRequest

_TAR_MAGIC = b"ustar"


class FakeArchives(FakeImages):
    async def save_images(
        self,
        references: Sequence[str],
        target: Path | int,
        *,
        options: SaveOptions = SaveOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> SavedArchive:
        is_directory = options.format is ArchiveFormat.OCI_DIRECTORY
        if is_directory and options.archive_compression is not Compression.NONE:
            raise InvalidInputError("a directory cannot be compressed as a whole")
        images = [self._find_image(reference) for reference in references]
        for image, reference in zip(images, references, strict=True):
            self._require_platform(image, reference, options.platform)
        await self._note("save", " ".join(references))
        progress(Progress(step="Saving", done=1, total=2, unit="bytes"))
        content = "\n".join(references).encode()
        try:
            if isinstance(target, int):
                os.write(target, content)
            elif is_directory:
                if target.is_dir() and any(target.iterdir()):
                    raise CopyRefusedError(f"cannot write {target}: the directory is not empty")
                target.mkdir(exist_ok=True)
                (target / "oci-layout").write_bytes(content)
            else:
                target.write_bytes(content)
        except OSError as error:
            raise CopyRefusedError(f"cannot write {target}: {error.strerror}") from None
        image_ids = tuple(dict.fromkeys(image.summary.image_id for image in images))
        return SavedArchive(
            image_ids=image_ids,
            layer_count=sum(image.summary.layer_count for image in images),
            size_bytes=len(content),
        )

    async def import_image(
        self,
        source: Path | int,
        request: ImportRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> ImportedImage:
        name = parse_reference(request.name).familiar_name if request.name else None
        platform = parse_platform(request.platform) if request.platform else host_platform()
        if platform.os != "linux":
            raise InvalidInputError(f"operating system is not supported: {platform.os}")
        section = apply_changes(ConfigSection(), request.changes)
        label = str(source) if isinstance(source, Path) else "the standard input"
        try:
            content = source.read_bytes() if isinstance(source, Path) else os.read(source, 1 << 20)
        except OSError as error:
            raise ArchiveError(label, error.strerror or "") from None
        if content[257:262] != _TAR_MAGIC:
            raise ArchiveError(label, "it is not a tar")
        progress(Progress(step="Importing", done=1, unit="bytes"))
        await self._note("import", request.name or "")
        image_id = self.add_image(name or "", steps=(("", len(content)),))
        made = self.images[image_id]
        step = replace(made.layers[0], comment=request.message or f"Imported from {label}")
        command = section.cmd
        self.images[image_id] = replace(
            made,
            architecture=platform.architecture,
            layers=(step,),
            config=ImageConfig(
                command=command if isinstance(command, tuple) else (),
                environment=section.env or (),
            ),
        )
        self._emit(EventSubject.IMAGE, "import", image_id, name or "")
        return ImportedImage(
            image_id=ImageId(image_id), name=name, size_bytes=len(content), entry_count=1
        )
