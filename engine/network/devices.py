"""What networks have on the host: bridges, tables of rules, and settings of the kernel; blocking.

Everything is looked at before each start and made again if it is gone, as anybody may flush rules
or remove a bridge while containers run.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, SyscallError
from engine.linux.netlink import ROUTE, NetlinkSocket
from engine.linux.routes import (
    add_address,
    add_bridge,
    delete_link,
    find_link,
    set_master,
    set_up,
)
from engine.network.conditions import forwarding_conditions, route_conditions
from engine.network.firewall import Firewall
from engine.network.planning import MTU_OPTION
from engine.network.sweeping import held_dead, live_networks, needs_localnet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.config import EngineConfig
    from engine.runtime.spec import NetworkSpec
    from engine.types import Network

SETTINGS = "/proc/sys/net"
_FORWARDING4 = "ipv4/ip_forward"
_FORWARDING6 = "ipv6/conf/all/forwarding"
_LOCALNET = "route_localnet"
_LOCALNET_OF_ALL = f"ipv4/conf/all/{_LOCALNET}"
_MAC_PREFIX = "02:4c"
"""Of addresses that are nobody's but given here (IEEE 802, locally administered)."""


class NetworkDevices:
    """The bridges and rules of one store."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.firewall = Firewall(config.root)

    def ensure(self, networks: Iterable[Network], known: Iterable[Network]) -> tuple[str, ...]:
        """Have everything there that containers of these networks need.

        Args:
            networks: Those that are needed.
            known: Every one of the store, of which some may have lost theirs as well.

        Returns:
            What of it was not so before and concerns the whole host, one sentence each.

        Raises:
            FeatureUnavailableError: This kernel cannot do it, or this process may not.
            SyscallError: The kernel refuses.
        """
        networks, known = tuple(networks), tuple(known)
        told: list[str] = []
        is_new = not self.firewall.is_whole()
        try:
            if is_new:
                self.firewall.make(one for one in known if one.bridge)
            with NetlinkSocket(ROUTE) as connection:
                for network in networks:
                    if find_link(connection, network.bridge) is None:
                        self._make_bridge(connection, network)
                        self.firewall.add_network(network)
                        is_new = True
            told += _ensure_forwarding(has_ipv6=any(network.has_ipv6 for network in networks))
        except SyscallError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
                raise
            raise FeatureUnavailableError(
                "a network",
                str(error),
                remedy="It takes root and a kernel with bridges and veth; else run with "
                "--network host or none",
            ) from error
        if is_new:
            self._restore(known)
            told += (text for network in networks for text in route_conditions(network))
        return (*told, *forwarding_conditions(self.firewall.table), *self._guard_conditions())

    def take_loopback(self, bridges: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
        """Have bridges take what the host sends from 127.0.0.0/8, for the ports that lead there.

        Only after `ensure`, as its rules keep from the loopback whom this would let to it.

        Returns:
            Those that do, and why another one does not, one sentence each.
        """
        taking, told = set(), []
        for bridge in bridges:
            name = f"ipv4/conf/{bridge}/{_LOCALNET}"
            try:
                if read_setting(name) != "1":
                    _write_setting(name, "1")
            except OSError as error:
                if read_setting(_LOCALNET_OF_ALL) != "1":
                    told.append(
                        "127.0.0.1 leads to published ports by a proxy, at half the speed: "
                        f"net.{name.replace('/', '.')} cannot be set: {error.strerror}"
                    )
                    continue
            taking.add(bridge)
        return frozenset(taking), tuple(told)

    def has_idle_loopback(self, bridge: str) -> bool:
        """Whether a bridge takes what the host sends from 127.0.0.0/8, and nobody there needs it.

        A start may change that at any time but while its network is idle.
        """
        is_open = read_setting(f"ipv4/conf/{bridge}/{_LOCALNET}") == "1"
        return is_open and not needs_localnet(self._config, bridge)

    def leave_loopback(self, bridge: str) -> None:
        """The opposite of `take_loopback`; one that is gone is no error."""
        with contextlib.suppress(OSError):
            _write_setting(f"ipv4/conf/{bridge}/{_LOCALNET}", "0")

    def _guard_conditions(self) -> tuple[str, ...]:
        if not self.firewall.guard_problem:
            return ()
        return (
            "Containers of one network can pretend to be each other: the kernel has no rules for "
            f"bridges ({self.firewall.guard_problem})",
        )

    def conditions(self, network: Network) -> tuple[str, ...]:
        """What of the host keeps a network from working, one sentence each."""
        return (
            *route_conditions(network),
            *forwarding_conditions(self.firewall.table),
            *self._guard_conditions(),
        )

    def remove(self, network: Network) -> None:
        """Remove what a network has on the host; what is gone already is no error.

        Raises:
            SyscallError: The kernel refuses.
        """
        if not network.bridge:
            return
        with NetlinkSocket(ROUTE) as connection:
            link = find_link(connection, network.bridge)
            if link is not None:
                connection.execute((delete_link(link.index),), what="remove a bridge")
        if self.firewall.is_there():
            self.firewall.remove_network(network)

    def sweep(self) -> None:
        """Remove the rules that ended containers left.

        Raises:
            EngineError: The kernel does not say what there is.
        """
        if not self.firewall.is_there():
            return
        for owner, elements in self.firewall.owners().items():
            with held_dead(self._config, owner) as is_dead:
                if is_dead:
                    self.firewall.remove_elements(elements)

    def forget(self, container_id: str) -> None:
        """Remove the rules of a container, for the holder of its monitor's lock.

        Raises:
            EngineError: The kernel does not say what there is.
        """
        if self.firewall.is_there():
            self.firewall.remove_elements(self.firewall.owners().get(container_id, ()))

    def _make_bridge(self, connection: NetlinkSocket, network: Network) -> None:
        gateways = [
            f"{one.gateway}/{ipaddress.ip_network(one.subnet).prefixlen}" for one in network.subnets
        ]
        mac = bytes.fromhex(derive_mac(gateways[0]).replace(":", ""))
        mtu = int(dict(network.options).get(MTU_OPTION, "0"))
        for error in connection.execute_each(
            (add_bridge(network.bridge, mac=mac, mtu=mtu),), what="make a bridge"
        ):
            # Another application may have been faster: the rest is as well done twice.
            if error.errno != errno.EEXIST:
                raise error
        link = find_link(connection, network.bridge)
        if link is None:
            raise SyscallError("netlink", errno.ENODEV, f"make bridge {network.bridge}")
        for name, value in (
            ("accept_ra", "0"),
            ("accept_dad", "0"),
            ("disable_ipv6", "0" if network.has_ipv6 else "1"),
        ):
            # A host without IPv6 has no such settings.
            with contextlib.suppress(OSError):
                _write_setting(f"ipv6/conf/{network.bridge}/{name}", value)
        for gateway in gateways:
            for error in connection.execute_each(
                (add_address(link.index, gateway),), what="give a bridge its address"
            ):
                if error.errno != errno.EEXIST:
                    raise error
        connection.execute((set_up(link.index),), what="bring a bridge up")

    def _restore(self, known: tuple[Network, ...]) -> None:
        """Give containers that run what somebody has removed under them."""
        live = live_networks(self._config)
        if not live:
            return
        owners = self.firewall.owners()
        used = {interface.bridge for spec in live.values() for interface in spec.interfaces}
        with NetlinkSocket(ROUTE) as connection:
            for network in known:
                if network.bridge in used and find_link(connection, network.bridge) is None:
                    self._make_bridge(connection, network)
            _reconnect(connection, known, live)
        self.take_loopback(
            {one.bridge for spec in live.values() for one in spec.interfaces if one.has_localnet}
        )
        for container_id, spec in live.items():
            # One that ends just now needs nothing.
            with contextlib.suppress(SyscallError):
                self.firewall.restore(container_id, spec, owners.get(container_id, ()))


def _reconnect(
    connection: NetlinkSocket, networks: Iterable[Network], live: Mapping[str, NetworkSpec]
) -> None:
    """Put links of containers back to bridges that were made again."""
    bridges = {network.bridge: find_link(connection, network.bridge) for network in networks}
    for spec in live.values():
        for interface in spec.interfaces:
            bridge = bridges.get(interface.bridge)
            port = find_link(connection, interface.host_name)
            if bridge is not None and port is not None and not port.master:
                connection.execute_each(
                    (set_master(port.index, bridge.index),), what="reconnect a container"
                )


def derive_mac(address: str) -> str:
    """The hardware address that goes with an IPv4 address: who has the one again has the other."""
    packed = ipaddress.ip_interface(address).ip.packed[-4:]
    return f"{_MAC_PREFIX}:{packed.hex(':')}"


def _ensure_forwarding(*, has_ipv6: bool) -> list[str]:
    told = []
    for setting, is_needed in ((_FORWARDING4, True), (_FORWARDING6, has_ipv6)):
        if not is_needed or read_setting(setting) == "1":
            continue
        try:
            if setting == _FORWARDING6:
                _keep_router_advertisements()
            _write_setting(setting, "1")
        except OSError as error:
            raise FeatureUnavailableError(
                "a network",
                f"the host does not forward packets, and net.{setting.replace('/', '.')} cannot "
                f"be set: {error.strerror}",
                remedy=f"Have it set: sysctl -w net.{setting.replace('/', '.')}=1",
            ) from None
        told.append(f"net.{setting.replace('/', '.')} was set to 1: containers need it to go out")
    return told


def _keep_router_advertisements() -> None:
    """Let devices that have their routes from advertisements keep them: routers hear none."""
    directory = f"{SETTINGS}/ipv6/conf"
    for name in os.listdir(directory):
        if name not in {"all", "default"} and read_setting(f"ipv6/conf/{name}/accept_ra") == "1":
            with contextlib.suppress(OSError):
                _write_setting(f"ipv6/conf/{name}/accept_ra", "2")


def read_setting(name: str) -> str:
    """A setting below net; empty if the kernel has none of this name."""
    try:
        with open(f"{SETTINGS}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write_setting(name: str, value: str) -> None:
    descriptor = os.open(f"{SETTINGS}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
