"""Runs one command: an event loop, an open engine, signals, and what is said at the end."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.errors import EngineError, InvalidInputError
from tui.cli import output

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi
    from tui.cli.command import Command
    from tui.cli.options import Arguments


class Opener(Protocol):
    """Opens an engine: `engine.api.open_engine`, or a test's."""

    def __call__(
        self, *, root: Path | None = None, run: Path | None = None, only_looks: bool = False
    ) -> AbstractAsyncContextManager[EngineApi]:
        """Return a context manager that opens the engine over these directories."""


def run_command(
    command: Command,
    arguments: Arguments,
    *,
    root: str | None,
    run: str | None,
    opener: Opener | None,
) -> int:
    """Open the engine, do the command, close the engine; returns the exit code."""
    for name, directory in (("--root", root), ("--run", run)):
        if directory is not None:
            _check_directory(name, directory)
    opened = (opener or _open_engine)(
        root=_path(root), run=_path(run), only_looks=command.only_looks
    )
    import asyncio

    async def session() -> int:
        async with opened as engine:
            return await command.action(engine, arguments)

    try:
        return asyncio.run(session())
    except BaseExceptionGroup as group:
        # A TaskGroup wraps what its tasks raise; the person wants the first cause.
        raise _first_cause(group) from group


def _open_engine(
    *, root: Path | None = None, run: Path | None = None, only_looks: bool = False
) -> AbstractAsyncContextManager[EngineApi]:
    # What is imported stays: the collector would only look through it, again and again.
    gc.disable()
    try:
        from engine.api import open_engine

        return open_engine(root=root, run=run, only_looks=only_looks)
    finally:
        gc.freeze()
        gc.enable()


async def for_each(
    references: Sequence[str],
    act: Callable[[str], Awaitable[None]],
) -> int:
    """Do something to each reference, report each failure, and go on; 1 if any failed."""
    exit_code = 0
    for reference in references:
        try:
            await act(reference)
        except EngineError as error:
            output.write_message(f"Error: {error.message}")
            if error.hint:
                output.write_message(f"hint: {error.hint}")
            exit_code = 1
    return exit_code


def _check_directory(name: str, directory: str) -> None:
    if not directory:
        raise InvalidInputError(f"{name} needs a directory")
    if not os.path.isabs(directory):
        try:
            os.getcwd()
        except FileNotFoundError:
            raise InvalidInputError(
                f"{name} {directory}: the working directory was removed",
                hint="`cd` to a directory that exists, or give an absolute path",
            ) from None


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause
