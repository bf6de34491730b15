import asyncio
import threading

import pytest

from engine.errors import OperationInProgressError, StoreError
from engine.store.locks import LockFile, is_locked


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name == "lamella-lock"]


async def test_a_wait_that_is_cancelled_takes_nothing_and_leaves_nobody_behind(tmp_path):
    path = tmp_path / "lock"
    holder, waiter = LockFile(path), LockFile(path)
    assert holder.try_acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    assert waiting_threads()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not waiter.has_lock
    threads = waiting_threads()
    holder.release()
    for thread in threads:
        thread.join()
    assert not is_locked(path)


async def test_a_wait_ends_when_the_holder_lets_go(tmp_path):
    holder, waiter = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert holder.try_acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    holder.release()
    await waiting
    assert waiter.has_lock
    waiter.release()
    assert not is_locked(tmp_path / "lock")


def test_shared_locks_go_together_and_exclude_an_exclusive_one(tmp_path):
    path = tmp_path / "lock"
    one, two, alone = LockFile(path), LockFile(path), LockFile(path, what="Removing an image")
    assert one.try_acquire(is_shared=True)
    assert two.try_acquire(is_shared=True)
    with pytest.raises(OperationInProgressError, match="Removing an image is already in progress"):
        alone.acquire_now()
    one.release()
    two.release()
    with alone:
        assert not one.try_acquire(is_shared=True)


def test_a_file_that_is_not_there_is_not_locked_and_is_not_made(tmp_path):
    assert not is_locked(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        LockFile(tmp_path / "lock").try_acquire()
    assert not (tmp_path / "elsewhere").exists()


async def test_a_lock_that_came_after_its_file_was_removed_is_taken_on_a_new_file(tmp_path):
    path = tmp_path / "run" / "web" / "lock"
    holder, waiter = (LockFile(path, is_removed_with_directory=True) for _ in range(2))
    assert holder.try_acquire()
    waiting = asyncio.create_task(waiter.acquire())
    await asyncio.sleep(0)
    path.unlink()
    path.parent.rmdir()
    holder.release()
    await waiting
    assert waiter.has_lock
    assert is_locked(path)
    waiter.release()


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "run" / "lock", tmp_path / "run" / "web" / "lock"):
        with pytest.raises(StoreError, match="cannot open lock"):
            LockFile(path, is_removed_with_directory=True).try_acquire()
