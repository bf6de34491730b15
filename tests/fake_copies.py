"""What the fake engine makes of its containers."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.containers.state_table import Operation
from engine.errors import CopyRefusedError, FileNotInContainerError
from engine.events import EventSubject
from engine.images.instructions import apply_changes
from engine.oci.documents import ConfigSection
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.snapshots.tar_writer import TarEntry, TarWriter
from engine.types import (
    ChainId,
    CommittedImage,
    CopyOptions,
    CopyResult,
    DiffId,
    FileTree,
    LayerSummary,
)
from tests.fake_containers import FakeContainers
from tests.fake_world import NOW, file_entry

if TYPE_CHECKING:
    from engine.types import CommitRequest, ContainerId
    from tests.fake_containers import FakeContainer


class FakeCopies(FakeContainers):
    """Every container has one file, `/tmp/new`, and what was copied into it.

    Attributes:
        files: What was copied into containers, by container and path.
        copied_files: What was copied out of them, by path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[tuple[ContainerId, str], bytes] = {}
        self.copied_files: dict[str, bytes] = {}

    async def commit_container(
        self,
        reference: str,
        request: CommitRequest,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CommittedImage:
        container = self._find(reference)
        self._check(Operation.COMMIT, container)
        name = parse_reference(request.name).familiar_name if request.name else None
        apply_changes(ConfigSection(), request.changes)
        progress(Progress(step="Packing the writable layer"))
        await self._note("commit", reference)
        base = self._find_image(container.summary.image_id)
        image_id = self.add_image("")
        size_bytes = container.writable_bytes
        position = len(base.layers)
        layer = LayerSummary(
            position=position, created_by=" ".join(container.process.arguments), created_at=NOW,
            comment=request.message, is_empty=False, diff_id=DiffId(f"sha256:{7:064x}"),
            chain_id=ChainId(f"sha256:{self._new_hexadecimal()}"), size_bytes=size_bytes,
            entry_count=1, shared_image_count=1,
        )  # fmt: skip
        if name is not None:
            self._take_name(name)
        image = self.images[image_id]
        self.images[image_id] = replace(
            image,
            author=request.author,
            layers=(*base.layers, layer),
            summary=replace(
                image.summary,
                names=() if name is None else (name,),
                size_bytes=base.summary.size_bytes + size_bytes,
                layer_count=base.summary.layer_count + 1,
            ),
        )
        entries = (file_entry("tmp/new", size_bytes=size_bytes),)
        self.trees[image_id, position] = FileTree(
            title=name or "", entries=entries, size_bytes=size_bytes
        )
        self._emit(EventSubject.IMAGE, "create", image_id, name or "")
        self._emit(
            EventSubject.CONTAINER,
            "commit",
            container.summary.container_id,
            container.summary.name,
            imageID=image_id,
            imageRef=name or "",
            comment=request.message,
        )
        return CommittedImage(
            image_id=image_id, name=name, size_bytes=size_bytes, entry_count=1, warnings=()
        )

    async def copy_from_container(
        self,
        reference: str,
        path: str,
        target: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        content = self._file(reference, path)
        progress(Progress(step=f"Copying {path}", unit="bytes"))
        await self._note("copy-from", f"{reference}:{path} {target}")
        name = path.rpartition("/")[2]
        is_into = target.endswith("/") or os.path.isdir(target)
        self.copied_files[f"{target.rstrip('/')}/{name}" if is_into else target] = content
        return CopyResult(size_bytes=len(content), entry_count=1)

    async def copy_to_container(
        self,
        reference: str,
        source: str,
        path: str,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        container = self._reachable(reference)
        try:
            content = Path(source).read_bytes()
        except FileNotFoundError:
            raise CopyRefusedError(f"lstat {source}: no such file or directory") from None
        await self._note("copy-to", f"{source} {reference}:{path}")
        name = Path(source).name
        self.files[container.summary.container_id, f"{path.rstrip('/')}/{name}"] = content
        return CopyResult(size_bytes=len(content), entry_count=1)

    async def archive_from_container(
        self,
        reference: str,
        path: str,
        descriptor: int,
        *,
        options: CopyOptions = CopyOptions(),
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        content = self._file(reference, path)
        await self._note("archive-from", f"{reference}:{path}")
        return self._write_archive(descriptor, {path.rpartition("/")[2]: content})

    async def extract_to_container(
        self,
        reference: str,
        descriptor: int,
        path: str,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        container = self._reachable(reference)
        await self._note("extract-to", f"{reference}:{path}")
        count = 0
        with (
            os.fdopen(os.dup(descriptor), "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*") as archive,
        ):
            for member in archive:
                if file := archive.extractfile(member):
                    where = (container.summary.container_id, f"{path.rstrip('/')}/{member.name}")
                    self.files[where] = file.read()
                    count += 1
        return CopyResult(size_bytes=0, entry_count=count)

    async def export_container(
        self,
        reference: str,
        descriptor: int,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> CopyResult:
        container = self._find(reference)
        self._check(Operation.EXPORT, container)
        await self._note("export", reference)
        files = {
            path.lstrip("/"): content
            for (owner, path), content in self._all_files(container).items()
            if owner == container.summary.container_id
        }
        return self._write_archive(descriptor, files)

    def _reachable(self, reference: str) -> FakeContainer:
        container = self._find(reference)
        self._check(Operation.COPY, container)
        return container

    def _all_files(self, container: FakeContainer) -> dict[tuple[ContainerId, str], bytes]:
        own = {(container.summary.container_id, "/tmp/new"): b"x\n"}
        return own | self.files

    def _file(self, reference: str, path: str) -> bytes:
        container = self._reachable(reference)
        content = self._all_files(container).get((container.summary.container_id, path))
        if content is None:
            raise FileNotInContainerError(path, reference)
        return content

    def _write_archive(self, descriptor: int, files: dict[str, bytes]) -> CopyResult:
        written = io.BytesIO()
        writer = TarWriter(written, modified_at=int(NOW))
        for path, content in sorted(files.items()):
            writer.add(TarEntry(path=path, mode=stat.S_IFREG | 0o644, content=content))
        writer.close()
        with os.fdopen(os.dup(descriptor), "wb") as target:
            target.write(written.getvalue())
        return CopyResult(size_bytes=len(written.getvalue()), entry_count=len(files))

    def _take_name(self, name: str) -> None:
        """A name belongs to one image: the last that got it."""
        for image_id, image in self.images.items():
            if name in image.summary.names:
                names = tuple(other for other in image.summary.names if other != name)
                self.images[image_id] = replace(image, summary=replace(image.summary, names=names))
