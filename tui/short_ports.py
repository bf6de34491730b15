"""How published ports read on the screen, and where they lead a browser."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.types import PublishedPort

EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_SECURE_PORTS = frozenset({443, 8443})


def joined(address: str, port: int | str) -> str:
    """An address with a port or a range of them behind it; an IPv6 one is in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def distinct_ports(ports: Iterable[PublishedPort]) -> tuple[PublishedPort, ...]:
    """By container port; one that is published at every address is there once."""
    known: dict[PublishedPort, None] = {}
    for port in ports:
        is_everywhere = port.host_address in EVERY_ADDRESS
        known[replace(port, host_address="") if is_everywhere else port] = None
    return tuple(sorted(known, key=_order))


def _order(port: PublishedPort) -> tuple[str, str, int, int]:
    return (port.protocol, port.host_address, port.container_port, port.host_port)


def port_text(port: PublishedPort) -> str:
    """`8080->80`, `127.0.0.1:5353->53/udp`: the protocol is said unless it is TCP.

    One that is still to be drawn is `any->80`, or `8000-8010->80`.
    """
    return _text(port, 1)


def _text(first: PublishedPort, count: int) -> str:
    host, container = str(first.host_port or "any"), str(first.container_port)
    if first.host_port_end:
        host += f"-{first.host_port_end}"
    if count > 1:
        host += f"-{first.host_port + count - 1}"
        container += f"-{first.container_port + count - 1}"
    if first.host_address not in EVERY_ADDRESS:
        host = joined(first.host_address, host)
    protocol = "" if first.protocol == "tcp" else f"/{first.protocol}"
    return f"{host}->{container}{protocol}"


def port_texts(ports: Iterable[PublishedPort]) -> tuple[str, ...]:
    """Each port, or range of ports that follow each other on both sides, as `port_text` has it."""
    texts: list[str] = []
    first: PublishedPort | None = None
    count = 0
    for port in distinct_ports(ports):
        if first is not None and _follows(port, first, count):
            count += 1
            continue
        if first is not None:
            texts.append(_text(first, count))
        first, count = port, 1
    if first is not None:
        texts.append(_text(first, count))
    return tuple(texts)


def _follows(port: PublishedPort, first: PublishedPort, count: int) -> bool:
    return not first.host_port_end and port == replace(
        first, container_port=first.container_port + count, host_port=first.host_port + count
    )


def shortest(ports: Iterable[PublishedPort]) -> str:
    """The host's side alone: `:8080`, or `:8080 +2` where there are more."""
    known = distinct_ports(ports)
    if not known:
        return ""
    more = f" +{len(known) - 1}" if len(known) > 1 else ""
    return f":{known[0].host_port}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """Where a browser finds a published port.

    Attributes:
        url: As the person's browser takes it.
        remark: What keeps it from working elsewhere than on this host, and the remedy; or empty.
    """

    port: PublishedPort
    url: str
    remark: str = ""


def web_addresses(
    ports: Iterable[PublishedPort], environment: Mapping[str, str]
) -> tuple[WebAddress, ...]:
    """Where the TCP ports are found: over SSH by the name that the person reached this host by."""
    return tuple(
        _web_address(port, environment)
        for port in distinct_ports(ports)
        if port.protocol == "tcp" and port.host_port
    )


def _web_address(port: PublishedPort, environment: Mapping[str, str]) -> WebAddress:
    scheme = "https" if port.container_port in _SECURE_PORTS else "http"
    # Client's address and port, ours and our port: sshd(8).
    connection = environment.get("SSH_CONNECTION", "").split()
    server = connection[2] if len(connection) == 4 else ""
    address, remark = port.host_address, ""
    if address in EVERY_ADDRESS:
        address = server or "localhost"
    elif server and address in _LOOPBACK:
        reached = joined(address, port.host_port)
        remark = (
            f"It is published on this host's loopback alone: "
            f"`ssh -L {port.host_port}:{reached} HOST` at your end brings it there"
        )
    return WebAddress(
        port=port, url=f"{scheme}://{joined(address, port.host_port)}/", remark=remark
    )
