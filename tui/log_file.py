"""Saving a container's whole log to a file of the person's choice."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.operations import Progress, ProgressListener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.api import EngineApi


async def save_log(
    engine: EngineApi, reference: str, path: Path, *, progress: ProgressListener
) -> int:
    """Write the log as the container wrote it to a file; runs on the engine's loop.

    The file gets its name, and takes the place of one that had it, when it is whole. What was
    written so far is removed when this is cancelled or fails.

    Returns:
        How many lines there are in the file.

    Raises:
        EngineError: The file cannot be written, or there is no such container.
    """

    async def pieces() -> AsyncIterator[bytes]:
        async for lines in engine.follow_logs(reference):
            yield b"".join(line.text + (b"" if line.is_partial else b"\n") for line in lines)

    return await write_whole(path, pieces(), progress=progress)


async def write_whole(
    path: Path, pieces: AsyncIterator[bytes], *, progress: ProgressListener
) -> int:
    """Write a log to a file, as `save_log` does.

    Returns:
        How many lines there are in the file.

    Raises:
        EngineError: The file cannot be written.
    """
    count = 0
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = await asyncio.to_thread(unfinished.open, "xb")
    except OSError as error:
        raise _cannot_save(path, error) from error
    try:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
            count += piece.count(b"\n")
            progress(Progress(step="Writing the log", done=count, unit="lines"))
        await asyncio.to_thread(file.close)
        await asyncio.to_thread(os.replace, unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        if isinstance(error, OSError):
            raise _cannot_save(path, error) from error
        raise
    return count


def _cannot_save(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"cannot save {path}: {error.strerror or error}", hint="Choose another file name"
    )
