"""The images of the fake engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import (
    FileNotInLayerError,
    ImageForPlatformNotFoundError,
    ImageInUseError,
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
)
from engine.events import EventSubject
from engine.oci.platforms import parse_platform, wanted_platform
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    MAXIMUM_VIEWED_BYTES,
    ChainId,
    ChangeKind,
    DiffId,
    Digest,
    FileContent,
    FileEntry,
    FileKind,
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
STARTER_FILES = tuple(
    FileEntry(
        path=path,
        kind=kind,
        mode=0o755,
        user_id=0,
        group_id=0,
        size_bytes=size_bytes,
        modified_at=NOW,
        link_target="",
        change=ChangeKind.ADDED,
    )
    for path, kind, size_bytes in (
        ("etc", FileKind.DIRECTORY, 0),
        ("etc/motd", FileKind.FILE, len(b"fake\n")),
    )
)


class FakeImages(FakeWorld):
    def __init__(self) -> None:
        super().__init__()
        self.images: dict[ImageId, ImageDetails] = {}
        self.load_warnings: tuple[str, ...] = ()
        self.trees: dict[tuple[ImageId, int], FileTree] = {}
        self.file_contents: dict[str, bytes] = {}
        """What files of layers hold, by path, in place of the usual."""

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
            platform="linux/amd64",
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
        self, archive: Path, *, platform: str = "", progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        wanted_platform(platform)
        progress(Progress(step="Unpacking layer 1 of 1", done=1, total=2, unit="bytes"))
        await self._note("load", f"{archive} {platform}".strip())
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
        image_id = self.add_image(name, files=STARTER_FILES)
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

    async def remove_image(
        self, reference: str, *, is_forced: bool = False, keeps_parents: bool = False
    ) -> RemovedImage:
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
        parents = () if keeps_parents else self._untagged_parents(image)
        for parent in parents:
            del self.images[parent]
            self._emit(EventSubject.IMAGE, "delete", parent, "")
        return RemovedImage(
            untagged=summary.names, deleted=(summary.image_id, *parents), freed_bytes=1000
        )

    def _untagged_parents(self, image: ImageDetails) -> tuple[ImageId, ...]:
        """What is below an image that is gone, has no name, and nothing else needs."""

        def stack(one: ImageDetails) -> tuple[ChainId | None, ...]:
            return tuple(layer.chain_id for layer in one.layers if not layer.is_empty)

        own = stack(image)
        found: list[ImageDetails] = []
        for one in sorted(self.images.values(), key=lambda other: -len(stack(other))):
            chain = stack(one)
            is_below = len(chain) < len(own) and own[: len(chain)] == chain
            is_needed = bool(one.summary.names or self._users_of(one.summary.image_id)) or any(
                stack(other)[: len(chain)] == chain
                for other in self.images.values()
                if other is not one and other not in found
            )
            if chain and is_below and not is_needed:
                found.append(one)
        return tuple(one.summary.image_id for one in found)

    def _require_platform(self, image: ImageDetails, reference: str, platform: str) -> None:
        if platform and parse_platform(platform).architecture != image.architecture:
            raise ImageForPlatformNotFoundError(reference, platform=platform)

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        image = self._find_image(image_reference)
        image_id = image.summary.image_id
        if not 0 <= position < len(image.layers):
            raise ImageNotFoundError(f"{image_reference} (step {position})")
        empty = FileTree(title="", entries=(), size_bytes=0)
        return self.trees.get((image_id, position), empty)

    async def read_layer_file(self, image_reference: str, position: int, path: str) -> FileContent:
        label = f"{image_reference} (step {position})"
        await self._note("read-layer", f"{image_reference} {position} {path}")
        tree = await self.list_layer_files(image_reference, position)
        return self._read(tree, path, label)

    def _read(self, tree: FileTree, path: str, label: str) -> FileContent:
        entry = next((one for one in tree.entries if one.path == path.strip("/")), None)
        if entry is None:
            raise FileNotInLayerError(path, label, hint="")
        if entry.kind not in {FileKind.FILE, FileKind.HARD_LINK}:
            raise InvalidInputError(f"{entry.path} is no file: {entry.kind.value}")
        content = self.file_contents.get(entry.path, b"fake\n")
        return FileContent(
            path=entry.path, size_bytes=len(content), content=content[:MAXIMUM_VIEWED_BYTES]
        )
