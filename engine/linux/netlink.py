"""Netlink, as far as links, addresses, routes and netfilter need it (netlink(7)).

Messages are bytes that the functions of this module and of its neighbours make, so that one
process can write down what another sends. The kernel works a request off before send(2) returns,
and a process needs nothing but the standard library for it: importing a general library takes
longer than a whole start of a container.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

ROUTE = 0
NETFILTER = 12

REQUEST = 0x1
MULTIPLE = 0x2
ACKNOWLEDGE = 0x4
DUMP = 0x300
EXCLUSIVE = 0x200
CREATE = 0x400
APPEND = 0x800
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_TYPE_MASK = 0x3FFF
_MESSAGE_ERROR = 2
_MESSAGE_DONE = 3
_CAPPED = 0x100
_HAS_TEXT = 0x200
_TEXT = 1
_SOL_NETLINK = 270
_EXTENDED_ACKNOWLEDGE = 11
_GET_STRICT = 12
_RECEIVED_BYTES = 1 << 18
_BUFFER_BYTES = 8 << 20
_SNDBUF_FORCE, _RCVBUF_FORCE = 32, 33


class Message(NamedTuple):
    """One message of an answer: what of it is behind the header."""

    kind: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, with its padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """An attribute with a string, as the kernel wants it: with a NUL behind it."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """A message; its number is put in when it is sent."""
    body = b"".join(parts)
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, kind, flags | REQUEST, 0, 0) + body + bytes(-length % 4)


def attributes_of(body: bytes) -> dict[int, bytes]:
    """The attributes in a body; of several of one kind the last."""
    return dict(iterate_attributes(body))


def iterate_attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Every attribute in a body, in order; what is cut off is left out."""
    place = 0
    while place + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, place)
        if length < _ATTRIBUTE.size or place + length > len(body):
            return
        yield kind & _TYPE_MASK, body[place + _ATTRIBUTE.size : place + length]
        place += length + (-length % 4)


def read_text(value: bytes) -> str:
    """A string from an attribute."""
    return value.partition(b"\0")[0].decode(errors="replace")


class NetlinkSocket:
    """A connection to the kernel, for the network namespace of whoever makes it; blocking."""

    def __init__(self, protocol: int) -> None:
        """Open it.

        Raises:
            OSError: This kernel has no such protocol.
        """
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._number = 0
        try:
            self._socket.setsockopt(_SOL_NETLINK, _EXTENDED_ACKNOWLEDGE, 1)
            # Lets a dump be asked of one network's table only; older kernels do not know it.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT, 1)
            # A transaction is one datagram with many answers.
            for size, forced in (
                (socket.SO_RCVBUF, _RCVBUF_FORCE),
                (socket.SO_SNDBUF, _SNDBUF_FORCE),
            ):
                self._make_room(size, forced)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise

    def _make_room(self, option: int, forced: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
        except PermissionError:
            # Then it is cut to the host's limit.
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def execute(self, messages: Iterable[bytes], *, what: str) -> None:
        """Send messages in one go and wait for the answer to each.

        Every one is tried, whatever became of those before it, unless they are a transaction of
        netfilter.

        Args:
            messages: Each with ACKNOWLEDGE, but for what opens and ends a transaction.
            what: For errors: `make a link`.

        Raises:
            SyscallError: Of the first that failed, with the kernel's own words.
        """
        for failed in self.execute_each(messages, what=what):
            raise failed

    def execute_each(self, messages: Iterable[bytes], *, what: str) -> tuple[SyscallError, ...]:
        """As `execute`, but return the errors."""
        sent = []
        awaited = set()
        for one in messages:
            self._number += 1
            length, kind, flags, _number, _port = _HEADER.unpack_from(one)
            header = _HEADER.pack(length, kind, flags, self._number, 0)
            sent.append(header + one[_HEADER.size :])
            if flags & ACKNOWLEDGE:
                awaited.add(self._number)
        if not sent:
            return ()
        self._transmit(b"".join(sent), what)
        errors: list[SyscallError] = []
        is_refused = False
        while awaited:
            received = self._receive(what, is_waiting=not is_refused)
            if not received:
                break
            for number, kind, flags, body in _split(received):
                if kind != _MESSAGE_ERROR:
                    continue
                refused = _read_error(body, flags, what)
                if refused is not None:
                    errors.append(refused)
                    # When a transaction as a whole is refused, not every answer comes.
                    is_refused = is_refused or number not in awaited
                awaited.discard(number)
        return tuple(errors)

    def ask(self, request: bytes, *, what: str) -> Message | None:
        """Ask for one thing; None if it is not there.

        Raises:
            SyscallError: The kernel does not say.
        """
        found: Message | None = None
        number = self._send(request, what)
        while True:
            for answered, kind, flags, body in _split(self._receive(what)):
                if answered != number:
                    continue
                if kind != _MESSAGE_ERROR:
                    found = Message(kind, body)
                    continue
                error = _read_error(body, flags, what)
                if error is None:
                    return found
                if error.errno in _NOT_THERE:
                    return None
                raise error

    def dump(self, request: bytes, *, what: str) -> list[Message]:
        """Ask for everything of a kind.

        Raises:
            SyscallError: The kernel does not say.
        """
        found: list[Message] = []
        number = self._send(request, what)
        while True:
            for answered, kind, flags, body in _split(self._receive(what)):
                if answered != number:
                    continue
                if kind == _MESSAGE_DONE:
                    code = _ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0
                    if code < 0:
                        raise SyscallError("netlink", -code, what)
                    return found
                if kind != _MESSAGE_ERROR:
                    found.append(Message(kind, body))
                    continue
                error = _read_error(body, flags, what)
                if error is None:
                    return found
                if error.errno in _NOT_THERE:
                    return []
                raise error

    def _send(self, request: bytes, what: str) -> int:
        self._number += 1
        length, kind, flags, _number, _port = _HEADER.unpack_from(request)
        header = _HEADER.pack(length, kind, flags, self._number, 0)
        self._transmit(header + request[_HEADER.size :], what)
        return self._number

    def _transmit(self, sent: bytes, what: str) -> None:
        try:
            self._socket.send(sent)
        except OSError as error:
            raise SyscallError("netlink", error.errno or 0, what) from None

    def _receive(self, what: str, *, is_waiting: bool = True) -> bytes:
        try:
            return self._socket.recv(_RECEIVED_BYTES, 0 if is_waiting else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise SyscallError("netlink", error.errno or 0, what) from None


_NOT_THERE = frozenset({2, 19})  # ENOENT, ENODEV


def _split(received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: number, kind, flags and what is behind the header."""
    place = 0
    while place + _HEADER.size <= len(received):
        length, kind, flags, number, _port = _HEADER.unpack_from(received, place)
        if length < _HEADER.size:
            return
        yield number, kind, flags, received[place + _HEADER.size : place + length]
        place += length + (-length % 4)


def _read_error(body: bytes, flags: int, what: str) -> SyscallError | None:
    """What an answer says; None if it was done."""
    code = -_ERROR.unpack_from(body)[0]
    if not code:
        return None
    said = ""
    if flags & _HAS_TEXT:
        place = _ERROR.size + _HEADER.size
        if not flags & _CAPPED:
            place = _ERROR.size + _HEADER.unpack_from(body, _ERROR.size)[0]
            place += -place % 4
        said = read_text(attributes_of(body[place:]).get(_TEXT, b""))
    detail = f"{what}: {said}" if said else what
    return SyscallError("netlink", code, detail)
