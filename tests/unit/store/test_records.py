import asyncio
import shutil
import sqlite3

import pytest

from engine.errors import AmbiguousReferenceError, NameInUseError, StoreError
from engine.events import Event, EventBus, EventSubject
from engine.oci.reference import parse_reference
from engine.store.container_records import ContainerRecord, ContainerRecords
from engine.store.database import Database
from engine.store.event_log import EventTail, append_event
from engine.store.locks import LockFile, is_locked
from engine.store.staging import StagingArea
from engine.types import ChainId, ContainerId, ImageId


def record(container_id, name):
    return ContainerRecord(
        container_id=ContainerId(container_id),
        name=name,
        image_id=ImageId("sha256:" + "0" * 64),
        image_name="web:latest",
        chain_id=ChainId("sha256:" + "1" * 64),
        created_at=1.0,
        is_removed_on_exit=False,
        config="{}",
    )


async def test_a_name_is_given_once_and_the_error_says_who_has_it(tmp_path):
    async with await Database.open(tmp_path / "a.db") as database:
        containers = ContainerRecords(database)
        await containers.insert(record("a" * 64, "web"))
        await containers.insert(record("ab" * 32, "job"))
        with pytest.raises(NameInUseError) as caught:
            await containers.insert(record("c" * 64, "web"))
        assert caught.value.container_id == "a" * 64
        with pytest.raises(AmbiguousReferenceError):
            await containers.find("a")


async def test_a_newer_or_damaged_database_is_refused(tmp_path):
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    (tmp_path / "damaged.db").write_bytes(b"not a database" * 100)
    for name in ("newer.db", "damaged.db"):
        with pytest.raises(StoreError):
            await Database.open(tmp_path / name)


async def test_an_event_of_the_log_reaches_the_bus(tmp_path):
    bus, path = EventBus(), tmp_path / "events.jsonl"
    event = Event(time_ns=1, subject=EventSubject.IMAGE, action="tag", subject_id="x", name="y")
    async with EventTail(path, bus):
        with bus.subscribe() as subscription:
            path.write_bytes(b"damaged\n")
            append_event(path, event)
            async for received in subscription:
                assert received == event
                break


async def test_a_staging_claim_is_removed_and_its_lock_seen(tmp_path):
    async def remove(path):
        shutil.rmtree(path)

    area = StagingArea(tmp_path / "staging", remove_tree=remove)
    async with area.claim("load") as work:
        assert is_locked(work.parent / "lock")
        assert not LockFile(work.parent / "lock").try_acquire()
        assert await area.sweep() == ()
    assert not work.parent.exists()


async def test_nobody_sweeps_a_claim_while_its_holder_removes_what_is_in_it(tmp_path):
    removed, swept = [], []

    async def never(path):
        raise AssertionError(f"{path} is not abandoned")

    async def remove(path):
        swept.append(await StagingArea(tmp_path, remove_tree=never).sweep())
        removed.append(path.name)
        shutil.rmtree(path)
        swept.append(await StagingArea(tmp_path, remove_tree=never).sweep())

    async with StagingArea(tmp_path, remove_tree=remove).claim("load") as work:
        (work / "layer").mkdir()
    assert removed == ["work"]
    assert swept == [(), ()]
    assert not work.parent.exists()


async def test_a_sweep_that_is_cut_short_leaves_no_claim_that_is_empty(tmp_path):
    removing, may_go_on = asyncio.Event(), asyncio.Event()

    async def remove(path):
        removing.set()
        await may_go_on.wait()
        shutil.rmtree(path)

    for name in ("load-1", "load-3"):
        (tmp_path / name / "work/layer").mkdir(parents=True)
    # Its holder was removing it: to look whether it lives makes the lock's file again.
    (tmp_path / "load-2").mkdir()
    sweeping = asyncio.create_task(StagingArea(tmp_path, remove_tree=remove).sweep())
    await removing.wait()
    sweeping.cancel()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await sweeping

    assert sorted(path.name for path in tmp_path.glob("load-*")) == ["load-3"]
    assert not is_locked(tmp_path / "load-3/lock")


def test_names_are_shown_in_their_familiar_form():
    assert parse_reference("docker.io/library/web").familiar_name == "web:latest"
    assert parse_reference("localhost:5000/web:a").familiar_name == "localhost:5000/web:a"
