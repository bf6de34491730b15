"""What the fake engine makes of its containers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.state_table import Operation
from engine.events import EventSubject
from engine.images.instructions import apply_changes
from engine.images.oci import ConfigSection
from engine.images.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    ChainId,
    CommittedImage,
    DiffId,
    FileTree,
    LayerSummary,
)
from tests.fake_containers import FakeContainers
from tests.fake_world import NOW, file_entry

if TYPE_CHECKING:
    from engine.types import CommitRequest


class FakeCopies(FakeContainers):
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

    def _take_name(self, name: str) -> None:
        """A name belongs to one image: the last that got it."""
        for image_id, image in self.images.items():
            if name in image.summary.names:
                names = tuple(other for other in image.summary.names if other != name)
                self.images[image_id] = replace(image, summary=replace(image.summary, names=names))
