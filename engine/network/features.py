"""What the host gives networks, and what to do about what it does not give; blocking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError
from engine.network.conditions import forwarding_conditions
from engine.network.devices import SETTINGS, read_setting
from engine.types import HostFeature

if TYPE_CHECKING:
    from engine.network.firewall import Firewall

_FORWARDING = "ipv4/ip_forward"
_LOCALNET = "ipv4/conf/default/route_localnet"


def network_features(firewall: Firewall) -> tuple[HostFeature, ...]:
    """Look at everything that bridges, rules and ways out need; nothing is changed."""
    return (
        *_rules(firewall),
        _forwarding(),
        _loopback(),
        _ipv6(),
        *(
            HostFeature(
                name="rules of others",
                is_available=False,
                detail="packets of containers are dropped",
                remedy=text,
            )
            for text in forwarding_conditions(firewall.table)
        ),
    )


def _rules(firewall: Firewall) -> tuple[HostFeature, ...]:
    try:
        trial = firewall.try_out()
    except FeatureUnavailableError as error:
        missing = HostFeature(
            name="network", is_available=False, detail=error.reason, remedy=error.hint
        )
        return (missing,)
    guard = HostFeature(
        name="network guard",
        is_available=not trial,
        detail=trial or "no container can pretend to be another",
        remedy="Use a kernel with CONFIG_NF_TABLES_BRIDGE; until then containers of one network "
        "must trust each other"
        if trial
        else "",
    )
    return (
        HostFeature(name="network", is_available=True, detail="bridges and rules of nftables"),
        guard,
    )


def _forwarding() -> HostFeature:
    name = f"net.{_FORWARDING.replace('/', '.')}"
    value = read_setting(_FORWARDING)
    if value == "1":
        return HostFeature(name="forwarding", is_available=True, detail=f"{name} is 1")
    if os.access(f"{SETTINGS}/{_FORWARDING}", os.W_OK):
        detail = f"{name} is {value}: it is set when a container needs it"
        return HostFeature(name="forwarding", is_available=True, detail=detail)
    return HostFeature(
        name="forwarding",
        is_available=False,
        detail=f"{name} is {value or 'not there'} and cannot be set",
        remedy=f"As root: sysctl -w {name}=1",
    )


def _loopback() -> HostFeature:
    name = "loopback ports"
    if os.access(f"{SETTINGS}/{_LOCALNET}", os.W_OK):
        detail = "the kernel leads 127.0.0.1 to published ports"
        return HostFeature(name=name, is_available=True, detail=detail)
    return HostFeature(
        name=name,
        is_available=False,
        detail="a proxy leads 127.0.0.1 to published ports, at half the speed: "
        "route_localnet cannot be set",
        remedy="It takes root, and /proc/sys to be writable",
    )


def _ipv6() -> HostFeature:
    if read_setting("ipv6/conf/all/disable_ipv6") == "0":
        return HostFeature(name="ipv6", is_available=True, detail="networks can have it")
    if read_setting("ipv6/conf/all/disable_ipv6") == "1":
        detail, remedy = "it is switched off", "As root: sysctl -w net.ipv6.conf.all.disable_ipv6=0"
    else:
        detail, remedy = "the kernel has none", "Boot without ipv6.disable=1, then it has"
    return HostFeature(name="ipv6", is_available=False, detail=detail, remedy=remedy)
