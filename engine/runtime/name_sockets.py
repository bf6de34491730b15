"""Where a container's resolver is asked: 127.0.0.11, port 53, in its own network namespace.

The sockets are bound to a port that the kernel draws, and a rule of the namespace leads there, so
that a program of the container that wants port 53 of every address gets it, as with Docker.
"""

from __future__ import annotations

import socket
import struct

from engine.errors import SyscallError
from engine.linux.netfilter import (
    IPV4,
    LAYER4_PROTOCOL,
    NETWORK_HEADER,
    OUTPUT,
    TRANSPORT_HEADER,
    add_chain,
    add_rule,
    add_table,
    equals,
    load_meta,
    load_payload,
    load_value,
    redirect,
    transaction,
)
from engine.linux.netlink import NETFILTER, NetlinkSocket

RESOLVER_ADDRESS = "127.0.0.11"
_PORT = 53
_TABLE = "lamella-names"
_CHAIN = "output"
_DESTINATION_NAT = -100
_DESTINATION_ADDRESS = (NETWORK_HEADER, 16, 4)
_DESTINATION_PORT = (TRANSPORT_HEADER, 2, 2)
_DRAWS = 16
_BACKLOG = 128


def open_name_sockets() -> tuple[socket.socket, socket.socket]:
    """Sockets for datagrams and for connections, to be reached at port 53 of 127.0.0.11.

    In the container's namespace, with `lo` up. Where the kernel has no netfilter they are bound to
    port 53 itself.

    Raises:
        OSError: No sockets are to be had.
    """
    sockets = _bound_alike()
    try:
        with NetlinkSocket(NETFILTER) as connection:
            messages = _lead_to(sockets[0].getsockname()[1])
            connection.execute(messages, what="lead port 53 to the resolver")
    except (SyscallError, OSError):
        for each in sockets:
            each.close()
        return _bound_to(_PORT)
    return sockets


def _bound_alike() -> tuple[socket.socket, socket.socket]:
    """On one port that is free by both protocols."""
    for _draw in range(_DRAWS - 1):
        try:
            return _bound_to(0)
        except OSError:
            continue
    return _bound_to(0)


def _bound_to(port: int) -> tuple[socket.socket, socket.socket]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        datagrams.bind((RESOLVER_ADDRESS, port))
        listener.bind(datagrams.getsockname())
        listener.listen(_BACKLOG)
    except OSError:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener


def _lead_to(port: int) -> list[bytes]:
    address = socket.inet_aton(RESOLVER_ADDRESS)
    rules = [
        add_rule(
            IPV4,
            _TABLE,
            _CHAIN,
            load_meta(LAYER4_PROTOCOL),
            equals(bytes((protocol,))),
            load_payload(*_DESTINATION_PORT),
            equals(struct.pack(">H", _PORT)),
            load_payload(*_DESTINATION_ADDRESS),
            equals(address),
            load_value(struct.pack(">H", port), 1),
            redirect(IPV4, address=0, port=1),
        )
        for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP)
    ]
    chain = add_chain(IPV4, _TABLE, _CHAIN, kind="nat", hook=OUTPUT, priority=_DESTINATION_NAT)
    return transaction((add_table(IPV4, _TABLE), chain, *rules))
