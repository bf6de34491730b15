"""Gives the person's whole terminal to a program of an open terminal, byte for byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.types import OutputStream, SessionOutput
from tui.terminal.detach import DEFAULT_DETACH_KEYS, DetachScanner, parse_detach_keys
from tui.terminal.paint import screen_sequence
from tui.terminal.relay import RelayEnd, relay_terminal

if TYPE_CHECKING:
    from engine.types import TerminalSize
    from tui.terminal.session import OpenTerminal

_DRAWING_DESCRIPTOR = 2
"""Where the application draws."""
LEAVE_KEYS = "ctrl-]"


class _TappedSession:
    """An open terminal as a session: what it gets is read here first, keys go the same way."""

    has_terminal = True

    def __init__(self, terminal: OpenTerminal) -> None:
        self._terminal = terminal
        notice = f"\r\n\x1b[0m[{LEAVE_KEYS} comes back to lamella]\r\n".encode()
        self._data = notice + screen_sequence(terminal.model)
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._is_closed = False

    @property
    def exit_code(self) -> int | None:
        return self._terminal.exit_code

    async def read(self) -> SessionOutput | None:
        while not self._data:
            if self._terminal.is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        data, self._data = self._data, b""
        self._taken.set()
        return SessionOutput(stream=OutputStream.STDOUT, data=data)

    async def tap(self, data: bytes) -> None:
        """Take output; returns when the real terminal has taken what came before it."""
        while self._data and not self._is_closed:
            self._taken.clear()
            await self._taken.wait()
        self._data += data
        self._changed.set()

    def changed(self) -> None:
        self._changed.set()

    def close(self) -> None:
        self._is_closed = True
        self._taken.set()

    async def write(self, data: bytes) -> None:
        while not self._terminal.send(data):
            self._terminal.sent.clear()
            await self._terminal.sent.wait()

    async def end_input(self) -> None:
        return

    async def resize(self, size: TerminalSize) -> None:
        self._terminal.resize(size)

    async def detach(self) -> None:
        return  # leaving the whole screen is not leaving the program


async def hand_over(terminal: OpenTerminal) -> RelayEnd:
    """Relay until ctrl-], ctrl-p ctrl-q, the program's end or a signal.

    The application must be suspended: nobody else may read or draw on the terminal.
    """
    scanner = DetachScanner(parse_detach_keys(LEAVE_KEYS), parse_detach_keys(DEFAULT_DETACH_KEYS))
    session = _TappedSession(terminal)
    before = terminal.listener
    terminal.tap, terminal.listener = session.tap, session.changed
    try:
        return await relay_terminal(session, scanner, descriptor=_DRAWING_DESCRIPTOR)
    finally:
        terminal.tap, terminal.listener = None, before
        session.close()
