"""Records of images, their layers and their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ImageNotFoundError, StoreError
from engine.late_dataclasses import dataclass
from engine.store.image_lists import ImageListRecord, list_images
from engine.store.repository_digests import (
    RepositoryDigest,
    insert_repository_digest,
    replace_manifest,
    select_by_repository_digest,
)
from engine.types import ChainId, DiffId, Digest, ImageId

if TYPE_CHECKING:
    import sqlite3

    from engine.store.database import Database
    from engine.store.image_deletion import DeletedImages


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """A layer that is unpacked in `<root>/layers`."""

    chain_id: ChainId
    diff_id: DiffId
    parent_chain_id: ChainId | None
    size_bytes: int
    entry_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayerRecord:
    """One layer as part of an image.

    Attributes:
        layer: The layer.
        blob_digest: The compressed layer among the blobs; None when that is not kept.
        blob_media_type: What the manifest calls it.
        blob_size_bytes: What the manifest says.
    """

    layer: LayerRecord
    blob_digest: Digest | None
    blob_media_type: str
    blob_size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image; `layers` is bottom first.

    Attributes:
        image_id: Digest of the config.
        manifest_digest: Digest of the manifest, which is among the blobs.
        config: The config document, byte for byte.
        created_at: As the config says; None when it does not.
        operating_system: `linux`.
        architecture: `amd64`, `arm64`.
        added_at: When it came into this store.
        layers: Bottom first.
    """

    image_id: ImageId
    manifest_digest: Digest
    config: bytes
    created_at: float | None
    operating_system: str
    architecture: str
    added_at: float
    layers: tuple[ImageLayerRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAddition:
    """An image to be recorded.

    Attributes:
        image: With its layers.
        names: Familiar, with tag.
        origin: Where it was pulled from. An image that was here before gets the manifest and the
            blobs of this one then.
    """

    image: ImageRecord
    names: tuple[str, ...] = ()
    origin: RepositoryDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUse:
    """An image has a layer, and with it maybe the compressed one (`blob_digest` is not None)."""

    image_id: ImageId
    chain_id: ChainId
    size_bytes: int
    blob_digest: Digest | None
    blob_size_bytes: int


class ImageRecords:
    """Queries on images; every method may raise StoreError or NoSpaceError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, *additions: ImageAddition) -> tuple[bool, ...]:
        """Add images with their layers and give them names: all of them, or none.

        Layers that are known stay as they are; names move from other images.

        Returns:
            For each, False when it was here before; its names are added all the same.
        """
        return await self._database.write(
            lambda connection: tuple(_insert(connection, addition) for addition in additions)
        )

    async def insert_layer(self, layer: LayerRecord) -> None:
        """Add a layer that nothing leads to yet; the caller has claimed it."""
        await self._database.write(lambda connection: _insert_layer(connection, layer))

    async def list_images(self) -> tuple[ImageListRecord, ...]:
        """Every image, newest first."""
        return await self._database.read(list_images)

    async def configs_of(self, image_ids: tuple[ImageId, ...]) -> dict[ImageId, bytes]:
        """The config documents of some images; those that are gone are left out."""
        if not image_ids:
            return {}

        def read(connection: sqlite3.Connection) -> dict[ImageId, bytes]:
            found: dict[ImageId, bytes] = {}
            for image_id in image_ids:
                row = connection.execute(
                    "SELECT config FROM images WHERE image_id = ?", (image_id,)
                ).fetchone()
                if row is not None:
                    found[image_id] = row[0]
            return found

        return await self._database.read(read)

    async def find(self, image_id: str) -> ImageRecord | None:
        """One image by its whole id."""
        return await self._database.read(lambda connection: find_image(connection, image_id))

    async def find_by_name(self, name: str) -> ImageId | None:
        """The image that has a familiar name with tag."""
        return await self._database.read(
            lambda connection: _image_id(
                connection.execute("SELECT image_id FROM tags WHERE name = ?", (name,)).fetchone()
            )
        )

    async def find_by_manifest(self, digest: str) -> ImageId | None:
        """The image whose manifest has a digest."""
        return await self._database.read(
            lambda connection: _image_id(
                connection.execute(
                    "SELECT image_id FROM images WHERE manifest_digest = ? ORDER BY image_id",
                    (digest,),
                ).fetchone()
            )
        )

    async def find_by_repository_digest(self, known_as: RepositoryDigest) -> ImageId | None:
        """The image that a registry calls so."""
        return await self._database.read(
            lambda connection: _image_id(select_by_repository_digest(connection, known_as))
        )

    async def find_by_id_beginning(self, digits: str) -> tuple[ImageId, ...]:
        """The images whose id begins with some hexadecimal digits, at most 100 of them."""
        beginning = f"sha256:{digits}"
        return await self._database.read(
            lambda connection: tuple(
                ImageId(row[0])
                for row in connection.execute(
                    "SELECT image_id FROM images WHERE substr(image_id, 1, ?) = ? "
                    "ORDER BY image_id LIMIT 100",
                    (len(beginning), beginning),
                )
            )
        )

    async def names_of(self, image_id: str) -> tuple[str, ...]:
        """The names of an image, sorted."""
        return await self._database.read(lambda connection: names_of_image(connection, image_id))

    async def tag(self, name: str, image_id: str) -> ImageId | None:
        """Give a name to an image; returns the image that had it before, if another.

        Raises:
            ImageNotFoundError: The image was removed meanwhile.
        """
        return await self._database.write(lambda connection: _tag(connection, name, image_id))

    async def untag(self, names: tuple[str, ...]) -> None:
        """Take names away, in one step; those that nobody has are passed over."""
        await self._database.write(
            lambda connection: connection.executemany(
                "DELETE FROM tags WHERE name = ?", [(name,) for name in names]
            )
        )

    async def find_layer(self, chain_id: str) -> LayerRecord | None:
        """One layer by its chain id."""
        return await self._database.read(
            lambda connection: layer_of(
                connection.execute(f"{LAYERS} WHERE chain_id = ?", (chain_id,)).fetchone()
            )
        )

    async def image_counts_of_layers(self, chain_ids: tuple[ChainId, ...]) -> tuple[int, ...]:
        """How many images have each of some layers."""
        return await self._database.read(
            lambda connection: tuple(
                int(
                    connection.execute(
                        "SELECT count(DISTINCT image_id) FROM image_layers WHERE chain_id = ?",
                        (chain_id,),
                    ).fetchone()[0]
                )
                for chain_id in chain_ids
            )
        )

    async def delete(
        self, image_ids: tuple[ImageId, ...] = (), *, dead_holders: tuple[str, ...] = ()
    ) -> DeletedImages:
        """Forget images with their names, and every layer that nothing leads to any more.

        Images, containers and claims lead to layers, and a layer to the one below it. One
        transaction; hold the image lock exclusively, until what is forgotten is out of its place.

        Args:
            image_ids: The images.
            dead_holders: Whose claims count for nothing.
        """
        # Most commands only look.
        from engine.store.image_deletion import delete_images

        return await self._database.write(
            lambda connection: delete_images(connection, image_ids, dead_holders)
        )

    async def untagged_parents(self, image_id: str) -> tuple[ImageId, ...]:
        """The images below an image that nothing else needs, topmost first."""
        # Loaded by who removes one.
        from engine.store.image_deletion import find_untagged_parents

        return await self._database.read(
            lambda connection: find_untagged_parents(connection, image_id)
        )

    async def layer_chain_ids(self) -> frozenset[ChainId]:
        """Every layer that has a record."""
        return await self._database.read(
            lambda connection: frozenset(
                ChainId(row[0]) for row in connection.execute("SELECT chain_id FROM layers")
            )
        )

    async def blob_digests(self) -> frozenset[Digest]:
        """Every blob that an image needs (manifest, config, layers), and every claimed digest."""
        return await self._database.read(
            lambda connection: frozenset(
                Digest(row[0])
                for row in connection.execute(
                    "SELECT manifest_digest FROM images UNION SELECT image_id FROM images UNION "
                    "SELECT blob_digest FROM image_layers WHERE blob_digest IS NOT NULL UNION "
                    "SELECT digest FROM claims"
                )
            )
        )

    async def layer_uses(self) -> tuple[LayerUse, ...]:
        """Every layer of every image."""
        return await self._database.read(
            lambda connection: tuple(
                LayerUse(
                    image_id=ImageId(row[0]),
                    chain_id=ChainId(row[1]),
                    size_bytes=row[2],
                    blob_digest=row[3],
                    blob_size_bytes=row[4],
                )
                for row in connection.execute(
                    "SELECT image_id, chain_id, size_bytes, blob_digest, blob_size_bytes "
                    "FROM image_layers JOIN layers USING (chain_id)"
                )
            )
        )

    async def layers_total_bytes(self) -> int:
        """Size of all layers, each counted once."""
        return await self._database.read(
            lambda connection: int(
                connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM layers").fetchone()[0]
            )
        )


LAYERS = "SELECT chain_id, diff_id, parent_chain_id, size_bytes, entry_count FROM layers"


def _insert(connection: sqlite3.Connection, addition: ImageAddition) -> bool:
    image, origin = addition.image, addition.origin
    is_new = (
        connection.execute("SELECT 1 FROM images WHERE image_id = ?", (image.image_id,)).fetchone()
        is None
    )
    if is_new:
        connection.execute(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                image.image_id,
                image.manifest_digest,
                image.config,
                image.created_at,
                image.operating_system,
                image.architecture,
                image.added_at,
            ),
        )
        for position, part in enumerate(image.layers):
            layer = part.layer
            _insert_layer(connection, layer)
            connection.execute(
                "INSERT INTO image_layers VALUES (?, ?, ?, ?, ?, ?)",
                (
                    image.image_id,
                    position,
                    layer.chain_id,
                    part.blob_digest,
                    part.blob_media_type,
                    part.blob_size_bytes,
                ),
            )
    if origin is not None:
        if not is_new:
            replace_manifest(connection, image)
        insert_repository_digest(connection, origin, image.image_id)
    for name in addition.names:
        _tag(connection, name, image.image_id)
    return is_new


def _insert_layer(connection: sqlite3.Connection, layer: LayerRecord) -> None:
    connection.execute(
        "INSERT INTO layers VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            layer.chain_id,
            layer.diff_id,
            layer.parent_chain_id,
            layer.size_bytes,
            layer.entry_count,
        ),
    )


def find_image(connection: sqlite3.Connection, image_id: str) -> ImageRecord | None:
    """One image by its whole id, in the caller's transaction."""
    row = connection.execute(
        "SELECT image_id, manifest_digest, config, created_at, operating_system, architecture, "
        "added_at FROM images WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    if row is None:
        return None
    layers = connection.execute(
        "SELECT chain_id, diff_id, parent_chain_id, size_bytes, entry_count, blob_digest, "
        "blob_media_type, blob_size_bytes FROM image_layers JOIN layers USING (chain_id) "
        "WHERE image_id = ? ORDER BY position",
        (image_id,),
    )
    parts = []
    for part in layers:
        layer = layer_of(part[:5])
        if layer is None:
            raise StoreError(f"image {image_id} has a layer without a record")
        parts.append(
            ImageLayerRecord(
                layer=layer,
                blob_digest=part[5],
                blob_media_type=part[6],
                blob_size_bytes=part[7],
            )
        )
    return ImageRecord(
        image_id=row[0],
        manifest_digest=row[1],
        config=row[2],
        created_at=row[3],
        operating_system=row[4],
        architecture=row[5],
        added_at=row[6],
        layers=tuple(parts),
    )


def layer_of(row: tuple[str, str, str | None, int, int] | None) -> LayerRecord | None:
    """A layer of a row that `LAYERS` gives."""
    if row is None:
        return None
    return LayerRecord(
        chain_id=ChainId(row[0]),
        diff_id=DiffId(row[1]),
        parent_chain_id=None if row[2] is None else ChainId(row[2]),
        size_bytes=row[3],
        entry_count=row[4],
    )


def _image_id(row: tuple[str] | None) -> ImageId | None:
    return None if row is None else ImageId(row[0])


def names_of_image(connection: sqlite3.Connection, image_id: str) -> tuple[str, ...]:
    """The names of an image, sorted, in the caller's transaction."""
    rows = connection.execute("SELECT name FROM tags WHERE image_id = ? ORDER BY name", (image_id,))
    return tuple(row[0] for row in rows)


def _tag(connection: sqlite3.Connection, name: str, image_id: str) -> ImageId | None:
    row = connection.execute("SELECT image_id FROM tags WHERE name = ?", (name,)).fetchone()
    if not connection.execute("SELECT 1 FROM images WHERE image_id = ?", (image_id,)).fetchone():
        raise ImageNotFoundError(image_id)
    connection.execute(
        "INSERT INTO tags VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id",
        (name, image_id),
    )
    return None if row is None or row[0] == image_id else ImageId(row[0])
