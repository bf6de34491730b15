"""A container's network: a namespace of its own, and its links to bridges of the host's.

The namespace is made before there is a container for it. What leads out of it is the work of a
few messages to the kernel: some on the host's side, through connections that were opened before
the namespace was entered (a connection belongs to the namespace that it was opened in), some here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, NotFoundError, SyscallError
from engine.linux.netlink import NETFILTER, ROUTE, NetlinkSocket
from engine.linux.process import CLONE_NEWNET, leave_namespaces
from engine.linux.routes import (
    add_address,
    add_default_route,
    add_veth,
    delete_link,
    find_link,
    set_port,
    set_up,
)
from engine.runtime.network_rules import (
    add_container,
    change_container,
    forget_datagrams,
    remove_container,
    remove_container_piecemeal,
)

if TYPE_CHECKING:
    from engine.runtime.spec import InterfaceSpec, NetworkSpec

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_INTERFACE_REQUEST = struct.Struct("16sh22x")
_OWN_NAMESPACE = "/proc/self/ns/net"
_DEFAULTS = (("accept_dad", "0"), ("accept_ra", "0"), ("disable_ipv6", "1"))
"""Of devices that come: nobody on a bridge says who we are, and IPv6 is for who has an address."""


def enter_new_network() -> None:
    """Move this process into a new network namespace with `lo` up; init is born into it.

    It takes the kernel most of a millisecond, and needs nothing of the container.

    Raises:
        SyscallError: The kernel gives no namespace.
        OSError: The device cannot be brought up.
    """
    leave_namespaces(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))
    # A host without IPv6 has no such files, and needs none.
    with contextlib.suppress(OSError):
        for name, value in _DEFAULTS:
            _write_parameter("default", name, value)


def open_own_namespace() -> int:
    """A descriptor of the network namespace of this process, which keeps it."""
    return os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)


class HostNetwork:
    """Connections to the network namespace that this process is in when it makes them."""

    def __init__(self) -> None:
        self._route = NetlinkSocket(ROUTE)
        self._netfilter: NetlinkSocket | None = None
        # Without netfilter in the kernel nobody has rules, and who needs them is told.
        with contextlib.suppress(OSError):
            self._netfilter = NetlinkSocket(NETFILTER)

    def close(self) -> None:
        """Close them."""
        self._route.close()
        if self._netfilter is not None:
            self._netfilter.close()

    def attach(self, container_id: str, network: NetworkSpec) -> None:
        """Give the namespace that this process is in by now what a container has.

        Raises:
            SyscallError: The kernel refuses; what was made on the host by then is gone again.
            NotFoundError: A bridge is gone.
        """
        if not network.interfaces:
            return
        self.add_rules(container_id, network)
        try:
            namespace = open_own_namespace()
            try:
                for interface in network.interfaces:
                    self.add_interface(interface, namespace)
            finally:
                os.close(namespace)
            change_interfaces((), network.interfaces)
        except BaseException:
            # The links go with the namespace.
            self.remove_rules(container_id, network)
            raise

    def add_rules(self, container_id: str, network: NetworkSpec) -> None:
        """Let a container's traffic in and out.

        Raises:
            SyscallError: The kernel refuses.
            FeatureUnavailableError: It has no netfilter.
        """
        messages = add_container(container_id, network)
        if not messages:
            return
        if self._netfilter is None:
            raise FeatureUnavailableError(
                "a network",
                "the kernel has no netfilter",
                remedy="Use a kernel with CONFIG_NF_TABLES, or run with --network host or none",
            )
        self._netfilter.execute(messages, what="add network rules")

    def change_rules(self, container_id: str, before: NetworkSpec, after: NetworkSpec) -> None:
        """Go from one set of rules to another in one step.

        Raises:
            SyscallError: The kernel refuses; then nothing has changed.
        """
        messages = change_container(container_id, before, after)
        if messages and self._netfilter is not None:
            self._netfilter.execute(messages, what="change network rules")

    def remove_rules(self, container_id: str, network: NetworkSpec) -> None:
        """Take away what `add_rules` has added; what is gone already is no error."""
        messages = remove_container(container_id, network)
        if not messages or self._netfilter is None:
            return
        with contextlib.suppress(SyscallError):
            if self._netfilter.execute_each(messages, what="remove network rules"):
                for one in remove_container_piecemeal(container_id, network):
                    self._netfilter.execute_each(one, what="remove network rules")
            # Who goes on sending datagrams to a port would be led to nobody for ever.
            forgotten = forget_datagrams(network)
            self._netfilter.execute_each(forgotten, what="forget connections")

    def add_interface(self, interface: InterfaceSpec, namespace: int) -> None:
        """Make a link from a bridge into a namespace; its end there is down.

        Raises:
            SyscallError: The kernel refuses.
            NotFoundError: The bridge is gone.
        """
        bridge = find_link(self._route, interface.bridge)
        if bridge is None:
            raise NotFoundError(
                f"the bridge {interface.bridge} is gone",
                hint="Somebody else has removed it; the next start makes it again",
            )
        self._route.execute(
            (
                add_veth(
                    interface.host_name,
                    bridge_index=bridge.index,
                    peer_name=interface.name,
                    peer_namespace=namespace,
                    peer_mac=bytes.fromhex(interface.mac_address.replace(":", "")),
                    mtu=interface.mtu,
                ),
            ),
            what=f"connect {interface.name} to {interface.bridge}",
        )
        if interface.is_hairpin or interface.is_isolated:
            port = find_link(self._route, interface.host_name)
            if port is not None:
                settings = set_port(
                    port.index,
                    is_hairpin=interface.is_hairpin,
                    is_isolated=interface.is_isolated,
                )
                self._route.execute((settings,), what=f"set up {interface.host_name}")

    def remove_interface(self, interface: InterfaceSpec) -> None:
        """Remove a link and its end in the container; one that is gone is no error."""
        with contextlib.suppress(SyscallError):
            link = find_link(self._route, interface.host_name)
            if link is not None:
                self._route.execute((delete_link(link.index),), what="remove a link")


def change_interfaces(before: tuple[InterfaceSpec, ...], after: tuple[InterfaceSpec, ...]) -> None:
    """Give the devices of this namespace their addresses and routes, and bring them up.

    Args:
        before: What has been given already, of devices that may be gone.
        after: What there is to be.

    Raises:
        SyscallError: The kernel refuses.
        OSError: A kernel parameter cannot be set.
        NotFoundError: A device is gone.
    """
    known = {one.host_name: one for one in before}
    with NetlinkSocket(ROUTE) as connection:
        messages: list[bytes] = []
        for interface in after:
            link = find_link(connection, interface.name)
            if link is None:
                raise NotFoundError(f"the device {interface.name} is gone")
            earlier = known.get(interface.host_name)
            if earlier is None:
                if interface.ipv6_address:
                    _write_parameter(interface.name, "disable_ipv6", "0")
                messages += [
                    add_address(link.index, address)
                    for address in (interface.ipv4_address, interface.ipv6_address)
                    if address
                ]
                messages.append(set_up(link.index, mtu=interface.mtu))
            for gateway, had in (
                (interface.ipv4_gateway, earlier.ipv4_gateway if earlier else ""),
                (interface.ipv6_gateway, earlier.ipv6_gateway if earlier else ""),
            ):
                if gateway and gateway != had:
                    messages.append(add_default_route(link.index, gateway))
        connection.execute(messages, what="give the container its addresses")


def _write_parameter(device: str, name: str, value: str) -> None:
    descriptor = os.open(f"/proc/sys/net/ipv6/conf/{device}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
