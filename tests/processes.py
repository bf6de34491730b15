"""Processes that are not this one's children: whether they run, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import os

import psutil


def is_alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def ended(process_id: int) -> None:
    """Wait until a process has ended; one that has gone already has."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(process_id)
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
