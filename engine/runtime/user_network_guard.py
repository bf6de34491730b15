"""What an ordinary user's container may not send: anything to the addresses that mean the host.

Who speaks for a container sends on from the host what comes out of its device. Packets to
127.0.0.1 do come out of it, if a socket is bound to the device or a program writes frames, and
would reach what listens on the loopback of the host alone (as in CVE-2020-8558).
"""

from __future__ import annotations

from engine.errors import SyscallError
from engine.linux.netfilter import (
    DROP,
    EGRESS,
    INET,
    IPV4,
    IPV6,
    LINK_HEADER,
    NETDEV,
    NETWORK_HEADER,
    OUTPUT,
    OUTPUT_NAME,
    add_chain,
    add_rule,
    add_table,
    decide,
    equals,
    interface_key,
    is_family,
    load_meta,
    load_payload,
    transaction,
)
from engine.linux.netlink import NETFILTER, NetlinkSocket

_TABLE = "lamella-guard"
_CHAIN = "out"
_PRIORITY = 0
_KIND_OF_FRAME = (LINK_HEADER, 12, 2)
_ETHERNET = {IPV4: b"\x08\x00", IPV6: b"\x86\xdd"}
_OF_THE_HOST = (
    # 127.0.0.0/8, and 0.0.0.0/8, which connect(2) takes for it.
    (IPV4, 16, b"\x7f"),
    (IPV4, 16, b"\0"),
    # ::, ::1, and IPv4 in the clothes of IPv6.
    (IPV6, 24, bytes(10)),
)
"""Family, where in the header the destination is, and how it begins."""


def guard_device(name: str) -> None:
    """Keep it in; in the container's namespace, when the device is there.

    Where the kernel looks at what leaves a device (5.16), that is asked; elsewhere at what leaves
    sockets, which frames of programs with NET_RAW go past.

    Raises:
        SyscallError: The kernel has no netfilter.
        OSError: Nor anything to ask it by.
    """
    with NetlinkSocket(NETFILTER) as connection:
        try:
            connection.execute(_at_device(name), what=f"guard {name}")
        except SyscallError:
            connection.execute(_at_sockets(name), what=f"guard {name}")


def _at_device(name: str) -> list[bytes]:
    chain = add_chain(
        NETDEV, _TABLE, _CHAIN, kind="filter", hook=EGRESS, priority=_PRIORITY, device=name
    )
    # What a program says of its frame may be another thing than what is written there.
    rules = [
        add_rule(
            NETDEV,
            _TABLE,
            _CHAIN,
            load_payload(*_KIND_OF_FRAME),
            equals(_ETHERNET[family]),
            *_is_to(place, beginning),
        )
        for family, place, beginning in _OF_THE_HOST
    ]
    return transaction((add_table(NETDEV, _TABLE), chain, *rules))


def _at_sockets(name: str) -> list[bytes]:
    chain = add_chain(INET, _TABLE, _CHAIN, kind="filter", hook=OUTPUT, priority=_PRIORITY)
    rules = [
        add_rule(
            INET,
            _TABLE,
            _CHAIN,
            load_meta(OUTPUT_NAME),
            equals(interface_key(name)),
            *is_family(family),
            *_is_to(place, beginning),
        )
        for family, place, beginning in _OF_THE_HOST
    ]
    return transaction((add_table(INET, _TABLE), chain, *rules))


def _is_to(place: int, beginning: bytes) -> tuple[bytes, ...]:
    loaded = load_payload(NETWORK_HEADER, place, len(beginning))
    return (loaded, equals(beginning), decide(DROP))
