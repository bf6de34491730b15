"""What the fake engine brings from registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ImageNotFoundError, InvalidReferenceError, RemoteImageNotFoundError
from engine.events import EventSubject
from engine.oci.reference import parse_reference
from engine.types import (
    Digest,
    LayerTransfer,
    PulledImage,
    PushedImage,
    TransferListener,
    TransferStatus,
    ignore_transfers,
)
from tests.fake_images import FakeImages

if TYPE_CHECKING:
    from engine.types import ImageId

LAYER_DIGESTS = (Digest(f"sha256:{'a1' * 32}"), Digest(f"sha256:{'b2' * 32}"))


class FakeRegistries(FakeImages):
    """Registries hold the names in `remote_names`."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_names: set[str] = set()
        self.pull_warnings: tuple[str, ...] = ()

    async def pull_image(
        self, reference: str, *, platform: str = "", progress: TransferListener = ignore_transfers
    ) -> PulledImage:
        name = parse_reference(reference)
        await self._note("pull", f"{reference} {platform}".strip())
        known = name.familiar_name
        if known not in self.remote_names:
            raise RemoteImageNotFoundError(name.domain, known, "manifest unknown")
        before = self._image_named(known)
        for digest in LAYER_DIGESTS:
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

    async def push_image(
        self, reference: str, *, progress: TransferListener = ignore_transfers
    ) -> PushedImage:
        name = parse_reference(reference)
        if name.digest is not None:
            raise InvalidReferenceError(reference, "cannot push a digest reference")
        known = name.familiar_name
        await self._note("push", reference)
        image_id = self._image_named(known)
        if image_id is None:
            raise ImageNotFoundError(known)
        status = TransferStatus.PRESENT if known in self.remote_names else TransferStatus.PUSHED
        for digest in LAYER_DIGESTS:
            for one in (TransferStatus.PREPARING, status):
                progress(LayerTransfer(digest=digest, status=one))
        self.remote_names.add(known)
        self._emit(EventSubject.IMAGE, "push", image_id, known)
        return PushedImage(name=known, digest=Digest(image_id), size_bytes=500)

    def _image_named(self, name: str) -> ImageId | None:
        return next(
            (image_id for image_id, image in self.images.items() if name in image.summary.names),
            None,
        )
