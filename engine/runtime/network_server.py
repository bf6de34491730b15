"""The process of a container that has names to answer for, or ports on this host's loopback.

It is a child of the monitor, so that what hostile programs send never reaches that. It has no
capabilities, and a bound on its memory; when it ends the monitor makes another one of the same
sockets, and the kernel ends it with its monitor. What may change while it runs it reads from the
container's NetworkView.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import socket
import struct
from typing import TYPE_CHECKING, NoReturn

from engine.errors import SyscallError
from engine.linux.capabilities import set_no_new_privileges, set_process_capabilities
from engine.linux.process import close_other_descriptors, set_process_name
from engine.runtime.busy_reactor import BusyReactor
from engine.runtime.datagram_proxy import MOST_CLIENTS, DatagramProxy
from engine.runtime.name_server import NameServer
from engine.runtime.network_view import VIEW_FILE, NetworkView, WatchedContent, read_view
from engine.runtime.port_proxy import ConnectionRoom, PipePool, Target, TcpProxy, find_target
from engine.runtime.program import die_with

if TYPE_CHECKING:
    from engine.runtime.spec import PortSpec

NETWORK_SERVER_NAME = "lamella-network"
_MOST_MEMORY_BYTES = 96 << 20
_MOST_DESCRIPTORS = 16384
_SPARED_DESCRIPTORS = 400
"""For questions, their connections, and what the process itself has open."""
_DESCRIPTORS_OF_CONNECTION = 6
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}
_SO_PEEK_OFF = 42
_CLOSE_ON_EXEC = 0x40000000
_MOST_IN_PACKET = 253
_DESCRIPTOR = struct.Struct("=i")


def run_network_server(
    run_directory: str,
    ports: tuple[PortSpec, ...],
    names: tuple[socket.socket, socket.socket] | None,
    *,
    reservation: int,
    monitor: int,
) -> NoReturn:
    """Serve until the monitor ends; never returns. In a child of the monitor's, forked for it.

    Args:
        run_directory: The container's, with its NetworkView.
        ports: Those that are published.
        names: One for datagrams and one that listens, both bound to 127.0.0.11 in the container's
            namespace; None if it has no resolver.
        reservation: A channel that holds the bound sockets of ports, and goes on to hold them for
            the server that comes after this one; -1 without any.
        monitor: A pidfd of the monitor.
    """
    try:
        set_process_name(NETWORK_SERVER_NAME)
        die_with(monitor)
        kept = {each.fileno() for each in names or ()}
        close_other_descriptors(kept | ({reservation} if reservation >= 0 else set()))
        # The monitor decides what a signal to its group means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _give_up_rights()
        most_descriptors = _bound_resources()
        sockets = copy_sockets(reservation) if reservation >= 0 else ()
        reactor = BusyReactor()
        view = WatchedContent(
            f"{run_directory}/{VIEW_FILE}", lambda _path: read_view(run_directory)
        )
        if names is not None:
            NameServer(reactor, datagrams=names[0], listener=names[1], read_view=view.get)
        _carry_ports(reactor, view, ports, sockets, most_descriptors=most_descriptors)
        reactor.run()
    finally:
        os._exit(1)


def copy_sockets(channel: int) -> tuple[socket.socket, ...]:
    """The sockets that wait in a channel of packets, which go on to wait there.

    A packet that is only peeked at gives its descriptors all the same, as copies (unix(7)).
    """
    found: list[socket.socket] = []
    room = socket.CMSG_SPACE(_MOST_IN_PACKET * _DESCRIPTOR.size)
    with socket.socket(fileno=os.dup(channel)) as waiting:
        # Each peek goes on behind the one before it.
        waiting.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | _CLOSE_ON_EXEC
        while True:
            try:
                content, ancillary, _flags, _address = waiting.recvmsg(1, room, flags)
            except BlockingIOError:
                break
            if not content:
                break
            for _level, _kind, rights in ancillary:
                found += [
                    socket.socket(fileno=descriptor)
                    for (descriptor,) in _DESCRIPTOR.iter_unpack(rights)
                ]
    return tuple(found)


def _carry_ports(
    reactor: BusyReactor,
    view: WatchedContent[NetworkView],
    ports: tuple[PortSpec, ...],
    sockets: tuple[socket.socket, ...],
    *,
    most_descriptors: int,
) -> None:
    leads_to = {(port.protocol, port.host_port): port.container_port for port in ports}
    left = most_descriptors - _SPARED_DESCRIPTORS - len(sockets)
    # Half of them for connections, at all ports together; the rest for senders of datagrams.
    room = ConnectionRoom(max(1, left // 2 // _DESCRIPTORS_OF_CONNECTION))
    most_clients = max(1, min(MOST_CLIENTS, left // 2 // max(1, len(sockets))))
    pipes = PipePool()
    for bound in sockets:
        protocol = _PROTOCOLS.get(bound.proto, "")
        container_port = leads_to.get((protocol, bound.getsockname()[1]))
        if container_port is None:
            bound.close()  # The kernel alone leads its packets, as of SCTP.
            continue
        target = functools.partial(_target, view, container_port, bound.family)
        if protocol == "udp":
            DatagramProxy(reactor, bound, find_target=target, most_clients=most_clients)
        else:
            TcpProxy(reactor, bound, find_target=target, pipes=pipes, room=room)


def _target(view: WatchedContent[NetworkView], port: int, family: int) -> Target | None:
    return find_target(view.get().addresses, port, family=family)


def _give_up_rights() -> None:
    # A kernel that refuses leaves us as we were forked, which is no reason not to serve.
    with contextlib.suppress(SyscallError):
        set_no_new_privileges()
        set_process_capabilities(frozenset())


def _bound_resources() -> int:
    """Bound memory, and have as many descriptors as are wanted; returns how many may be open."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = _MOST_MEMORY_BYTES if hard < 0 else min(hard, _MOST_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard < 0 else min(hard, _MOST_DESCRIPTORS)
    if 0 <= soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
