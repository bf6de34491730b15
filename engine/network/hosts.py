"""/etc/hosts of a container: what is in it at a start, and how it follows its networks."""

from __future__ import annotations

from engine.late_dataclasses import dataclass
from engine.network.attachments import HOST_GATEWAY

_LOOPBACK = "127.0.0.1"
_BEGINNING = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLines:
    """What a container's hosts say of itself.

    Attributes:
        names: Its hostname and its name.
        addresses: Its own; without one its loopback's.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Its lines."""
        own = " ".join(dict.fromkeys(self.names))
        return [f"{address}\t{own}" for address in self.addresses or (_LOOPBACK,)]


def hosts_text(
    own: OwnLines,
    *,
    extra_hosts: tuple[tuple[str, str], ...] = (),
    gateways: tuple[str, ...] = (),
) -> str:
    """The hosts of a container with a network namespace of its own.

    Args:
        own: What it is called and where.
        extra_hosts: Name and address, which may be `host-gateway`.
        gateways: Where the host is to be reached, IPv4 before IPv6.
    """
    return _BEGINNING + _joined(_extra_lines(extra_hosts, gateways) + own.lines)


def shared_hosts_text(
    hosts: str, *, extra_hosts: tuple[tuple[str, str], ...] = (), gateways: tuple[str, ...] = ()
) -> str:
    """The hosts of a container in the host's network: the host's own, and what was asked for."""
    lines = _extra_lines(extra_hosts, gateways)
    if lines and hosts and not hosts.endswith("\n"):
        hosts += "\n"
    return hosts + _joined(lines)


def _extra_lines(extra_hosts: tuple[tuple[str, str], ...], gateways: tuple[str, ...]) -> list[str]:
    return [
        f"{each}\t{name}"
        for name, address in extra_hosts
        for each in (gateways if address == HOST_GATEWAY else (address,))
    ]


def changed_hosts(text: str, *, before: OwnLines, after: OwnLines) -> str:
    """The hosts of a container that was put into a network, taken out of one, or renamed.

    Nothing else of the file changes: programs may have written to it.
    """
    gone = set(before.lines)
    return _joined([line for line in text.splitlines() if line not in gone] + after.lines)


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
