"""Frames that somebody on the loop waits for: answers of lanes, workers and monitors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.runtime.protocol import HEADER_BYTES, FrameKind, parse_header, read_error

if TYPE_CHECKING:
    import socket


async def receive_exactly(channel: socket.socket, length: int) -> bytes:
    """Receive so many bytes from a socket that does not block.

    Raises:
        EOFError: It ended before.
        OSError: It broke.
    """
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < length:
        part = await loop.sock_recv(channel, length - len(received))
        if not part:
            raise EOFError
        received += part
    return received


async def receive_answer(channel: socket.socket) -> tuple[FrameKind, bytes]:
    """Receive a frame without descriptors.

    Raises:
        EngineError: What the other side reported.
        EOFError: It ended before.
        OSError: It broke.
    """
    length, kind = parse_header(await receive_exactly(channel, HEADER_BYTES))
    payload = await receive_exactly(channel, length)
    if kind is FrameKind.ERROR:
        raise read_error(payload)
    return kind, payload
