"""A build context that comes as a tar on standard input."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import TYPE_CHECKING

from engine.build.archive_streams import ArchiveStream
from engine.errors import ArchiveError, NoSpaceError
from engine.operations import Cancellation, wait_for_thread
from engine.snapshots.tar import TarReader
from engine.snapshots.tree_extraction import ExtractionPolicy, TreeExtractor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LABEL = "the build context on standard input"


async def unpack_context(descriptor: int, directory: Path) -> None:
    """Unpack a tar, compressed or not, into a new directory.

    Cancelling ends it, also while it waits for what comes next; what is there is left there.

    Args:
        descriptor: Of a file, a pipe or a socket; the caller's, and read to its end.
        directory: Is made.

    Raises:
        ArchiveError: What comes is no tar, or damaged.
        NoSpaceError: The disk is full.
    """
    with _cancellation() as cancellation:

        def unpack() -> None:
            directory.mkdir(mode=0o700)
            target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _extract(descriptor, target, cancellation)
            finally:
                os.close(target)

        future = asyncio.get_running_loop().run_in_executor(None, unpack)
        await wait_for_thread(future, end=cancellation.cancel)


@contextlib.contextmanager
def _cancellation() -> Iterator[Cancellation]:
    cancellation = Cancellation()
    try:
        yield cancellation
    finally:
        cancellation.close()


def _extract(descriptor: int, target: int, cancellation: Cancellation) -> None:
    policy = ExtractionPolicy(
        keeps_owners=False, makes_devices=False, keeps_set_id=True, label=_LABEL
    )
    try:
        stream = ArchiveStream(descriptor, label=_LABEL, cancellation=cancellation)
        reader = TarReader(stream, label=_LABEL)
        TreeExtractor(target, policy).extract(
            reader, reader, rename=lambda name: name, on_entry=lambda: None
        )
        stream.finish()
    except ArchiveError as error:
        raise ArchiveError(
            _LABEL, error.reason, hint="`tar -c . | lamella build -` sends a directory"
        ) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(_LABEL) from None
        raise ArchiveError(_LABEL, error.strerror or str(error)) from None
