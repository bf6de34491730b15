"""The list of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import FIRST_IMAGES_AT, Digest, ImageId

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageListRecord:
    """What a list of images shows of one."""

    image_id: ImageId
    manifest_digest: Digest
    names: tuple[str, ...]
    created_at: float | None
    added_at: float
    size_bytes: int
    layer_count: int
    container_count: int
    is_intermediate: bool
    """It has no name, and another image stands on all of its layers."""
    kept_bytes: int
    """Of the compressed layers."""


def list_images(connection: sqlite3.Connection) -> tuple[ImageListRecord, ...]:
    """Every image, the newest first, in the caller's transaction."""
    names: dict[str, list[str]] = {}
    for name, image_id in connection.execute("SELECT name, image_id FROM tags ORDER BY name"):
        names.setdefault(image_id, []).append(name)
    rows = connection.execute(
        "SELECT image_id, manifest_digest, created_at, added_at, "
        "(SELECT coalesce(sum(size_bytes), 0) FROM image_layers JOIN layers USING (chain_id) "
        " WHERE image_layers.image_id = images.image_id), "
        "(SELECT count(*) FROM image_layers WHERE image_layers.image_id = images.image_id), "
        "(SELECT count(*) FROM containers WHERE containers.image_id = images.image_id), "
        "(SELECT coalesce(sum(blob_size_bytes), 0) FROM image_layers "
        " WHERE image_layers.image_id = images.image_id AND blob_digest IS NOT NULL) "
        "FROM images ORDER BY iif(created_at >= ?, created_at, added_at) DESC, image_id",
        (FIRST_IMAGES_AT,),
    )
    return tuple(
        ImageListRecord(
            image_id=ImageId(row[0]),
            manifest_digest=Digest(row[1]),
            names=tuple(names.get(row[0], ())),
            created_at=row[2],
            added_at=row[3],
            size_bytes=row[4],
            layer_count=row[5],
            container_count=row[6],
            kept_bytes=row[7],
            is_intermediate=row[0] not in names and _stands_below(connection, row[0]),
        )
        for row in rows.fetchall()
    )


def _stands_below(connection: sqlite3.Connection, image_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM image_layers AS top "
        "JOIN image_layers AS same USING (chain_id) "
        "JOIN image_layers AS above ON above.image_id = same.image_id "
        "WHERE top.image_id = ?1 AND same.image_id != ?1 AND above.position > same.position "
        "AND top.position = (SELECT max(position) FROM image_layers WHERE image_id = ?1) LIMIT 1",
        (image_id,),
    ).fetchone()
    return row is not None
