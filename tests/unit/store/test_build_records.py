"""What is kept of the steps of builds."""

import hashlib

import pytest

from engine.store.build_records import BuildRecords, BuildStepRecord
from engine.store.database import Database
from engine.store.image_deletion import delete_images
from engine.store.image_records import LayerRecord
from engine.types import ChainId, DiffId


@pytest.fixture
async def database(tmp_path):
    async with await Database.open(tmp_path / "lamella.db") as database:
        yield database


def chain(number):
    return ChainId(f"sha256:{number:064x}")


def layer(number, parent=None):
    return LayerRecord(
        chain_id=chain(number), diff_id=DiffId(chain(number)), size_bytes=100 * number,
        parent_chain_id=None if parent is None else chain(parent), entry_count=1,
    )  # fmt: skip


def step(number, *, parent=0, place="web 0 1", text="RUN true", used_at=1.0, is_empty=False):
    return BuildStepRecord(
        step_key=hashlib.sha256(b"%d" % number).hexdigest(), inputs_digest=f"inputs of {text}",
        parent_chain_id=chain(parent) if parent else "", chain_id=chain(number), place=place,
        text=text, inputs=b"{}", created_at=used_at, used_at=used_at, use_count=0, seconds=1.0,
        is_empty=is_empty,
    )  # fmt: skip


async def layers_of(database):
    return await database.read(
        lambda connection: {row[0] for row in connection.execute("SELECT chain_id FROM layers")}
    )


async def collect(database, dead_holders=("build",)):
    await database.write(lambda connection: delete_images(connection, (), dead_holders))


async def test_a_step_is_found_by_its_key_and_by_what_it_stands_on(database):
    records = BuildRecords(database, boot_id="now")
    first = step(1)
    await records.insert(first, layer(1), holder="build")

    assert (await records.find([first.step_key, "other"])) == {first.step_key: first}
    assert await records.find_by_content(first.inputs_digest, "") == first
    assert await records.find_by_content(first.inputs_digest, chain(7)) is None
    assert await records.has_inputs(first.inputs_digest)


async def test_the_nearest_step_stands_at_the_same_place(database):
    records = BuildRecords(database, boot_id="now")
    same_place = step(1, text="RUN one", used_at=1.0)
    same_text = step(2, place="other 0 1", text="RUN two", used_at=2.0)
    for number, one in enumerate((same_place, same_text), 1):
        await records.insert(one, layer(number), holder="build")

    assert await records.find_nearest("web 0 1", "RUN two") == same_place
    assert await records.find_nearest("elsewhere", "RUN two") == same_text
    assert await records.find_nearest("elsewhere", "RUN three") is None


async def test_a_layer_of_the_cache_is_not_collected(database):
    records = BuildRecords(database, boot_id="now")
    first = step(1)
    await records.insert(first, layer(1), holder="build")

    await collect(database)
    assert await layers_of(database) == {chain(1)}
    await records.delete([first.step_key])
    await collect(database)
    assert await layers_of(database) == set()


async def test_a_layer_stays_for_the_build_that_has_made_it(database):
    records = BuildRecords(database, boot_id="now")
    first = step(1)
    await records.insert(first, layer(1), holder="build")

    await records.delete([first.step_key])
    await collect(database, dead_holders=())
    assert await layers_of(database) == {chain(1)}
    await collect(database)
    assert await layers_of(database) == set()


async def test_what_another_boot_may_have_lost_is_not_used(database):
    before = BuildRecords(database, boot_id="before")
    first, second, third = step(1), step(2, parent=1), step(3)
    await before.insert(first, layer(1), holder="build")
    await before.insert(second, layer(2, 1), holder="build")
    await before.insert(third, layer(3), holder="build")
    await before.note_use([third.step_key], at=2.0, synced=[chain(3)])

    records = BuildRecords(database, boot_id="now")
    keys = [one.step_key for one in (first, second, third)]
    assert set(await records.find(keys)) == {third.step_key}
    assert await records.forget_lost()
    await collect(database)
    assert await layers_of(database) == {chain(3)}
    assert not await records.forget_lost()


async def test_what_is_on_the_disk_outlives_a_boot(database):
    before = BuildRecords(database, boot_id="before")
    first = step(1)
    await before.insert(first, layer(1), holder="build")
    assert await before.unsynced([chain(1)]) == (chain(1),)
    await before.note_use([], at=2.0, synced=[chain(1)])
    assert await before.unsynced([chain(1)]) == ()

    assert await BuildRecords(database, boot_id="now").find([first.step_key])


async def test_a_damaged_layer_serves_no_build(database):
    records = BuildRecords(database, boot_id="now")
    first = step(1)
    await records.insert(first, layer(1), holder="build")
    await database.write(
        lambda connection: connection.execute("INSERT INTO damaged_layers VALUES (?)", (chain(1),))
    )

    assert await records.find([first.step_key]) == {}
    assert await records.find_by_content(first.inputs_digest, "") is None


async def test_usages_tell_what_only_the_cache_has(database):
    records = BuildRecords(database, boot_id="now")
    await records.insert(step(1, used_at=1.0), layer(1), holder="build")
    await records.insert(step(2, used_at=2.0), layer(2), holder="build")

    usages = await records.usages()

    assert [(one.record.chain_id, one.size_bytes, one.is_shared) for one in usages] == [
        (chain(2), 200, False), (chain(1), 100, False),
    ]  # fmt: skip


async def test_builds_are_listed_newest_first_and_by_name(database):
    records = BuildRecords(database, boot_id="now")
    for number, name in enumerate(("web:latest", "app:latest", "web:latest")):
        await records.insert_build(
            f"{number:032x}", started_at=float(number), names=(name,), document=b"%d" % number
        )

    assert await records.list_builds() == (b"2", b"1", b"0")
    assert await records.list_builds("web:latest") == (b"2", b"0")


async def test_old_builds_are_forgotten(database):
    records = BuildRecords(database, boot_id="now")
    for number in range(210):
        await records.insert_build(
            f"{number:032x}", started_at=float(number), names=("web:latest",), document=b""
        )

    assert len(await records.list_builds()) == 200
