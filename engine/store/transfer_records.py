"""Records of what registries have of the images here: what a push need not send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.store.repository_digests import insert_repository_digest
from engine.types import ChainId, Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.store.database import Database
    from engine.store.repository_digests import RepositoryDigest
    from engine.types import ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBlob:
    """A layer as a registry had it, among the blobs of the store."""

    digest: Digest
    media_type: str
    size_bytes: int


class TransferRecords:
    """Queries for pushes; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def kept_blobs(self, chain_ids: Sequence[ChainId]) -> dict[ChainId, KeptBlob]:
        """The blobs of layers, whichever image they came with; those without one are left out."""
        return await self._database.read(
            lambda connection: {
                chain_id: KeptBlob(digest=Digest(row[0]), media_type=row[1], size_bytes=row[2])
                for chain_id in chain_ids
                for row in connection.execute(
                    "SELECT blob_digest, blob_media_type, blob_size_bytes FROM image_layers "
                    "WHERE chain_id = ? AND blob_digest IS NOT NULL LIMIT 1",
                    (chain_id,),
                )
            }
        )

    async def repositories_with(self, blob_digest: str) -> tuple[str, ...]:
        """Repositories that had a layer's blob, by their familiar names, the newest first."""
        return await self._database.read(
            lambda connection: tuple(
                row[0]
                for row in connection.execute(
                    "SELECT repository FROM repository_digests JOIN image_layers USING (image_id) "
                    "WHERE blob_digest = ? GROUP BY repository "
                    "ORDER BY max(repository_digests.rowid) DESC LIMIT 10",
                    (blob_digest,),
                )
            )
        )

    async def remember(self, known_as: RepositoryDigest, image_id: ImageId) -> None:
        """Write down what a registry calls an image."""
        await self._database.write(
            lambda connection: insert_repository_digest(connection, known_as, image_id)
        )
