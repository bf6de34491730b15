"""Ports of the host's that lead to containers: drawn, and reserved by a socket that is bound.

The sockets are held in a channel, which goes to the container's monitor as one descriptor: they
are reserved for as long as anybody holds it, and whoever serves them takes them out there.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from typing import TYPE_CHECKING

from engine.errors import PortInUseError
from engine.late_dataclasses import dataclass
from engine.network.devices import read_setting

if TYPE_CHECKING:
    from engine.types import PublishedPort

_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}
_DRAWN = (49153, 65535)
_DRAWS = 64
_MOST_AT_ONCE = 200
"""Descriptors in one message; the kernel takes 253."""
_BACKLOG = 4096
_ANY4, _ANY6 = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPort:
    """A port of the host's that is reserved.

    Attributes:
        port: As it was asked for.
        number: The host's.
    """

    port: PublishedPort
    number: int


class PortReservation:
    """Ports that are bound, in a channel; `close` gives them back unless it went elsewhere too."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._waiting: list[socket.socket] = []
        self.bound: list[BoundPort] = []

    def fileno(self) -> int:
        """The channel's end that gives the sockets out."""
        return self._outside.fileno()

    def close(self) -> None:
        """Let go."""
        for one in self._waiting:
            one.close()
        self._inside.close()
        self._outside.close()

    def reserve(self, port: PublishedPort) -> None:
        """Bind a port; what is drawn is free at every address that is asked for. Blocking.

        Raises:
            PortInUseError: Something on the host has it, or this user may not.
        """
        if port.host_port and not port.host_port_end:
            self._bind(port, port.host_port)
            return
        error: PortInUseError | None = None
        for number in _candidates(port):
            try:
                self._bind(port, number)
            except PortInUseError as refused:
                error = refused
            else:
                return
        if port.host_port:
            raise PortInUseError(
                port.host_address or _ANY4,
                port.host_port,
                reason=f"every port up to {port.host_port_end} is already allocated",
            )
        assert error is not None
        raise error

    def _bind(self, port: PublishedPort, number: int) -> None:
        addresses = (port.host_address,) if port.host_address else (_ANY4, _ANY6)
        made: list[socket.socket] = []
        try:
            for address in addresses:
                one = _bound_socket(address, number, port.protocol)
                if one is not None:
                    made.append(one)
        except OSError as error:
            for one in made:
                one.close()
            raise _refusal(error, address, number) from None
        self.bound.append(BoundPort(port=port, number=number))
        self._waiting += made
        if len(self._waiting) >= _MOST_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Put what is bound into the channel, and keep no descriptor of it."""
        while self._waiting:
            part, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            rights = array.array("i", [one.fileno() for one in part])
            self._inside.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            for one in part:
                one.close()

    def seal(self) -> None:
        """Put the rest in: whoever takes the last one out finds the end behind it."""
        self.flush()
        self._inside.shutdown(socket.SHUT_WR)


def _candidates(port: PublishedPort) -> list[int]:
    if port.host_port:
        return list(range(port.host_port, port.host_port_end + 1))
    first, last = _DRAWN
    said = read_setting("ipv4/ip_local_port_range").split()
    if len(said) == 2 and all(word.isdigit() for word in said):
        # Docker's: what the kernel draws from for those who ask for none in particular.
        first, last = int(said[0]), int(said[1])
    size = last - first + 1
    begin = int.from_bytes(os.urandom(4), "big")
    return [first + (begin + step * 7919) % size for step in range(_DRAWS)]


def _bound_socket(address: str, number: int, protocol: str) -> socket.socket | None:
    """A socket that has the port, listening where it can; None if the host has no such thing."""
    is_ipv6 = ":" in address
    kind, transport = _KINDS[protocol]
    try:
        made = socket.socket(
            socket.AF_INET6 if is_ipv6 else socket.AF_INET, kind | socket.SOCK_CLOEXEC, transport
        )
    except OSError as error:
        # SCTP without its module, IPv6 switched off: the rules lead the packets all the same.
        if error.errno in {errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT}:
            return None
        raise
    try:
        if is_ipv6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # What was closed a moment ago does not count; who listens does.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, number))
        if kind == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        if address == _ANY6 and error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return made


def _refusal(error: OSError, address: str, number: int) -> PortInUseError:
    match error.errno:
        case errno.EADDRINUSE:
            return PortInUseError(address, number)
        case errno.EADDRNOTAVAIL:
            return PortInUseError(
                address, number, reason="cannot assign requested address: the host has it not"
            )
        case errno.EACCES:
            return PortInUseError(
                address, number, reason="permission denied: low ports are for root"
            )
        case _:
            reason = (error.strerror or str(error)).lower()
            return PortInUseError(address, number, reason=reason)
