"""What a new network is: checked against what is asked for, and against those that there are."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from engine.errors import (
    AmbiguousReferenceError,
    InvalidInputError,
    NetworkNameInUseError,
    NetworkNotFoundError,
)
from engine.network.subnets import (
    check_subnet,
    draw_ipv4_subnet,
    draw_ipv6_subnet,
    parse_subnet,
    refuse_overlap,
)
from engine.types import Network, NetworkDriver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.network.subnets import IPSubnet
    from engine.types import NetworkRequest, NetworkSubnet

DEFAULT_NETWORK = "bridge"
HOST_NETWORK = "host"
NO_NETWORK = "none"
PREDEFINED = {
    DEFAULT_NETWORK: NetworkDriver.BRIDGE,
    HOST_NETWORK: NetworkDriver.HOST,
    NO_NETWORK: NetworkDriver.NONE,
}
_RESERVED_NAMES = frozenset({*PREDEFINED, "default"})
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_LONGEST_NAME = 128
_BRIDGE_PREFIX = "lm-"
MTU_OPTION = "com.docker.network.driver.mtu"
INTER_CONTAINER_OPTION = "com.docker.network.bridge.enable_icc"
MASQUERADE_OPTION = "com.docker.network.bridge.enable_ip_masquerade"
_MTUS = range(68, 65536)
_FLAG_OPTIONS = (INTER_CONTAINER_OPTION, MASQUERADE_OPTION)


def plan_predefined(
    others: tuple[Network, ...], host: Iterable[IPSubnet], *, turn: int = 0
) -> tuple[Network, ...]:
    """The networks that are there without having been made; `turn` as `draw_ipv4_subnet` has it."""
    taken = [*_subnets_of(others), *host]
    return tuple(_predefined(name, driver, taken, turn) for name, driver in PREDEFINED.items())


def _predefined(name: str, driver: NetworkDriver, taken: list[IPSubnet], turn: int) -> Network:
    network_id = os.urandom(32).hex()
    is_bridge = driver is NetworkDriver.BRIDGE
    return Network(
        network_id=network_id,
        name=name,
        driver=driver,
        created_at=time.time(),
        subnets=(draw_ipv4_subnet(taken, turn=turn),) if is_bridge else (),
        bridge=bridge_name(network_id) if is_bridge else "",
        is_predefined=True,
    )


def plan_network(
    request: NetworkRequest,
    others: tuple[Network, ...],
    host: Iterable[IPSubnet],
    *,
    network_id: str,
    turn: int = 0,
) -> Network:
    """What a request that was checked comes to, beside the networks that there are.

    Raises:
        NetworkNameInUseError: There is one of this name.
        InvalidInputError: It overlaps another network.
    """
    if any(other.name == request.name for other in others):
        raise NetworkNameInUseError(request.name)
    store_id = next((one.network_id for one in others if one.name == DEFAULT_NETWORK), "")
    subnets = _subnets(
        request,
        _subnets_of(others),
        host,
        store_id=store_id,
        network_id=network_id,
        turn=turn,
    )
    return Network(
        network_id=network_id,
        name=request.name,
        driver=NetworkDriver.BRIDGE,
        created_at=time.time(),
        subnets=subnets,
        is_internal=request.is_internal,
        has_ipv6=request.has_ipv6,
        labels=request.labels,
        options=request.options,
        bridge=bridge_name(network_id),
    )


def _subnets_of(networks: tuple[Network, ...]) -> tuple[IPSubnet, ...]:
    return tuple(parse_subnet(one.subnet) for network in networks for one in network.subnets)


def bridge_name(network_id: str) -> str:
    """The name of a network's device: 15 characters are all that the kernel takes."""
    return _BRIDGE_PREFIX + network_id[:12]


def check_network_name(name: str) -> None:
    """Refuse what cannot be the name of a network; the texts are Docker's.

    Raises:
        InvalidInputError: It cannot.
    """
    if name in _RESERVED_NAMES:
        raise InvalidInputError(
            f"operation is not permitted on predefined {name} network",
            hint="Choose another name",
        )
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"invalid network name: {name!r}",
            hint="Letters, digits, _ . and -, a letter or a digit first, at most 128",
        )


def find_network(networks: tuple[Network, ...], reference: str) -> Network:
    """One of these, by id, name or the beginning of an id.

    Raises:
        NetworkNotFoundError: There is none.
        AmbiguousReferenceError: The beginning matches several.
    """
    wanted = DEFAULT_NETWORK if reference == "default" else reference
    for network in networks:
        if wanted == network.network_id:
            return network
    for network in networks:
        if wanted == network.name:
            return network
    found = [network for network in networks if wanted and network.network_id.startswith(wanted)]
    if not found:
        raise NetworkNotFoundError(reference)
    if len(found) > 1:
        raise AmbiguousReferenceError(reference, len(found))
    return found[0]


def check_network_request(request: NetworkRequest) -> None:
    """Refuse what cannot be, whatever other networks there are; the texts are Docker's.

    Raises:
        InvalidInputError: It cannot.
    """
    check_network_name(request.name)
    if request.driver != NetworkDriver.BRIDGE:
        raise InvalidInputError(
            f"could not find plugin {request.driver} in v2 plugin registry: plugin not found",
            hint="bridge is the driver that there is",
        )
    if not request.has_ipv4:
        raise InvalidInputError(
            "IPv4 cannot be disabled: every network has it", hint="Leave --ipv4=false out"
        )
    for key, value in request.options:
        if key == MTU_OPTION:
            if not (value.isascii() and value.isdigit() and int(value) in _MTUS):
                raise InvalidInputError(f"invalid MTU: {value!r}", hint="Bytes, such as 1500")
        elif key in _FLAG_OPTIONS:
            if value not in {"true", "false"}:
                raise InvalidInputError(f"invalid value for {key}: {value!r}: true or false")
        else:
            raise InvalidInputError(
                f"unknown network option: {key}",
                hint=f"Known are {', '.join((MTU_OPTION, *_FLAG_OPTIONS))}",
            )
    for subnet in request.subnets:
        check_subnet(subnet)
    for key, _value in request.labels:
        if not key:
            raise InvalidInputError("invalid label: the key is empty", hint="Write KEY=VALUE")


def _subnets(
    request: NetworkRequest,
    taken: tuple[IPSubnet, ...],
    host: Iterable[IPSubnet],
    *,
    store_id: str,
    network_id: str,
    turn: int,
) -> tuple[NetworkSubnet, ...]:
    asked = tuple(check_subnet(one) for one in request.subnets)
    versions = [parse_subnet(one.subnet).version for one in asked]
    for version in (4, 6):
        if versions.count(version) > 1:
            raise InvalidInputError(
                f"bridge driver does not support more than one IPv{version} subnet",
                hint="Make a second network, and put the container into both",
            )
    if 6 in versions and not request.has_ipv6:
        raise InvalidInputError(
            "an IPv6 subnet needs a network with IPv6", hint="Add --ipv6 to have it"
        )
    refuse_overlap([parse_subnet(one.subnet) for one in asked], taken)
    drawn: list[NetworkSubnet] = []
    if 4 not in versions:
        drawn.append(draw_ipv4_subnet((*taken, *host), turn=turn))
    drawn.extend(asked)
    if request.has_ipv6 and 6 not in versions:
        drawn.append(draw_ipv6_subnet(store_id, network_id))
    return tuple(sorted(drawn, key=lambda one: ":" in one.subnet))
