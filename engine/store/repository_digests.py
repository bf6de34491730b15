"""What registries call the images that were pulled from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    import sqlite3

    from engine.store.image_records import ImageRecord
    from engine.types import Digest, ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryDigest:
    """What a registry calls an image.

    Attributes:
        repository: Familiar: `debian`, `localhost:5000/web`.
        digest: Of the manifest, or of an index that leads to it.
    """

    repository: str
    digest: Digest


def insert_repository_digest(
    connection: sqlite3.Connection, known_as: RepositoryDigest, image_id: ImageId
) -> None:
    """Write down what a registry calls an image; the newest word counts."""
    connection.execute(
        "INSERT INTO repository_digests VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET image_id = excluded.image_id",
        (known_as.repository, known_as.digest, image_id),
    )


def select_by_repository_digest(
    connection: sqlite3.Connection, known_as: RepositoryDigest
) -> tuple[str] | None:
    """The row with the id of the image that a registry calls so."""
    row: tuple[str] | None = connection.execute(
        "SELECT image_id FROM repository_digests WHERE repository = ? AND digest = ?",
        (known_as.repository, known_as.digest),
    ).fetchone()
    return row


def replace_manifest(connection: sqlite3.Connection, image: ImageRecord) -> None:
    """Give an image that is here the manifest and the blobs that it was pulled with."""
    connection.execute(
        "UPDATE images SET manifest_digest = ? WHERE image_id = ?",
        (image.manifest_digest, image.image_id),
    )
    connection.executemany(
        "UPDATE image_layers SET blob_digest = ?, blob_media_type = ?, blob_size_bytes = ? "
        "WHERE image_id = ? AND position = ?",
        [
            (
                part.blob_digest,
                part.blob_media_type,
                part.blob_size_bytes,
                image.image_id,
                position,
            )
            for position, part in enumerate(image.layers)
        ],
    )
