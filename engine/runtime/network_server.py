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
from typing import TYPE_CHECKING, NoReturn

from engine.errors import SyscallError
from engine.late_dataclasses import dataclass
from engine.linux.capabilities import set_no_new_privileges, set_process_capabilities
from engine.linux.process import close_other_descriptors, set_process_name
from engine.runtime.busy_reactor import BusyReactor
from engine.runtime.datagram_proxy import DatagramProxy
from engine.runtime.name_server import NameServer
from engine.runtime.network_view import VIEW_FILE, NetworkView, WatchedContent, read_view
from engine.runtime.port_proxy import PipePool, Target, TcpProxy, find_target
from engine.runtime.program import die_with

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

NETWORK_SERVER_NAME = "lamella-network"
_MOST_MEMORY_BYTES = 96 << 20
_MOST_DESCRIPTORS = 8192
_SPARED_DESCRIPTORS = 400
"""For questions, their connections, and what the process itself has open."""
_DESCRIPTORS_OF_CONNECTION = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedPort:
    """A socket of a published port.

    Attributes:
        protocol: `tcp` or `udp`.
        port: The container's.
    """

    protocol: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkServerSpec:
    """What a network server does.

    Attributes:
        run_directory: The container's, with its NetworkView.
        has_names: It answers questions for names.
        ports: Of each socket that it gets besides.
    """

    run_directory: str
    has_names: bool
    ports: tuple[ProxiedPort, ...] = ()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.has_names or bool(self.ports)


def run_network_server(
    spec: NetworkServerSpec, sockets: Sequence[socket.socket], monitor: int
) -> NoReturn:
    """Serve until the monitor ends; never returns. In a child of the monitor's, forked for it.

    Args:
        spec: What to do.
        sockets: With names first one for datagrams and one that listens, both bound to 127.0.0.11
            in the container's namespace; then one for each port, bound in the host's.
        monitor: A pidfd of the monitor.
    """
    try:
        set_process_name(NETWORK_SERVER_NAME)
        die_with(monitor)
        close_other_descriptors({each.fileno() for each in sockets})
        # The monitor decides what a signal to its group means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _give_up_rights()
        most_descriptors = _bound_resources()
        reactor = BusyReactor()
        serve_network(reactor, spec, sockets, most_descriptors=most_descriptors)
        reactor.run()
    finally:
        os._exit(1)


def serve_network(
    reactor: BusyReactor,
    spec: NetworkServerSpec,
    sockets: Sequence[socket.socket],
    *,
    most_descriptors: int,
) -> tuple[NameServer | TcpProxy | DatagramProxy, ...]:
    """Have a reactor serve; returns what serves, in the order of the sockets."""
    view = WatchedContent(
        f"{spec.run_directory}/{VIEW_FILE}", lambda _path: read_view(spec.run_directory)
    )
    served: list[NameServer | TcpProxy | DatagramProxy] = []
    if spec.has_names:
        datagrams, listener, *rest = sockets
        served.append(
            NameServer(reactor, datagrams=datagrams, listener=listener, read_view=view.get)
        )
        sockets = rest
    pipes = PipePool()
    most_connections = max(
        1,
        (most_descriptors - _SPARED_DESCRIPTORS)
        // _DESCRIPTORS_OF_CONNECTION
        // max(1, len(spec.ports)),
    )
    for port, bound in zip(spec.ports, sockets, strict=True):
        target = functools.partial(_target, view, port.port, bound.family)
        if port.protocol == "udp":
            served.append(
                DatagramProxy(
                    reactor, bound, find_target=target, most_clients=min(most_connections, 512)
                )
            )
        else:
            served.append(
                TcpProxy(
                    reactor,
                    bound,
                    find_target=target,
                    pipes=pipes,
                    most_connections=most_connections,
                )
            )
    return tuple(served)


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
