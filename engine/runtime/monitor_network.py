"""What a monitor keeps of its container's network, from the first start to the last end.

The namespace outlives the runs of the program, and with it the links, the addresses and the rules
on the host. When the container has ended for good the monitor takes the rules away itself, so that
nothing is left with no application open; the links go with the namespace.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from engine.errors import ContainerStateError, EngineError, SyscallError
from engine.linux.process import CLONE_NEWNET, enter_namespaces
from engine.runtime.network import HostNetwork, change_interfaces
from engine.runtime.protocol import FrameKind, read_error, receive_frame, send_error, send_frame

if TYPE_CHECKING:
    from engine.runtime.records import RecordDocument
    from engine.runtime.spec import ContainerSpec, NetworkSpec


class MonitorNetwork:
    """The network of a container, as its monitor has it."""

    def __init__(
        self, spec: RecordDocument[ContainerSpec], *, namespace: int, reservation: int
    ) -> None:
        """Take over what a starter has made.

        Args:
            spec: The container's; written again when its network changes.
            namespace: A descriptor of its network namespace; -1 if it has none of its own.
            reservation: A descriptor that keeps its published ports; -1 without any.
        """
        self._spec = spec
        self._reservation = reservation
        self.namespace = namespace

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
        for descriptor in (self._reservation, self.namespace):
            if descriptor >= 0:
                os.close(descriptor)
        self._reservation = self.namespace = -1

    def change(self, after: NetworkSpec) -> None:
        """Connect the container to what it is not connected to yet, and take it out of the rest.

        Raises:
            ContainerStateError: It has no network of its own.
            EngineError: It cannot be; then all is as it was.
        """
        spec = self._spec.record
        before = spec.network
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
                self._configure(before, after)
            except BaseException:
                for interface in added:
                    host.remove_interface(interface)
                with contextlib.suppress(SyscallError):
                    host.change_rules(spec.container_id, after, before)
                raise
        self._spec.replace(replace(spec, network=after))

    def _configure(self, before: NetworkSpec, after: NetworkSpec) -> None:
        """Have a child do it in the container's namespace: there is no way back for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                child = os.fork()
                if child == 0:
                    _configure_in(self.namespace, before, after, theirs)
            answer = receive_frame(ours)
            os.waitpid(child, 0)
        if answer is None:
            raise EngineError("the process that connects the container was killed")
        if answer[0] is FrameKind.ERROR:
            raise read_error(answer[1])


def _configure_in(
    namespace: int, before: NetworkSpec, after: NetworkSpec, answer: socket.socket
) -> NoReturn:
    try:
        enter_namespaces(namespace, CLONE_NEWNET)
        change_interfaces(before.interfaces, after.interfaces)
        send_frame(answer, FrameKind.RESULT, b"")
    except BaseException as error:  # the last place that could tell of it
        with contextlib.suppress(BaseException):
            send_error(answer, error)
    finally:
        os._exit(0)
