"""What goes with images: their names, and every layer that nothing leads to any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.store.claims import drop_claims
from engine.store.image_records import LAYERS, LayerRecord, layer_of, names_of_image

if TYPE_CHECKING:
    import sqlite3

    from engine.types import ImageId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedImages:
    """What was forgotten: names, and layers topmost first."""

    names: dict[ImageId, tuple[str, ...]]
    layers: tuple[LayerRecord, ...]


def delete_images(
    connection: sqlite3.Connection, image_ids: tuple[ImageId, ...], dead_holders: tuple[str, ...]
) -> DeletedImages:
    """Forget images, the claims of dead holders, and then every layer that nothing leads to."""
    names = {image_id: names_of_image(connection, image_id) for image_id in image_ids}
    connection.executemany(
        "DELETE FROM images WHERE image_id = ?", [(image_id,) for image_id in image_ids]
    )
    drop_claims(connection, dead_holders)
    return DeletedImages(names=names, layers=_delete_unused_layers(connection))


def _delete_unused_layers(connection: sqlite3.Connection) -> tuple[LayerRecord, ...]:
    removed: list[LayerRecord] = []
    while True:
        # From the top: a layer goes when nothing stands on it and nobody names it.
        rows = connection.execute(
            f"{LAYERS} AS candidate WHERE "
            "NOT EXISTS (SELECT 1 FROM image_layers WHERE chain_id = candidate.chain_id) AND "
            "NOT EXISTS (SELECT 1 FROM containers WHERE chain_id = candidate.chain_id) AND "
            "NOT EXISTS (SELECT 1 FROM claims WHERE digest = candidate.chain_id) AND "
            "NOT EXISTS (SELECT 1 FROM layers AS above "
            "WHERE above.parent_chain_id = candidate.chain_id)"
        ).fetchall()
        found = [layer for row in rows if (layer := layer_of(row)) is not None]
        if not found:
            return tuple(removed)
        connection.executemany(
            "DELETE FROM layers WHERE chain_id = ?", [(layer.chain_id,) for layer in found]
        )
        removed.extend(found)
