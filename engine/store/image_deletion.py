"""What goes with images: their names, and every layer that nothing leads to any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.store.claims import drop_claims
from engine.store.image_records import LAYERS, LayerRecord, layer_of, names_of_image
from engine.types import ImageId

if TYPE_CHECKING:
    import sqlite3


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
            "NOT EXISTS (SELECT 1 FROM build_steps WHERE chain_id = candidate.chain_id) AND "
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


def find_untagged_parents(connection: sqlite3.Connection, image_id: str) -> tuple[ImageId, ...]:
    """The images that go with one: all of their layers are below its own, topmost first.

    They have no name, no container and no registry's digest, and no image stands on them that does
    not go as well.
    """
    below = connection.execute(
        "SELECT parent.image_id FROM image_layers AS own "
        "JOIN image_layers AS parent USING (chain_id) "
        "WHERE own.image_id = ?1 AND parent.image_id != ?1 "
        "AND own.position < (SELECT max(position) FROM image_layers WHERE image_id = ?1) "
        "AND parent.position = "
        "(SELECT max(position) FROM image_layers WHERE image_id = parent.image_id) "
        "AND NOT EXISTS (SELECT 1 FROM tags WHERE image_id = parent.image_id) "
        "AND NOT EXISTS (SELECT 1 FROM containers WHERE image_id = parent.image_id) "
        "AND NOT EXISTS (SELECT 1 FROM repository_digests WHERE image_id = parent.image_id) "
        "ORDER BY own.position DESC, parent.image_id",
        (image_id,),
    ).fetchall()
    going = [image_id]
    for (parent_id,) in below:
        others = connection.execute(
            "SELECT DISTINCT above.image_id FROM image_layers AS top "
            "JOIN image_layers AS above USING (chain_id) "
            "WHERE top.image_id = ?1 AND above.image_id != ?1 "
            "AND top.position = (SELECT max(position) FROM image_layers WHERE image_id = ?1)",
            (parent_id,),
        ).fetchall()
        if all(other in going for (other,) in others):
            going.append(parent_id)
    return tuple(ImageId(parent_id) for parent_id in going[1:])
