"""Connections that the kernel tracks, to be forgotten (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import struct

from engine.linux.netlink import ACKNOWLEDGE, attribute, message, nested

_SUBSYSTEM, _DELETE = 1, 2
_HEADER = struct.Struct("=BBH")
_IPV4, _IPV6 = 2, 10
_TUPLE_REPLY, _FILTER = 2, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_IPV4_SOURCE, _IPV6_SOURCE = 1, 3
_PROTOCOL_NUMBER = 1
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_SOURCE, _BY_PROTOCOL = 1 << 0, 1 << 3


def forget_connections(address: bytes, protocol: int) -> bytes:
    """Forget every connection of a protocol that an address answers to.

    Before Linux 5.8 the kernel knows no such choice and refuses, and forgets nothing.
    """
    is_ipv4 = len(address) == 4
    source = attribute(_IPV4_SOURCE if is_ipv4 else _IPV6_SOURCE, address)
    return message(
        _SUBSYSTEM << 8 | _DELETE,
        ACKNOWLEDGE,
        _HEADER.pack(_IPV4 if is_ipv4 else _IPV6, 0, 0),
        nested(
            _TUPLE_REPLY,
            nested(_TUPLE_IP, source),
            nested(_TUPLE_PROTOCOL, attribute(_PROTOCOL_NUMBER, bytes((protocol,)))),
        ),
        nested(
            _FILTER,
            attribute(_FILTER_ORIGINAL, struct.pack("=I", 0)),
            attribute(_FILTER_REPLY, struct.pack("=I", _BY_SOURCE | _BY_PROTOCOL)),
        ),
    )
