"""The images of the fake engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import ImageInUseError, ImageNotFoundError, InvalidReferenceError
from engine.events import EventSubject
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    ChainId,
    DiffId,
    Digest,
    FileEntry,
    FileTree,
    ImageConfig,
    ImageDetails,
    ImageId,
    ImageSummary,
    LayerSummary,
    LoadedImage,
    RemovedImage,
)
from tests.fake_world import NOW, FakeWorld

if TYPE_CHECKING:
    from pathlib import Path

STARTER = "starter:latest"


class FakeImages(FakeWorld):
    def __init__(self) -> None:
        super().__init__()
        self.images: dict[ImageId, ImageDetails] = {}
        self.load_warnings: tuple[str, ...] = ()
        self.trees: dict[tuple[ImageId, int], FileTree] = {}

    def add_image(
        self,
        name: str,
        *,
        steps: tuple[tuple[str, int], ...] = (("COPY rootfs /", 117_000_000),),
        files: tuple[FileEntry, ...] = (),
        labels: tuple[tuple[str, str], ...] = (),
    ) -> ImageId:
        """Add an image; `files` are those of its topmost layer."""
        image_id = ImageId(f"sha256:{self._new_hexadecimal()}")
        layers = tuple(
            LayerSummary(
                position=position,
                created_by=text,
                created_at=NOW,
                comment="",
                is_empty=size_bytes == 0,
                diff_id=DiffId(f"sha256:{100 + position:064x}") if size_bytes else None,
                chain_id=ChainId(f"sha256:{200 + position:064x}") if size_bytes else None,
                size_bytes=size_bytes,
                entry_count=len(files),
                shared_image_count=2 if position == 0 else 1,
            )
            for position, (text, size_bytes) in enumerate(steps)
        )
        summary = ImageSummary(
            image_id=image_id,
            names=(name,) if name else (),
            created_at=NOW,
            size_bytes=sum(layer.size_bytes for layer in layers),
            layer_count=len(layers),
            container_count=0,
            digest=Digest(image_id),
            labels=labels,
        )
        self.images[image_id] = ImageDetails(
            summary=summary,
            digest=Digest(image_id),
            operating_system="linux",
            architecture="amd64",
            author="",
            config=ImageConfig(command=("sh",), labels=labels),
            layers=layers,
            config_json='{\n  "os": "linux"\n}',
        )
        top = next((layer for layer in reversed(layers) if not layer.is_empty), None)
        if top is not None:
            self.trees[image_id, top.position] = FileTree(
                title=name, entries=files, size_bytes=top.size_bytes
            )
        return image_id

    def _find_image(self, reference: str) -> ImageDetails:
        for image in self.images.values():
            if reference in (*image.summary.names, image.summary.image_id):
                return image
        raise ImageNotFoundError(reference)

    def _users_of(self, image_id: ImageId) -> tuple[str, ...]:
        """Names of the containers of an image."""
        raise NotImplementedError

    # --- EngineApi ----------------------------------------------------------------------------

    async def list_images(self) -> tuple[ImageSummary, ...]:
        return tuple(image.summary for image in self.images.values())

    async def inspect_image(self, reference: str) -> ImageDetails:
        return self._find_image(reference)

    async def load_images(
        self, archive: Path, *, progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        progress(Progress(step="Unpacking layer 1 of 1", done=1, total=2, unit="bytes"))
        await self._note("load", str(archive))
        return (replace(self._add_loaded("loaded:latest"), warnings=self.load_warnings),)

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        progress(Progress(step="Collecting programs"))
        await self._note("starter", "")
        return self._add_loaded(STARTER)

    def _add_loaded(self, name: str) -> LoadedImage:
        for image in self.images.values():
            if name in image.summary.names:
                return LoadedImage(image_id=image.summary.image_id, names=(name,), was_present=True)
        image_id = self.add_image(name)
        self._emit(EventSubject.IMAGE, "load", image_id, name)
        return LoadedImage(image_id=image_id, names=(name,), was_present=False)

    async def tag_image(self, source: str, target: str) -> None:
        await self._note("tag", f"{source} {target}")
        image_id = self._find_image(source).summary.image_id
        parsed = parse_reference(target)
        if parsed.digest is not None:
            raise InvalidReferenceError(target, "a name that is given cannot have a digest")
        name = parsed.familiar_name
        for image in tuple(self.images.values()):
            self._rename(image, tuple(one for one in image.summary.names if one != name))
        image = self.images[image_id]
        self._rename(image, (*image.summary.names, name))
        self._emit(EventSubject.IMAGE, "tag", image_id, name)

    def _rename(self, image: ImageDetails, names: tuple[str, ...]) -> None:
        summary = replace(image.summary, names=names)
        self.images[summary.image_id] = replace(image, summary=summary)

    async def remove_image(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        await self._note("remove-image", reference)
        image = self._find_image(reference)
        summary = image.summary
        if reference in summary.names and len(summary.names) > 1:
            self._rename(image, tuple(one for one in summary.names if one != reference))
            self._emit(EventSubject.IMAGE, "untag", summary.image_id, reference)
            return RemovedImage(untagged=(reference,), deleted=(), freed_bytes=0)
        users = self._users_of(summary.image_id)
        if users and not is_forced:
            raise ImageInUseError(reference, users=users, hint="Remove the containers first")
        del self.images[summary.image_id]
        self._emit(EventSubject.IMAGE, "delete", summary.image_id, reference)
        return RemovedImage(untagged=summary.names, deleted=(summary.image_id,), freed_bytes=1000)

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        image_id = self._find_image(image_reference).summary.image_id
        empty = FileTree(title="", entries=(), size_bytes=0)
        return self.trees.get((image_id, position), empty)
