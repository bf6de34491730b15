"""Read a container's log, from any place and while it grows."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import SyscallError
from engine.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from engine.logs.files import LogFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from engine.types import LogLine

# Reads are short, so that two threads serve any number of readers; they start with the first.
_executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="lamella-logs")


async def read_log(
    path: str,
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    last_bytes: int | None = None,
) -> AsyncIterator[tuple[LogLine, ...]]:
    """Give what is in a log now, oldest first, in batches of at most 1,000 records.

    Nothing if there is no log. Damaged records are left out.

    Args:
        path: The current file; rotated ones beside it are read too.
        tail: Only the last lines, of those that `since_ns` leaves; a line counts once however
            many pieces it has.
        since_ns: Only records of this time (since the epoch) or later.
        until_ns: Only records of this time or earlier.
        last_bytes: Only so much of the end of the files, in whole records.
    """
    files = LogFiles(path)
    try:
        await _open(files, tail, since_ns, until_ns, last_bytes)
        while batch := await _read(files, is_following=False):
            yield batch
    finally:
        files.close()


async def follow_log(
    path: str,
    until_ended: Callable[[], Awaitable[object]],
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
) -> AsyncIterator[tuple[LogLine, ...]]:
    """Give what is in a log and what is added to it, also over rotations, until the writer ends.

    Args:
        path: As for `read_log`; the log need not exist yet. Without its directory, as after a
            removal, there is nothing to follow.
        until_ended: Returns when the log's writer has ended; what is in the log then is still
            given. It is cancelled if following ends first; its error is raised here.
        tail: As for `read_log`.
        since_ns: As for `read_log`.
        until_ns: As for `read_log`; also ends following.
    """
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    files = LogFiles(path)
    watcher = Inotify()

    def wake() -> None:
        watcher.read()
        woken.set()

    ended: asyncio.Future[object] | None = None
    try:
        try:
            watcher.watch(os.path.dirname(path) or ".", IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        except SyscallError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        loop.add_reader(watcher.descriptor, wake)
        ended = asyncio.ensure_future(until_ended())
        ended.add_done_callback(lambda _: woken.set())
        await _open(files, tail, since_ns, until_ns)
        while True:
            has_ended = ended.done()
            woken.clear()
            batch = await _read(files, is_following=True)
            if batch is None:
                return
            if batch:
                yield batch
            elif has_ended:
                ended.result()
                return
            else:
                await woken.wait()
    finally:
        loop.remove_reader(watcher.descriptor)
        watcher.close_soon()
        files.close()
        if ended is not None:
            ended.cancel()


async def _open(
    files: LogFiles,
    tail: int | None,
    since_ns: int | None,
    until_ns: int | None,
    last_bytes: int | None = None,
) -> None:
    open_files = functools.partial(
        files.open, tail=tail, since_ns=since_ns, until_ns=until_ns, last_bytes=last_bytes
    )
    await asyncio.get_running_loop().run_in_executor(_executor, open_files)


async def _read(files: LogFiles, *, is_following: bool) -> tuple[LogLine, ...] | None:
    return await asyncio.get_running_loop().run_in_executor(
        _executor, lambda: files.read_batch(is_following=is_following)
    )
