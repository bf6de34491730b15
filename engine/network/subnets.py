"""Which addresses a network has: what a person may ask for, and what is drawn for the others."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, TypeAlias

from engine.errors import InvalidInputError
from engine.types import NetworkSubnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IPSubnet: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

# A bridge has 1024 ports at most (the kernel's BR_MAX_PORTS): more addresses are of no use.
_DRAWN_PREFIX = 22
_POOLS = tuple(
    ipaddress.IPv4Network(text)
    # Not among them: 10.88 and 10.89 to 10.255 (Podman), 172.17 to 172.31 (Docker).
    for text in ("10.80.0.0/13", "192.168.96.0/19", "172.16.0.0/16")
)
_TOO_WIDE = 7
"""Routes as wide as this lead to everywhere: a default route, or the halves that a VPN sets."""
_SMALLEST_IPV4_PREFIX_LENGTH = 30
_ULA_PREFIX = 0xFD


def draw_ipv4_subnet(taken: Iterable[IPSubnet], *, turn: int = 0) -> NetworkSubnet:
    """A subnet that overlaps none of these.

    Args:
        taken: Other networks', and those to which the host has routes.
        turn: How far from a pool's beginning to look first. Stores of one host know nothing of
            each other's networks until there is a route to them.

    Raises:
        InvalidInputError: There is none left; the text is Docker's.
    """
    others = [subnet for subnet in taken if subnet.version == 4 and not is_wide(subnet)]
    for candidate in _candidates(turn):
        if not any(candidate.overlaps(other) for other in others):
            return NetworkSubnet(subnet=str(candidate), gateway=str(candidate[1]))
    raise InvalidInputError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to "
        "assign to the network",
        hint="Routes of this host cover them all, as those of a VPN do: choose one with --subnet",
    )


def draw_ipv6_subnet(store_id: str, network_id: str) -> NetworkSubnet:
    """A unique local /64: 40 bits are the store's, 16 the network's (RFC 4193)."""
    site = hashlib.sha256(store_id.encode()).digest()[:5]
    part = hashlib.sha256(network_id.encode()).digest()[:2]
    number = int.from_bytes(bytes((_ULA_PREFIX,)) + site + part + bytes(8), "big")
    subnet = ipaddress.IPv6Network((number, 64))
    return NetworkSubnet(subnet=str(subnet), gateway=str(subnet[1]))


def check_subnet(asked: NetworkSubnet) -> NetworkSubnet:
    """A subnet as a person asks for it, with its gateway; the texts are Docker's.

    Raises:
        InvalidInputError: It makes no sense.
    """
    try:
        subnet = ipaddress.ip_network(asked.subnet)
    except ValueError as error:
        if "host bits set" in str(error):
            whole = ipaddress.ip_network(asked.subnet, strict=False)
            raise InvalidInputError(
                f"invalid network config: invalid subnet {asked.subnet}: it should be {whole}"
            ) from None
        raise InvalidInputError(
            f"invalid network config: invalid subnet {asked.subnet}: invalid CIDR block notation",
            hint="Write --subnet 10.80.4.0/22",
        ) from None
    if subnet.max_prefixlen - subnet.prefixlen < 32 - _SMALLEST_IPV4_PREFIX_LENGTH:
        raise InvalidInputError(
            f"invalid network config: subnet {subnet} has no room for a gateway and a container"
        )
    if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local:
        raise InvalidInputError(f"invalid network config: {subnet} is not for networks")
    gateway = _address(asked.gateway, "gateway") if asked.gateway else subnet[1]
    if gateway not in subnet or gateway in {subnet.network_address, subnet.broadcast_address}:
        raise InvalidInputError(
            f"invalid network config: no matching subnet for gateway {asked.gateway}"
        )
    if asked.ip_range:
        _check_range(asked.ip_range, subnet)
    auxiliary = tuple(
        (name, _address(text, "auxiliary")) for name, text in asked.auxiliary_addresses
    )
    for name, address in auxiliary:
        if address not in subnet:
            raise InvalidInputError(
                f"invalid network config: no matching subnet for aux-address {address}"
            )
        if address == gateway:
            raise InvalidInputError(
                f"failed to allocate secondary ip address ({name}:{address}): Address already in "
                "use",
                hint="It is the gateway's",
            )
    return NetworkSubnet(
        subnet=str(subnet),
        gateway=str(gateway),
        ip_range=asked.ip_range,
        auxiliary_addresses=tuple((name, str(address)) for name, address in auxiliary),
    )


def refuse_overlap(wanted: Iterable[IPSubnet], taken: Iterable[IPSubnet]) -> None:
    """Refuse a subnet that shares addresses with another network's; the text is Docker's.

    Raises:
        InvalidInputError: One does.
    """
    others = tuple(taken)
    for subnet in wanted:
        for other in others:
            if subnet.version == other.version and subnet.overlaps(other):
                raise InvalidInputError(
                    "invalid pool request: Pool overlaps with other one on this address space: "
                    f"{subnet} and {other}",
                    hint="Choose another --subnet, or leave it out to have one drawn",
                )


def is_wide(subnet: IPSubnet) -> bool:
    """Whether a route to it is one to everywhere, and not to some others' addresses."""
    return subnet.prefixlen <= _TOO_WIDE


def parse_subnet(text: str) -> IPSubnet:
    """A subnet that was checked before."""
    return ipaddress.ip_network(text)


def _candidates(turn: int) -> Iterator[ipaddress.IPv4Network]:
    for pool in _POOLS:
        candidates = tuple(pool.subnets(new_prefix=_DRAWN_PREFIX))
        first = turn % len(candidates)
        yield from (*candidates[first:], *candidates[:first])


def _address(text: str, what: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInputError(f"invalid {what} address: {text!r}") from None


def _check_range(text: str, subnet: IPSubnet) -> None:
    try:
        part = ipaddress.ip_network(text)
    except ValueError:
        raise InvalidInputError(
            f"invalid network config: invalid ip-range {text}: invalid CIDR block notation"
        ) from None
    if part.version != subnet.version or not (
        part[0] in subnet and part[-1] in subnet and part.prefixlen >= subnet.prefixlen
    ):
        raise InvalidInputError(
            f"invalid network config: no matching subnet for range {text}",
            hint=f"It must be a part of {subnet}",
        )
