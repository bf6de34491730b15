"""Ports as Docker shows them: `0.0.0.0:8080->80/tcp`, ranges joined, those not published bare."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from engine.types import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.types import ContainerSummary, PublishedPort

_LIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
_EVERY_ADDRESS = ("0.0.0.0", "::")
_SHARED = ("host", "none")
_JOIN = "container:"


class PortMapping(NamedTuple):
    """A port of a container, and one address of the host's that leads to it.

    Attributes:
        container_port: Its number in the container.
        protocol: `tcp`, `udp` or `sctp`.
        host_address: IPv4 or IPv6; empty if nothing leads to it.
        host_port: 0 if nothing leads to it.
    """

    container_port: int
    protocol: str
    host_address: str = ""
    host_port: int = 0

    @property
    def container_side(self) -> str:
        """`80/tcp`."""
        return f"{self.container_port}/{self.protocol}"

    @property
    def host_side(self) -> str:
        """`0.0.0.0:8080`, `[::]:8080`."""
        return join_host_port(self.host_address, str(self.host_port))


def join_host_port(address: str, port: str) -> str:
    """An address and what stands behind its colon; IPv6 gets its brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def mappings(ports: Iterable[PublishedPort]) -> list[PortMapping]:
    """Published ports, one for each address of the host's, in Docker's order."""
    found = [
        PortMapping(port.container_port, port.protocol, address, port.host_port)
        for port in ports
        for address in ((port.host_address,) if port.host_address else _EVERY_ADDRESS)
    ]
    return sorted(found, key=_order)


def container_mappings(container: ContainerSummary) -> list[PortMapping]:
    """What a running container listens on: published, and exposed only. One that rests has none."""
    if container.status not in _LIVE:
        return []
    published = mappings(container.ports)
    if _shares_network(container):
        return published
    known = {one.container_side for one in published}
    exposed = [one for one in map(_exposed, container.exposed_ports) if one is not None]
    bare = [one for one in exposed if one.container_side not in known]
    return sorted((*published, *bare), key=_order)


def ports_text(container: ContainerSummary) -> str:
    """The cell of `ps`: `0.0.0.0:8080->80/tcp, 443/tcp`.

    Neighbours that keep their number are one range, as `docker ps` has it; ports that change
    theirs stand at the end.
    """
    return ", ".join(_texts(container_mappings(container)))


def _texts(ports: Iterable[PortMapping]) -> Iterator[str]:
    open_groups: dict[tuple[str, str], tuple[int, int]] = {}
    changed: list[str] = []
    for port in ports:
        if port.host_address and port.host_port != port.container_port:
            changed.append(f"{port.host_side}->{port.container_side}")
            continue
        key = (port.host_address, port.protocol)
        first, last = open_groups.get(key, (0, 0))
        if last and port.container_port == last + 1:
            open_groups[key] = (first, port.container_port)
            continue
        if last:
            yield _group(key, first, last)
        open_groups[key] = (port.container_port, port.container_port)
    for key, (first, last) in open_groups.items():
        yield _group(key, first, last)
    yield from changed


def _group(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    numbers = str(first) if first == last else f"{first}-{last}"
    if not address:
        return f"{numbers}/{protocol}"
    return f"{join_host_port(address, numbers)}->{numbers}/{protocol}"


def _order(port: PortMapping) -> tuple[int, int, bytes, int, str]:
    """By the container's port, then IPv4 before IPv6."""
    if not port.host_address:
        return port.container_port, 0, b"", 0, port.protocol
    address = ipaddress.ip_address(port.host_address)
    return port.container_port, address.version, address.packed, port.host_port, port.protocol


def _exposed(text: str) -> PortMapping | None:
    """Read `80/tcp`; what an image says is anybody's text."""
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        return None
    return PortMapping(int(number), protocol or "tcp")


def own_networks(container: ContainerSummary) -> tuple[str, ...]:
    """The networks of a container by name; another container's network has none here."""
    return tuple(name for name in container.network_names if not name.startswith(_JOIN))


def _shares_network(container: ContainerSummary) -> bool:
    return any(name in _SHARED or name.startswith(_JOIN) for name in container.network_names)
