"""What EXPOSE names: ports of the container as its configuration has them."""

from __future__ import annotations

import re

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([A-Za-z]*))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_HIGHEST = 65535


def container_ports(text: str) -> list[str]:
    """Ports such as `80/tcp` of a word such as `80-81/TCP`; nothing if it is none.

    What a host's address and port before it say means nothing here, as in Docker.
    """
    match = _PORTS.fullmatch(text.rpartition(":")[2])
    if match is None:
        return []
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS or not 0 <= first <= last <= _HIGHEST:
        return []
    return [f"{number}/{protocol}" for number in range(first, last + 1)]
