"""resolv.conf of the host, and its name servers in the order in which they are best asked."""

from __future__ import annotations

import socket
import time
from typing import TypeAlias

from engine.late_dataclasses import dataclass
from engine.runtime.network_view import read_bounded

MOST_SERVERS = 3
"""MAXNS of resolv.h: no libc asks more of them."""
_SILENCE_SECONDS = 30.0
_NAME_PORT = 53
_Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """What a resolv.conf says (resolv.conf(5)).

    Attributes:
        servers: Addresses, `fe80::1%eth0` among them.
        search: Domains.
        options: `ndots:2`, `timeout:1`.
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A name server as a socket takes it."""

    family: int
    address: _Address


def read_resolver(path: str) -> Resolver:
    """What a file says; nothing if it cannot be read. Blocking."""
    return parse_resolver(read_bounded(path).decode(errors="replace"))


def parse_resolver(text: str) -> Resolver:
    """What a text says; what no libc understands is left out."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, None] = {}
    for line in text.splitlines():
        word, *values = line.split() or [""]
        values = _before_comment(values)
        if word == "nameserver" and values and is_server(values[0]):
            servers.append(values[0])
        elif word in {"search", "domain"} and values:
            # The last line counts, whichever of the two it is.
            search = tuple(values if word == "search" else values[:1])
        elif word == "options":
            options.update(dict.fromkeys(values))
    return Resolver(servers=tuple(servers), search=search, options=tuple(options))


def _before_comment(values: list[str]) -> list[str]:
    for place, value in enumerate(values):
        if value.startswith(("#", ";")):
            return values[:place]
    return values


def is_server(text: str) -> bool:
    """Whether a text is an address of a name server."""
    return _family_of(text) != 0


def is_loopback(text: str) -> bool:
    """Whether a name server is on the very host that says so."""
    return text.startswith("127.") or text == "::1"


def _family_of(text: str) -> int:
    for family, address in ((socket.AF_INET, text), (socket.AF_INET6, text.partition("%")[0])):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return family
    return 0


def _upstream(text: str) -> Upstream | None:
    family = _family_of(text)
    if family == socket.AF_INET:
        return Upstream(family=family, address=(text, _NAME_PORT))
    address, _, zone = text.partition("%")
    scope = 0
    if zone:
        try:
            scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
        except OSError:  # that link is not there now
            return None
    return Upstream(family=family, address=(address, _NAME_PORT, 0, scope)) if family else None


class UpstreamOrder:
    """Which servers are asked first: as they are listed, but for those that were silent lately."""

    def __init__(self) -> None:
        self._silent_until: dict[_Address, float] = {}

    def of(self, texts: tuple[str, ...]) -> tuple[Upstream, ...]:
        """The servers to ask, one after the other."""
        found = [upstream for text in texts[:MOST_SERVERS] if (upstream := _upstream(text))]
        now = time.monotonic()
        return tuple(
            sorted(found, key=lambda each: self._silent_until.get(each.address, 0.0) > now)
        )

    def note_silence(self, server: Upstream) -> None:
        """It has not answered in time."""
        if len(self._silent_until) > MOST_SERVERS * 4:
            self._silent_until.clear()
        self._silent_until[server.address] = time.monotonic() + _SILENCE_SECONDS

    def note_answer(self, server: Upstream) -> None:
        """It has answered."""
        self._silent_until.pop(server.address, None)
