"""What `network create` is given: subnets with their gateways and ranges, and the rest."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeAlias

from engine.errors import InvalidInputError
from engine.types import NetworkRequest, NetworkSubnet
from tui.cli import values
from tui.cli.options import Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tui.cli.options import Arguments

    Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
    Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

CREATE_OPTIONS = (
    Option("driver", "d", "DRIVER", "What it is made of; only bridge"),
    Option("subnet", "", "SUBNET", "Its addresses, such as 10.80.4.0/24; one is drawn", True),
    Option("gateway", "", "ADDRESS", "This host's address in it; the first one", True),
    Option("ip-range", "", "SUBNET", "Draw addresses from this part of the subnet", True),
    Option("aux-address", "", "NAME=ADDRESS", "Give this address to no container", True),
    Option("internal", "", "", "Nothing leads out of it or into it"),
    Option("ipv4", "", "", "It has IPv4; it always has"),
    Option("ipv6", "", "", "It has IPv6, too"),
    Option("label", "", "NAME=VALUE", "Label the network", True),
    Option("opt", "o", "NAME=VALUE", "The driver's: com.docker.network.driver.mtu=1400", True),
    Option("attachable", "", "", "Containers may be put into it; they always may"),
    Option("scope", "", "SCOPE", "Where it is; only local"),
    Option("ipam-driver", "", "DRIVER", "Who gives addresses; only default"),
)


def read_network(arguments: Arguments) -> NetworkRequest:
    """Make the request from the command line.

    Raises:
        InvalidInputError: A value makes no sense; the texts are Docker's.
    """
    _check_fixed(arguments)
    return NetworkRequest(
        name=arguments.operands[0],
        driver=arguments.text("driver") or "bridge",
        subnets=_subnets(arguments),
        is_internal=arguments.is_on("internal"),
        has_ipv6=arguments.is_on("ipv6"),
        has_ipv4=arguments.text("ipv4") != "false",
        labels=values.labels(arguments.texts("label")),
        options=tuple(_pair("--opt", text) for text in arguments.texts("opt")),
    )


def _check_fixed(arguments: Arguments) -> None:
    scope = arguments.text("scope") or "local"
    if scope != "local":
        raise InvalidInputError(
            f"invalid scope: {scope}",
            hint="A network is on this host alone: leave --scope out",
        )
    manager = arguments.text("ipam-driver") or "default"
    if manager != "default":
        raise InvalidInputError(
            f'error looking up IPAM plugin {manager}: plugin "{manager}" not found',
            hint="Lamella gives addresses itself: leave --ipam-driver out",
        )


def _subnets(arguments: Arguments) -> tuple[NetworkSubnet, ...]:
    texts = split_lists(arguments.texts("subnet"))
    gateways = split_lists(arguments.texts("gateway"))
    ranges = split_lists(arguments.texts("ip-range"))
    if len(texts) < max(len(gateways), len(ranges)):
        raise InvalidInputError(
            "every ip-range or gateway must have a corresponding subnet", hint="Add --subnet"
        )
    subnets = {text: _subnet(text) for text in texts}
    if len(subnets) < len(texts):
        raise InvalidInputError("multiple overlapping subnet configuration is not supported")
    gateway_of: dict[str, str] = {}
    range_of: dict[str, str] = {}
    reserved_of: dict[str, list[tuple[str, str]]] = {}
    for gateway in gateways:
        text = _owner(subnets, _address(gateway, "--gateway"), f"gateway {gateway}")
        if other := gateway_of.get(text):
            raise InvalidInputError(
                f"cannot configure multiple gateways ({gateway}, {other}) for the same subnet "
                f"({text})"
            )
        gateway_of[text] = gateway
    for part in ranges:
        text = _owner(subnets, _first_address(part), f"range {part}")
        if other := range_of.get(text):
            raise InvalidInputError(
                f"cannot configure multiple ranges ({part}, {other}) on the same subnet ({text})"
            )
        range_of[text] = part
    for pair in arguments.texts("aux-address"):
        name, address = _pair("--aux-address", pair)
        text = _owner(subnets, _address(address, "--aux-address"), f"aux-address {address}")
        reserved_of.setdefault(text, []).append((name, address))
    return tuple(
        NetworkSubnet(
            subnet=text,
            gateway=gateway_of.get(text, ""),
            ip_range=range_of.get(text, ""),
            auxiliary_addresses=tuple(reserved_of.get(text, ())),
        )
        for text in texts
    )


def split_lists(texts: Iterable[str]) -> tuple[str, ...]:
    """Values that may be given one by one or with commas between them."""
    return tuple(part.strip() for text in texts for part in text.split(","))


def _owner(subnets: dict[str, Subnet], address: Address, what: str) -> str:
    for text, subnet in subnets.items():
        if address in subnet:
            return text
    raise InvalidInputError(
        f"no matching subnet for {what}", hint="It must be a part of what --subnet says"
    )


def _subnet(text: str) -> Subnet:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidInputError(
            f"invalid subnet: invalid CIDR address: {text}", hint="Such as --subnet 10.80.4.0/24"
        ) from None


def _address(text: str, option: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInputError(
            f'invalid argument "{text}" for "{option}": not an IP address'
        ) from None


def _first_address(text: str) -> Address:
    try:
        return ipaddress.ip_network(text, strict=False).network_address
    except ValueError:
        raise InvalidInputError(
            f'invalid argument "{text}" for "--ip-range": invalid CIDR address',
            hint="Such as --ip-range 10.80.4.128/25",
        ) from None


def _pair(option: str, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise InvalidInputError(f'invalid argument "{text}" for "{option}": it needs NAME=VALUE')
    return name, value
