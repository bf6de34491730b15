"""What a monitor keeps of its container's network, from the first start to the last end.

The namespace outlives the runs of the program, and with it the links, the addresses and the rules
on the host. When the container has ended for good the monitor takes the rules away itself, so that
nothing is left with no application open; the links go with the namespace.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from engine.errors import ContainerStateError, EngineError, SyscallError
from engine.linux.process import CLONE_NEWNET, enter_namespaces
from engine.runtime.name_sockets import open_name_sockets
from engine.runtime.network import HostNetwork, change_interfaces
from engine.runtime.network_rules import lead_ports
from engine.runtime.network_view import forget_container
from engine.runtime.protocol import FrameKind, read_error, receive_frame, send_error, send_frame
from engine.runtime.user_network import UserNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.handover import KeptNetwork
    from engine.runtime.reactor import Deadline, Reactor
    from engine.runtime.records import RecordDocument
    from engine.runtime.spec import ContainerSpec, NetworkSpec, PortSpec

_AGAIN_SECONDS = 1.0


class NetworkServer:
    """The process that answers for names and carries ports, and the one after it if it ends."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._process_id = 0
        self._pidfd = -1
        self._again: Deadline | None = None
        self._fork: Callable[[], int] | None = None

    def start(
        self,
        run_directory: str,
        ports: tuple[PortSpec, ...],
        names: tuple[socket.socket, socket.socket] | None,
        *,
        reservation: int,
        namespace: int,
    ) -> None:
        """Have one serve from now on, in the place of the one that there may be.

        With a descriptor of a network namespace it is in there, and its sockets, which are of
        the host's, stay there.
        """
        self.stop()
        self._fork = functools.partial(
            _fork_server,
            run_directory,
            ports,
            names,
            reservation=reservation,
            namespace=namespace,
        )
        self._begin()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._fork = None
        if self._again is not None:
            self._again.cancel()
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()

    def _begin(self) -> None:
        if self._fork is None:
            return
        try:
            self._process_id = self._fork()
        except OSError:  # no process is to be had now
            self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)
            return
        try:
            self._pidfd = os.pidfd_open(self._process_id)
        except OSError:  # nor a descriptor: one that nobody watches must not serve
            os.kill(self._process_id, signal.SIGKILL)
            os.waitpid(self._process_id, 0)
            self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)
            return
        self._reactor.watch(self._pidfd, lambda _events: self._ended())

    def _ended(self) -> None:
        self._reap()
        # Not at once: what has ended it may end the next one, too.
        self._again = self._reactor.after(_AGAIN_SECONDS, self._begin)

    def _reap(self) -> None:
        self._reactor.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        os.waitpid(self._process_id, 0)


def _fork_server(
    run_directory: str,
    ports: tuple[PortSpec, ...],
    names: tuple[socket.socket, socket.socket] | None,
    *,
    reservation: int,
    namespace: int,
) -> int:
    monitor = os.pidfd_open(os.getpid())
    try:
        process_id = os.fork()
        if process_id == 0:
            try:
                if namespace >= 0:
                    enter_namespaces(namespace, CLONE_NEWNET)
                # What it collects later is its own: pages of before stay shared.
                gc.freeze()
                # The launcher has loaded it when it had nothing else to do.
                from engine.runtime.network_server import run_network_server

                run_network_server(
                    run_directory, ports, names, reservation=reservation, monitor=monitor
                )
            finally:
                os._exit(1)
    finally:
        os.close(monitor)
    return process_id


class MonitorNetwork:
    """The network of a container, as its monitor has it."""

    def __init__(
        self, spec: RecordDocument[ContainerSpec], kept: KeptNetwork, reactor: Reactor
    ) -> None:
        """Take over what a starter has made, and have it served.

        Args:
            spec: The container's; written again when its network changes.
            kept: Descriptors, this one's from now on.
            reactor: Tells of the server's end.
        """
        self._spec = spec
        self._reservation = kept.reservation
        self._names = (
            (
                socket.socket(fileno=kept.name_datagrams),
                socket.socket(fileno=kept.name_listener),
            )
            if kept.name_datagrams >= 0
            else None
        )
        self.namespace = kept.namespace
        self._user_network = (
            UserNetwork(
                reactor,
                spec.record.network,
                namespace=kept.namespace,
                pidfd=kept.user_network,
            )
            if kept.user_network >= 0
            else None
        )
        self._server = NetworkServer(reactor)
        self._name_server = NetworkServer(reactor)
        if self._names is not None or self._reservation >= 0:
            self._serve()

    def _serve(self) -> None:
        spec = self._spec.record
        network = spec.network
        is_inside = network.is_served_inside
        if self._reservation >= 0 or not is_inside:
            self._server.start(
                spec.run_directory,
                network.ports,
                None if is_inside else self._names,
                reservation=self._reservation,
                namespace=self.namespace if is_inside else -1,
            )
        if is_inside and self._names is not None:
            # Who is in there does not reach the servers of the host, least of all its loopback.
            self._name_server.start(
                spec.run_directory, (), self._names, reservation=-1, namespace=-1
            )

    def release(self) -> None:
        """Take away what the host has of it; the next start may come at once."""
        network = self._spec.record.network
        if network.interfaces or network.ports:
            # What cannot be removed is found by the next application.
            with (
                contextlib.suppress(OSError, EngineError),
                contextlib.closing(HostNetwork()) as host,
            ):
                host.remove_rules(self._spec.record.container_id, network)
        if self._user_network is not None:
            self._user_network.stop()
        # It holds the ports, too, which the next start wants.
        self._server.stop()
        self._name_server.stop()
        forget_container(self._spec.record.run_directory, self._spec.record.container_id)
        for each in self._names or ():
            each.close()
        for descriptor in (self._reservation, self.namespace):
            if descriptor >= 0:
                os.close(descriptor)
        self._names = None
        self._reservation = self.namespace = -1

    def change(self, after: NetworkSpec) -> NetworkSpec:
        """Connect the container to what it is not connected to yet, and take it out of the rest.

        Returns:
            What it has then: the ports are those that it had, wherever they lead now.

        Raises:
            ContainerStateError: It has no network of its own.
            EngineError: It cannot be; then all is as it was.
        """
        spec = self._spec.record
        before = spec.network
        after = replace(after, ports=lead_ports(before.ports, after.interfaces))
        if self.namespace < 0:
            raise ContainerStateError(
                "container sharing network namespace with another container or host cannot be "
                "connected to any other network",
                container_id=spec.container_id,
                status="running",
                operation="network",
            )
        kept = {one.host_name for one in after.interfaces}
        known = {one.host_name for one in before.interfaces}
        added = tuple(one for one in after.interfaces if one.host_name not in known)
        gone = tuple(one for one in before.interfaces if one.host_name not in kept)
        with contextlib.closing(HostNetwork()) as host:
            host.change_rules(spec.container_id, before, after)
            try:
                for interface in added:
                    host.add_interface(interface, self.namespace)
                for interface in gone:
                    host.remove_interface(interface)
                self._configure(before, after, wants_names=after.has_names and self._names is None)
            except BaseException:
                for interface in added:
                    host.remove_interface(interface)
                with contextlib.suppress(SyscallError):
                    host.change_rules(spec.container_id, after, before)
                raise
        self._spec.replace(replace(spec, network=after))
        if self._names is not None and not before.has_names:
            self._serve()
        return after

    def _configure(self, before: NetworkSpec, after: NetworkSpec, *, wants_names: bool) -> None:
        """Have a child do it in the container's namespace: there is no way back for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                child = os.fork()
                if child == 0:
                    _configure_in(self.namespace, before, after, theirs, wants_names=wants_names)
            answer = receive_frame(ours)
            os.waitpid(child, 0)
        if answer is None:
            raise EngineError("the process that connects the container was killed")
        if answer[0] is FrameKind.ERROR:
            raise read_error(answer[1])
        if answer[2]:
            datagrams, listener = (socket.socket(fileno=each) for each in answer[2])
            self._names = (datagrams, listener)


def _configure_in(
    namespace: int,
    before: NetworkSpec,
    after: NetworkSpec,
    answer: socket.socket,
    *,
    wants_names: bool,
) -> NoReturn:
    try:
        enter_namespaces(namespace, CLONE_NEWNET)
        change_interfaces(before.interfaces, after.interfaces)
        names = open_name_sockets() if wants_names else ()
        send_frame(answer, FrameKind.RESULT, b"", tuple(each.fileno() for each in names))
    except BaseException as error:  # the last place that could tell of it
        with contextlib.suppress(BaseException):
            send_error(answer, error)
    finally:
        os._exit(0)
