"""The engine's end of a session with a program in a container, on its monitor's socket."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import msgspec

from engine.errors import SessionLostError
from engine.runtime.protocol import LARGEST_INPUT_BYTES, PacketKind, SessionEnd
from engine.types import OutputStream, SessionOutput, TerminalSize

if TYPE_CHECKING:
    import socket

_LARGEST_OUTPUT_BYTES = (1 << 16) + 1
_SIZE = struct.Struct("!HH")
_MOST_CELLS = 0xFFFF
_STREAMS = {PacketKind.OUTPUT: OutputStream.STDOUT, PacketKind.ERRORS: OutputStream.STDERR}


class MonitorSession:
    """One connection after `attach` or `exec`; for one reader and one writer at a time."""

    def __init__(self, connection: socket.socket, *, container_id: str, has_terminal: bool) -> None:
        """Take a connection over, whose call has been answered; it is non-blocking."""
        self._connection = connection
        self._container_id = container_id
        self._has_terminal = has_terminal
        self._exit_code: int | None = None
        self._is_ended = False

    @property
    def has_terminal(self) -> bool:
        """Whether the program has a terminal."""
        return self._has_terminal

    @property
    def exit_code(self) -> int | None:
        """How the program ended, once `read` has returned None."""
        return self._exit_code

    async def read(self) -> SessionOutput | None:
        """Wait for output; None when the program has ended.

        Raises:
            SessionLostError: The other side ended first, or let this slow reader go.
        """
        if self._is_ended:
            return None
        try:
            packet = await asyncio.get_running_loop().sock_recv(
                self._connection, _LARGEST_OUTPUT_BYTES
            )
        except ConnectionError:
            packet = b""
        kind, data = packet[:1], packet[1:]
        if kind == PacketKind.END:
            self._is_ended = True
            self._exit_code = msgspec.json.decode(data, type=SessionEnd).exit_code
            return None
        stream = _STREAMS.get(kind)
        if stream is None:
            raise SessionLostError(self._container_id)
        return SessionOutput(stream=stream, data=data)

    async def write(self, data: bytes) -> None:
        """Send input; waits while the program does not read. A program that has ended gets none."""
        for start in range(0, len(data), LARGEST_INPUT_BYTES):
            await self._send(PacketKind.INPUT + data[start : start + LARGEST_INPUT_BYTES])

    async def end_input(self) -> None:
        """Close the program's stdin; without effect on a terminal."""
        await self._send(PacketKind.INPUT_END)

    async def resize(self, size: TerminalSize) -> None:
        """Tell the terminal its size."""
        await self._send(
            PacketKind.RESIZE
            + _SIZE.pack(min(size.columns, _MOST_CELLS), min(size.rows, _MOST_CELLS))
        )

    async def detach(self) -> None:
        """Let the program go on as it is when the session is left."""
        await self._send(PacketKind.DETACH)

    async def _send(self, packet: bytes) -> None:
        # One call sends a whole packet, or waits until there is room for all of it.
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, packet)
        except ConnectionError:
            return  # `read` tells what became of the program

    def close(self) -> None:
        """Leave the session; what becomes of the program is as for Session."""
        self._connection.close()
