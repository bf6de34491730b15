"""The names and addresses of a network's members, as questions ask for them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.runtime.dns_messages import (
    AAAA,
    ANY,
    IN,
    PTR,
    A,
    Record,
    name_of,
    reversed_address,
    write_name,
)
from engine.runtime.network_view import WatchedContent, read_members

if TYPE_CHECKING:
    from engine.runtime.dns_messages import Name, Query
    from engine.runtime.network_view import SeenNetwork

_KINDS = {4: A, 16: AAAA}


@dataclass(frozen=True, slots=True)
class _Members:
    """One network.

    Attributes:
        addresses: Of each name.
        names: The first name of who has an address.
    """

    addresses: dict[Name, tuple[bytes, ...]]
    names: dict[bytes, str]


class LocalNames:
    """Answers from the files of the networks that a container is in."""

    def __init__(self) -> None:
        self._networks: dict[str, WatchedContent[_Members]] = {}
        self._turn = 0

    def find(self, networks: tuple[SeenNetwork, ...], query: Query) -> tuple[Record, ...] | None:
        """The records that are asked for; None if nobody here has that name or address.

        The first network that knows the name answers. A name without records of a kind is one
        all the same: to ask somebody else for it would bring another host's address.
        """
        if query.record_class not in {IN, ANY}:
            return None
        if len(self._networks) > len(networks):
            kept = {network.directory for network in networks}
            self._networks = {
                directory: members
                for directory, members in self._networks.items()
                if directory in kept
            }
        for network in networks:
            members = self._members(network.directory)
            if query.kind == PTR:
                found = _owner(network, members, query)
            else:
                found = self._addresses(network, members, query)
            if found is not None:
                return found
        return None

    def _members(self, directory: str) -> _Members:
        watched = self._networks.get(directory)
        if watched is None:
            watched = self._networks[directory] = WatchedContent(directory, _read)
        return watched.get()

    def _addresses(
        self, network: SeenNetwork, members: _Members, query: Query
    ) -> tuple[Record, ...] | None:
        name = query.lower_name
        addresses = members.addresses.get(name)
        if addresses is None:
            domain = name_of(network.name)
            if not domain or name[-len(domain) :] != domain:
                return None
            addresses = members.addresses.get(name[: -len(domain)])
            if addresses is None:
                return None
        # Each of those that share an alias comes first in its turn.
        self._turn += 1
        start = self._turn % len(addresses) if addresses else 0
        return tuple(
            Record(kind=kind, content=address)
            for address in addresses[start:] + addresses[:start]
            if query.kind in {kind := _KINDS[len(address)], ANY}
        )


def _owner(network: SeenNetwork, members: _Members, query: Query) -> tuple[Record, ...] | None:
    address = reversed_address(query.name)
    owner = members.names.get(address) if address else None
    name = name_of(f"{owner}.{network.name}") if owner else None
    return None if name is None else (Record(kind=PTR, content=write_name(name)),)


def _read(directory: str) -> _Members:
    addresses: dict[Name, list[bytes]] = {}
    names: dict[bytes, str] = {}
    for member in read_members(directory):
        packed = [content for text in member.addresses if (content := _pack(text))]
        for text in member.names:
            name = name_of(text)
            if name is not None:
                known = addresses.setdefault(name, [])
                known += [address for address in packed if address not in known]
        for address in packed:
            if member.names:
                names.setdefault(address, member.names[0])
    return _Members({name: tuple(found) for name, found in addresses.items()}, names)


def _pack(text: str) -> bytes:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
    return b""
