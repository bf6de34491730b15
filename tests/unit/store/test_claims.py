"""Claims: what keeps layers and blobs that no image leads to yet."""

import asyncio
import dataclasses
import threading

import pytest

from engine.errors import ImageNotFoundError, StoreError
from engine.store.claims import ClaimRecords
from engine.store.database import Database
from engine.store.image_records import (
    ImageAddition,
    ImageLayerRecord,
    ImageRecord,
    ImageRecords,
    LayerRecord,
)
from engine.types import ChainId, DiffId, Digest, ImageId

DEADLINE_SECONDS = 30


def digest(number):
    return f"sha256:{number:064x}"


def image(number, *chains, blob=None):
    """An image of layers, bottom first, each a number."""
    layers = tuple(
        ImageLayerRecord(
            layer=LayerRecord(
                chain_id=ChainId(digest(chain)),
                diff_id=DiffId(digest(chain)),
                parent_chain_id=ChainId(digest(chains[position - 1])) if position else None,
                size_bytes=10,
                entry_count=1,
            ),
            blob_digest=None if blob is None else Digest(digest(blob)),
            blob_media_type="",
            blob_size_bytes=0,
        )
        for position, chain in enumerate(chains)
    )
    return ImageRecord(
        image_id=ImageId(digest(number)),
        manifest_digest=Digest(digest(number + 1)),
        config=b"{}",
        created_at=1.0,
        operating_system="linux",
        architecture="amd64",
        added_at=1.0,
        layers=layers,
    )


@pytest.fixture
async def database(tmp_path):
    async with await Database.open(tmp_path / "lamella.db") as opened:
        yield opened


async def test_a_claimed_layer_and_what_it_stands_on_outlive_their_image(database):
    images, claims = ImageRecords(database), ClaimRecords(database)
    await images.insert(ImageAddition(image=image(100, 1, 2, 3), names=("web:1",)))
    wanted = [ChainId(digest(number)) for number in (2, 9)]
    assert await claims.claim_layers("load-1", wanted) == {digest(2)}
    deleted = await images.delete((ImageId(digest(100)),))
    assert deleted.names == {digest(100): ("web:1",)}
    assert [layer.chain_id for layer in deleted.layers] == [digest(3)]
    assert await images.layer_chain_ids() == {digest(1), digest(2)}
    await claims.release("load-1")
    assert [layer.chain_id for layer in (await images.delete()).layers] == [digest(2), digest(1)]


async def test_a_claim_of_a_dead_holder_counts_for_nothing(database):
    images, claims = ImageRecords(database), ClaimRecords(database)
    await images.insert(ImageAddition(image=image(100, 1)))
    for holder in ("load-1", "load-2"):
        await claims.claim_layers(holder, (ChainId(digest(1)),))
    await images.delete((ImageId(digest(100)),), dead_holders=("load-1",))
    assert await claims.holders() == ("load-2",)
    assert await images.layer_chain_ids() == {digest(1)}
    await images.delete(dead_holders=("load-2",))
    assert await images.layer_chain_ids() == frozenset()


async def test_a_claimed_blob_is_needed_like_those_of_images(database):
    images, claims = ImageRecords(database), ClaimRecords(database)
    await images.insert(ImageAddition(image=image(100, 1, blob=7)))
    await claims.claim("pull-1", (digest(8),))
    assert await images.blob_digests() == {digest(number) for number in (100, 101, 7, 8)}
    await claims.release("pull-1")
    assert digest(8) not in await images.blob_digests()


async def test_images_are_recorded_together_or_not_at_all(database):
    images = ImageRecords(database)
    broken = dataclasses.replace(image(200, 1), config=None)
    with pytest.raises(StoreError):
        await images.insert(
            ImageAddition(image=image(100, 1), names=("web:1",)), ImageAddition(image=broken)
        )
    assert await images.list_images() == ()
    assert await images.layer_chain_ids() == frozenset()


async def test_a_name_cannot_be_given_to_an_image_that_has_gone(database):
    images = ImageRecords(database)
    with pytest.raises(ImageNotFoundError):
        await images.tag("web:1", digest(100))
    assert await images.find_by_name("web:1") is None


async def test_who_reads_waits_for_no_write_and_sees_all_that_have_returned(database):
    images = ImageRecords(database)
    await images.insert(ImageAddition(image=image(100, 1)))
    is_inside, may_end = threading.Event(), threading.Event()

    def linger(connection):
        connection.execute("DELETE FROM images")
        is_inside.set()
        assert may_end.wait(DEADLINE_SECONDS)

    writing = asyncio.create_task(database.write(linger))
    try:
        assert await asyncio.to_thread(is_inside.wait, DEADLINE_SECONDS)
        async with asyncio.timeout(DEADLINE_SECONDS / 2):
            assert [one.image_id for one in await images.list_images()] == [digest(100)]
    finally:
        may_end.set()
        await writing
    assert await images.list_images() == ()


async def test_a_read_cannot_write(database):
    with pytest.raises(StoreError, match="readonly"):
        await database.read(lambda connection: connection.execute("DELETE FROM images"))
