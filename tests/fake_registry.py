"""What the fake engine brings from registries."""

from __future__ import annotations

from engine.errors import (
    FileNotInLayerError,
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
    RemoteImageNotFoundError,
)
from engine.events import EventSubject
from engine.oci.reference import parse_reference
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    MAXIMUM_VIEWED_BYTES,
    ChangeKind,
    DiffId,
    Digest,
    FileContent,
    FileEntry,
    FileKind,
    FileTree,
    ImageConfig,
    ImageId,
    LayerTransfer,
    PulledImage,
    PushedImage,
    RemoteImage,
    RemoteLayer,
    TransferListener,
    TransferStatus,
    ignore_transfers,
)
from tests.fake_images import FakeImages
from tests.fake_world import NOW

LAYER_DIGESTS = (Digest(f"sha256:{'a1' * 32}"), Digest(f"sha256:{'b2' * 32}"))


class FakeRegistries(FakeImages):
    """Registries hold the names in `remote_names`.

    Attributes:
        moving_layers: Told of a pull or push before the gate `layers`, in place of the usual ones.
        remote_content: What a file of a layer holds, by path, in place of the usual.
        remote_platforms: What there is to choose from, in place of what was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.remote_names: set[str] = set()
        self.remote_platforms: tuple[str, ...] = ()
        self.pull_warnings: tuple[str, ...] = ()
        self.moving_layers: tuple[LayerTransfer, ...] = ()
        self.remote_content: dict[str, bytes] = {}

    async def pull_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PulledImage:
        name = parse_reference(reference)
        await self._note("pull", f"{reference} {platform}".strip())
        known = name.familiar_name
        if known not in self.remote_names:
            raise RemoteImageNotFoundError(name.domain, known, "manifest unknown")
        before = self._image_named(known)
        await self._move_layers(progress)
        for digest in () if self.moving_layers else LAYER_DIGESTS:
            for status in (
                (TransferStatus.EXISTS,)
                if before
                else (
                    TransferStatus.WAITING,
                    TransferStatus.DOWNLOADING,
                    TransferStatus.DOWNLOADED,
                    TransferStatus.DONE,
                )
            ):
                progress(
                    LayerTransfer(digest=digest, status=status, done_bytes=1000, total_bytes=2000)
                )
        image_id = before or self.add_image(known)
        self._emit(EventSubject.IMAGE, "pull", image_id, known)
        return PulledImage(
            image_id=image_id,
            name=known,
            digest=Digest(image_id),
            is_new=before is None,
            warnings=self.pull_warnings,
        )

    async def peek_image(self, reference: str, *, platform: str = "") -> RemoteImage:
        name = parse_reference(reference)
        known = name.familiar_name
        await self._note("peek", f"{reference} {platform}".strip())
        repositories = {parse_reference(one).familiar_repository for one in self.remote_names}
        is_digest = name.digest == LAYER_DIGESTS[0] and name.familiar_repository in repositories
        if known not in self.remote_names and not is_digest:
            raise RemoteImageNotFoundError(name.domain, known, "manifest unknown")
        is_present = self._image_named(known) is not None
        return RemoteImage(
            name=known,
            digest=LAYER_DIGESTS[0],
            image_id=ImageId(LAYER_DIGESTS[1]),
            platform=platform or "linux/amd64",
            created_at=NOW,
            author="",
            config=ImageConfig(command=("/none",)),
            layers=tuple(
                RemoteLayer(
                    position=position,
                    created_by=f"COPY {position}",
                    created_at=NOW,
                    comment="",
                    is_empty=False,
                    diff_id=DiffId(digest),
                    digest=digest,
                    size_bytes=1000,
                    is_present=is_present,
                )
                for position, digest in enumerate(LAYER_DIGESTS)
            ),
            size_bytes=2000,
            config_json='{\n  "os": "linux"\n}',
            platforms=self.remote_platforms or (platform or "linux/amd64",),
        )

    async def list_remote_layer_files(
        self,
        reference: str,
        position: int,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileTree:
        image = await self.peek_image(reference, platform=platform)
        if not 0 <= position < len(image.layers):
            raise ImageNotFoundError(f"{image.name} (step {position})")
        progress(Progress(step="Fetching the layer", done=500, total=1000, unit="bytes"))
        if "remote-files" in self.gates:
            await self.gates["remote-files"].wait()
        name = ("one", "two")[position]
        entry = FileEntry(
            path=name,
            kind=FileKind.FILE,
            mode=0o644,
            user_id=0,
            group_id=0,
            size_bytes=1,
            modified_at=0,
            link_target="",
            change=ChangeKind.ADDED,
        )
        return FileTree(title=image.layers[position].created_by, entries=(entry,), size_bytes=1)

    async def read_remote_file(
        self,
        reference: str,
        position: int,
        path: str,
        *,
        platform: str = "",
        progress: ProgressListener = ignore_progress,
    ) -> FileContent:
        tree = await self.list_remote_layer_files(reference, position, platform=platform)
        label = f"{parse_reference(reference).familiar_name} (step {position})"
        entry = next((one for one in tree.entries if one.path == path.strip("/")), None)
        if entry is None:
            raise FileNotInLayerError(path, label, hint="")
        if entry.kind is not FileKind.FILE:
            raise InvalidInputError(f"{entry.path} is no file: {entry.kind.value}")
        await self._note("read-remote", f"{reference} {position} {path}")
        total = len(self.remote_content.get(entry.path, b""))
        progress(Progress(step="Fetching the layer", done=total, total=total, unit="bytes"))
        content = self.remote_content.get(entry.path, str(position + 1).encode())
        return FileContent(
            path=entry.path, size_bytes=len(content), content=content[:MAXIMUM_VIEWED_BYTES]
        )

    async def push_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PushedImage:
        name = parse_reference(reference)
        if name.digest is not None:
            raise InvalidReferenceError(reference, "cannot push a digest reference")
        known = name.familiar_name
        await self._note("push", reference)
        image_id = self._image_named(known)
        if image_id is None:
            raise ImageNotFoundError(known)
        self._require_platform(self.images[image_id], known, platform)
        await self._move_layers(progress)
        status = TransferStatus.PRESENT if known in self.remote_names else TransferStatus.PUSHED
        for digest in () if self.moving_layers else LAYER_DIGESTS:
            for one in (TransferStatus.PREPARING, status):
                progress(LayerTransfer(digest=digest, status=one))
        self.remote_names.add(known)
        self._emit(EventSubject.IMAGE, "push", image_id, known)
        return PushedImage(name=known, digest=Digest(image_id), size_bytes=500)

    async def _move_layers(self, progress: TransferListener) -> None:
        for transfer in self.moving_layers:
            progress(transfer)
        if "layers" in self.gates:
            await self.gates["layers"].wait()
        if "layers" in self.failures:
            raise self.failures.pop("layers")

    def _image_named(self, name: str) -> ImageId | None:
        return next(
            (image_id for image_id, image in self.images.items() if name in image.summary.names),
            None,
        )
