"""From what a container asks of networks to what its starter is told, for the time of a start."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import field, replace
from typing import TYPE_CHECKING

from engine.errors import EngineError, FeatureUnavailableError, NetworkNotFoundError
from engine.late_dataclasses import dataclass
from engine.network.attachments import JOIN, expand_exposed
from engine.network.devices import NetworkDevices
from engine.network.interfaces import (
    describe_interface,
    for_published_ports,
    lease_request,
    with_gateways,
)
from engine.network.naming import (
    forget_unstarted,
    has_names,
    publish_addresses,
    publish_names,
    sweep_names,
)
from engine.network.planning import (
    DEFAULT_NETWORK,
    find_network,
)
from engine.network.ports import PortReservation
from engine.network.rootless import find_user_network, user_network_feature
from engine.network.sweeping import is_live
from engine.runtime.network_rules import lead_ports
from engine.runtime.network_view import forget_container
from engine.runtime.spec import InterfaceSpec, NetworkSpec, PortSpec
from engine.runtime.user_network import IPV4_ADDRESS as USER_ADDRESS
from engine.types import AttachmentRequest, Network, PublishedPort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from engine.config import EngineConfig
    from engine.network.library import NetworkLibrary
    from engine.store.network_records import LeaseRequest, NetworkRecords
    from engine.types import HostFeature, NetworkOptions

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNetwork:
    """What a container that is started is to have.

    Attributes:
        options: As they are in its record.
        names: Its name and its hostname.
        exposed_ports: What it listens on, as image and request say it.
        is_privileged: It may send as anybody.
    """

    container_id: str
    options: NetworkOptions
    names: tuple[str, ...]
    exposed_ports: tuple[str, ...] = ()
    is_privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNetwork:
    """What it has for as long as it is held, and then if it runs.

    Attributes:
        namespace: As in `NamespaceSpec`: `private`, `host`, or a container's directory.
        spec: What its starter is told.
        reservation: A descriptor that keeps its ports; -1 without any.
        warnings: What it has not, or what the host has not been.
    """

    namespace: str = "private"
    spec: NetworkSpec = field(default_factory=NetworkSpec)
    reservation: int = -1
    warnings: tuple[str, ...] = ()


class NetworkAttacher:
    """Has everything ready that containers need of networks when they start."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        library: NetworkLibrary,
        records: NetworkRecords,
        is_rootless: bool,
    ) -> None:
        self._config = config
        self._library = library
        self._records = records
        self._is_rootless = is_rootless
        self._devices = NetworkDevices(config)

    @contextlib.asynccontextmanager
    async def hold(self, wanted: WantedNetwork) -> AsyncIterator[HeldNetwork]:
        """Have a container's networks, addresses and ports ready while it is started in the block.

        Raises:
            NetworkNotFoundError: A network was removed.
            AddressInUseError: A container that lives has the address.
            PoolExhaustedError: Every address is in use.
            PortInUseError: Something on the host has a port.
            FeatureUnavailableError: The host cannot give it any network that was asked for.
        """
        try:
            async with self._hold(wanted) as held:
                yield held
        except BaseException:
            # Who does not start is not to be found under its name.
            await asyncio.to_thread(forget_unstarted, self._config, wanted.container_id)
            raise

    @contextlib.asynccontextmanager
    async def _hold(self, wanted: WantedNetwork) -> AsyncIterator[HeldNetwork]:
        options = wanted.options
        if options.mode:
            yield self._without_networks(options)
            return
        is_asked_for = bool(options.attachments or options.published_ports or options.publishes_all)
        if not is_asked_for and self._config.default_network != DEFAULT_NETWORK:
            yield HeldNetwork()
            return
        if self._is_rootless and not options.attachments:
            async with self._hold_rootless(wanted) as held:
                yield held
            return
        async with contextlib.AsyncExitStack() as stack:
            try:
                self._refuse_rootless()
                known = await self._library.list()
                networks = _find(wanted, known)
                kept = tuple(network for network, _one in networks)
                await stack.enter_async_context(self._library.keep(kept))
                told = await asyncio.to_thread(self._devices.ensure, kept, known)
            except FeatureUnavailableError as error:
                if is_asked_for:
                    raise
                warning = f"{error.message}: the container has only its loopback device"
                yield HeldNetwork(warnings=(f"{warning} ({error.hint})",))
                return
            interfaces = await self._interfaces(wanted, networks)
            reservation = stack.enter_context(contextlib.closing(PortReservation()))
            ports, warnings = await asyncio.to_thread(
                self._reserve, reservation, wanted, interfaces
            )
            if ports:
                interfaces, missing = await asyncio.to_thread(self._open, kept, interfaces)
                warnings += missing
            spec = NetworkSpec(
                table=self._devices.firewall.table,
                interfaces=interfaces,
                ports=ports,
                has_names=has_names(kept),
            )
            if spec.needs_server:
                await self._publish(wanted, spec, kept)
            yield HeldNetwork(
                spec=spec,
                reservation=reservation.fileno() if ports else -1,
                warnings=(*told, *warnings),
            )

    @contextlib.asynccontextmanager
    async def _hold_rootless(self, wanted: WantedNetwork) -> AsyncIterator[HeldNetwork]:
        """A way out where there is one, and ports that are carried on from inside."""
        choice = await asyncio.to_thread(find_user_network)
        with contextlib.closing(PortReservation()) as reservation:
            ports = _asked_ports(wanted)
            await asyncio.to_thread(_bind, reservation, ports)
            spec = NetworkSpec(
                ports=_port_specs(reservation, ipv4_target="", ipv6_target=""),
                user_network=choice.program,
                has_user_ipv6=choice.has_ipv6,
                is_served_inside=True,
                has_names=bool(choice.program),
            )
            if spec.needs_server:
                # Ports lead to IPv4 alone, by ::1 as well: more programs listen there.
                address = USER_ADDRESS if choice.program else _LOOPBACK
                await asyncio.to_thread(
                    publish_addresses,
                    self._config,
                    wanted.container_id,
                    (address,),
                    servers=wanted.options.dns_servers,
                    is_forwarding=spec.has_names,
                )
            yield HeldNetwork(
                spec=spec,
                reservation=reservation.fileno() if ports else -1,
                warnings=(choice.problem,) if choice.problem else (),
            )

    @contextlib.asynccontextmanager
    async def hold_more(
        self, wanted: WantedNetwork, has: NetworkSpec, network: Network
    ) -> AsyncIterator[NetworkSpec]:
        """Have one more network ready for a container that runs, while it joins it in the block.

        Yields:
            What it is to have then.

        Raises:
            AddressInUseError: A container that lives has the address.
            PoolExhaustedError: Every address is in use.
            FeatureUnavailableError: The host cannot give it.
        """
        self._refuse_rootless()
        request = next(
            one for one in wanted.options.attachments if one.network == network.network_id
        )
        numbers = {int(one.name.removeprefix("eth")) for one in has.interfaces}
        number = next(number for number in range(len(numbers) + 1) if number not in numbers)
        async with self._library.keep((network,)):
            known = await self._library.list()
            await asyncio.to_thread(self._devices.ensure, (network,), known)
            added = await self._interfaces(
                wanted,
                ((network, request),),
                first_number=number,
                has_gateway=not any(one.ipv4_gateway for one in has.interfaces),
            )
            if has.ports:
                added, _missing = await asyncio.to_thread(self._open, (network,), added)
            table = self._devices.firewall.table
            yield replace(
                has,
                table=table,
                interfaces=(*has.interfaces, *added),
                has_names=has.has_names or has_names((network,)),
            )

    async def without(self, has: NetworkSpec, network: Network) -> NetworkSpec:
        """What a container that runs is to have when it is taken out of a network.

        The first of the others that lead out is the way out then, and its address the one that
        published ports lead to.
        """
        left = [one for one in has.interfaces if one.network_id != network.network_id]
        networks = {one.network_id: one for one in await self._library.list()}
        if not any(one.ipv4_gateway for one in left):
            for place, one in enumerate(left):
                other = networks.get(one.network_id)
                if other is not None and not other.is_internal:
                    left[place] = with_gateways(one, other)
                    break
        ports = lead_ports(has.ports, tuple(left))
        found = tuple(networks[one.network_id] for one in left if one.network_id in networks)
        return replace(has, interfaces=tuple(left), ports=ports, has_names=has_names(found))

    def _without_networks(self, options: NetworkOptions) -> HeldNetwork:
        mode = options.mode
        if mode.startswith(JOIN):
            owner = self._config.container_directory(mode.removeprefix(JOIN))
            return HeldNetwork(namespace=str(owner))
        if mode == "host":
            return HeldNetwork(namespace="host")
        return HeldNetwork()

    def _refuse_rootless(self) -> None:
        if self._is_rootless:
            raise FeatureUnavailableError(
                "a network",
                "an ordinary user may not make bridges",
                remedy="Leave --network out, run with --network host, or run Lamella as root",
            )

    async def _interfaces(
        self,
        wanted: WantedNetwork,
        networks: tuple[tuple[Network, AttachmentRequest], ...],
        *,
        first_number: int = 0,
        has_gateway: bool = True,
    ) -> tuple[InterfaceSpec, ...]:
        """A link for each network, with addresses that are the container's from now on."""
        requests: list[LeaseRequest] = []
        for network, one in networks:
            requests += (lease_request(network, subnet, one) for subnet in network.subnets)
        addresses = await self._records.lease(
            wanted.container_id,
            tuple(requests),
            is_live=functools.partial(is_live, self._config),
        )
        leased = dict(
            zip(((one.network_id, str(one.subnet)) for one in requests), addresses, strict=True)
        )
        interfaces: list[InterfaceSpec] = []
        for number, (network, one) in enumerate(networks, first_number):
            is_way_out = has_gateway and not network.is_internal
            interfaces.append(
                describe_interface(
                    network,
                    one,
                    [
                        (subnet, leased[network.network_id, subnet.subnet])
                        for subnet in network.subnets
                    ],
                    name=f"eth{number}",
                    is_way_out=is_way_out,
                    is_guarded=not (wanted.is_privileged or self._devices.firewall.guard_problem),
                )
            )
            # The first network that leads out is the way out.
            has_gateway = has_gateway and not is_way_out
        return tuple(interfaces)

    def _reserve(
        self,
        reservation: PortReservation,
        wanted: WantedNetwork,
        interfaces: tuple[InterfaceSpec, ...],
    ) -> tuple[tuple[PortSpec, ...], tuple[str, ...]]:
        asked = _asked_ports(wanted)
        if not asked:
            return (), ()
        target = next((one for one in interfaces if one.ipv4_gateway or one.ipv6_gateway), None)
        if target is None:
            return (), ("Ports are not published: the container is in internal networks only",)
        _bind(reservation, asked)
        ports = _port_specs(
            reservation,
            ipv4_target=target.ipv4_address.partition("/")[0],
            ipv6_target=target.ipv6_address.partition("/")[0],
        )
        return ports, ()

    def _open(
        self, networks: Iterable[Network], interfaces: tuple[InterfaceSpec, ...]
    ) -> tuple[tuple[InterfaceSpec, ...], tuple[str, ...]]:
        """Links of a container that publishes ports, of which any may become the way there.

        Returns:
            They, and what the host cannot do for them.
        """
        taking, told = self._devices.take_loopback(
            one.bridge for one in networks if not one.is_internal
        )
        return for_published_ports(interfaces, taking_loopback=taking), told

    async def publish(self, wanted: WantedNetwork, spec: NetworkSpec) -> None:
        """Let a container that runs see its networks and be found in them as they are now.

        Raises:
            StoreError: The file system is full.
        """
        if not spec.is_served_inside:
            await self._publish(wanted, spec, await self._library.list())

    async def _publish(
        self, wanted: WantedNetwork, spec: NetworkSpec, networks: tuple[Network, ...]
    ) -> None:
        await asyncio.to_thread(
            publish_names,
            self._config,
            wanted.container_id,
            names=wanted.names,
            options=wanted.options,
            networks={network.network_id: network for network in networks},
            interfaces=spec.interfaces,
        )

    # --- what is left over --------------------------------------------------------------------

    async def sweep(self) -> None:
        """Remove what ended containers left on the host.

        Raises:
            EngineError: The store or the kernel does not say what there is.
        """
        if not self._is_rootless and (networks := await self._library.known()):
            await asyncio.to_thread(sweep_names, self._config)
            await asyncio.to_thread(self._devices.sweep)
            await asyncio.to_thread(self._close, networks)
            await self._records.release_abandoned(is_live=functools.partial(is_live, self._config))

    def _close(self, networks: Iterable[Network]) -> None:
        """Have no bridge take from the host's loopback that leads to no port any more."""
        for network in networks:
            # Few have it: who starts in the others is not held up.
            if network.bridge and self._devices.has_idle_loopback(network.bridge):
                with self._library.idle(network) as is_idle:
                    if is_idle and self._devices.has_idle_loopback(network.bridge):
                        self._devices.leave_loopback(network.bridge)

    def forget(self, container_id: str) -> None:
        """Remove rules and names of a container, for the holder of its monitor's lock; blocking.

        What cannot be removed now is found by the next sweep.
        """
        with contextlib.suppress(OSError):
            run_directory = self._config.container_run_directory(container_id)
            forget_container(str(run_directory), container_id)
        if not self._is_rootless:
            with contextlib.suppress(EngineError):
                self._devices.forget(container_id)

    async def features(self) -> tuple[HostFeature, ...]:
        """What the host gives networks."""
        if self._is_rootless:
            return (await asyncio.to_thread(user_network_feature),)
        # No start needs it.
        from engine.network.features import network_features

        return await asyncio.to_thread(network_features, self._devices.firewall)

    async def conditions(self, network: Network) -> tuple[str, ...]:
        """What of the host keeps a network from working, one sentence each."""
        if self._is_rootless or not network.bridge:
            return ()
        return await asyncio.to_thread(self._devices.conditions, network)

    async def remove(self, network: Network) -> None:
        """Remove what a network has on the host, for who has it exclusively.

        Raises:
            EngineError: It cannot be removed.
        """
        if not self._is_rootless:
            await asyncio.to_thread(self._devices.remove, network)


def _find(
    wanted: WantedNetwork, networks: tuple[Network, ...]
) -> tuple[tuple[Network, AttachmentRequest], ...]:
    """The networks that a container is to be in, each with what it asks of it.

    Raises:
        NetworkNotFoundError: One was removed.
    """
    known = {network.network_id: network for network in networks}
    if not wanted.options.attachments:
        default = find_network(networks, DEFAULT_NETWORK)
        return ((default, AttachmentRequest(network=default.network_id)),)
    found = []
    for one in wanted.options.attachments:
        if one.network not in known:
            raise NetworkNotFoundError(
                (network_id := one.network[:12]),
                hint=f"`lamella network disconnect {network_id} {wanted.container_id[:12]}` "
                "takes the container out of the network that was removed",
            )
        found.append((known[one.network], one))
    return tuple(found)


def _asked_ports(wanted: WantedNetwork) -> tuple[PublishedPort, ...]:
    asked = list(wanted.options.published_ports)
    if wanted.options.publishes_all:
        published = {(one.container_port, one.protocol) for one in asked}
        asked += [
            PublishedPort(container_port=number, protocol=protocol)
            for text in wanted.exposed_ports
            for number, protocol in expand_exposed(text)
            if (number, protocol) not in published
        ]
    return tuple(asked)


def _bind(reservation: PortReservation, ports: tuple[PublishedPort, ...]) -> None:
    for port in ports:
        reservation.reserve(port)
    reservation.seal()


def _port_specs(
    reservation: PortReservation, *, ipv4_target: str, ipv6_target: str
) -> tuple[PortSpec, ...]:
    return tuple(
        PortSpec(
            host_address=one.port.host_address,
            host_port=one.number,
            container_port=one.port.container_port,
            protocol=one.port.protocol,
            ipv4_target=ipv4_target,
            ipv6_target=ipv6_target,
        )
        for one in reservation.bound
    )
