"""What is said about the network of one container: how it is connected, or why it is not."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from engine.types import ContainerStatus
from tui.sanitise import clean
from tui.short_ports import distinct_ports, port_texts
from tui.widgets.rows import Cell, fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.types import ContainerDetails, NetworkAttachment

_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
_JOIN = "container:"
_LABEL_WIDTH = 18
_DEFAULT_NETWORK = "bridge"
EMBEDDED_SERVER = "127.0.0.11"
"""Where containers of networks that a person made ask for names."""

_WIDTH_OF_REASONS = 48
_ALONE = "only its loopback device"
"""What every warning of a start without a network says."""

Line = tuple[Cell, ...]


def network_lines(details: ContainerDetails) -> list[Line]:
    """The networks, name servers and ports, below a heading; nothing of one that has none."""
    lines: list[Line] = []
    for one in details.attachments:
        lines += _attachment_lines(one)
    lines += _name_lines(details)
    lines += _port_lines(details)
    return [(), (Cell("Network", "accent"),), *lines] if lines else []


def _fact(label: str, value: str, style: str = "") -> Line:
    label = clean(label, limit=200)
    # A long name of a network keeps its blank behind it.
    return (
        Cell(fit(label, _LABEL_WIDTH - 1) + " ", "dim"),
        Cell(clean(value, limit=1000) or "-", style),
    )


def connectivity_lines(details: ContainerDetails, *, names: Mapping[str, str]) -> list[Line]:
    """Addresses and gateway in a few words; without a network: why, and what to do.

    Args:
        details: What the engine says.
        names: Those of containers by id: it may share the network of one.
    """
    label, text, style = _connectivity(details, names)
    # A reason and its remedy are two sentences, and a pane is not wide.
    parts = [text] if style == "good" else textwrap.wrap(text, _WIDTH_OF_REASONS)
    return [_fact(label if not n else "", part, style) for n, part in enumerate(parts)]


def _connectivity(details: ContainerDetails, names: Mapping[str, str]) -> tuple[str, str, str]:
    summary = details.summary
    mode = details.network.mode
    if mode == "host":
        return ("Connected", "the host's own network: its addresses and its ports", "good")
    if mode == "none":
        return (
            "Not connected",
            "as asked for with --network none: loopback alone; run another without it",
            "warn",
        )
    if mode.startswith(_JOIN):
        owner = mode.removeprefix(_JOIN)
        text = f"the network of {names.get(owner, owner[:12])}, which it shares"
        return ("Connected", text, "good")
    if not summary.network_names:
        return ("Not connected", "it is in no network: n connects it to one", "warn")
    if summary.status not in _ALIVE:
        networks = ", ".join(summary.network_names)
        return ("Not connected", f"it does not run; s starts it in {networks}", "dim")
    connected = [one for one in details.attachments if _addresses(one)]
    if connected:
        said = ", ".join(f"{_addresses(one)[0]} in {one.network_name}" for one in connected)
        gateways = [gateway for one in connected for gateway in _gateways(one)]
        way_out = f", out by {gateways[0]}" if gateways else ", with no way out"
        return ("Connected", said + way_out, "good")
    why = next((text for text in details.warnings if _ALONE in text), "")
    if (by := details.user_network) is not None:
        said = ", ".join(by.addresses)
        return ("Connected", f"{said}, out by {by.program}, in by published ports", "good")
    return ("Not connected", why or "the host gave it none; ! says what the host lacks", "bad")


def _addresses(one: NetworkAttachment) -> tuple[str, ...]:
    """Without their prefixes."""
    both = (one.ipv4_address, one.ipv6_address)
    return tuple(address.partition("/")[0] for address in both if address)


def _gateways(one: NetworkAttachment) -> tuple[str, ...]:
    return tuple(gateway for gateway in (one.ipv4_gateway, one.ipv6_gateway) if gateway)


def _attachment_lines(one: NetworkAttachment) -> list[Line]:
    lines: list[Line] = []
    for address, gateway in (
        (one.ipv4_address, one.ipv4_gateway),
        (one.ipv6_address, one.ipv6_gateway),
    ):
        if address:
            way = f"gateway {gateway}" if gateway else "no gateway: nothing goes out of it"
            lines.append(_fact("" if lines else one.network_name, f"{address}  {way}"))
    if not lines:
        return [_fact(one.network_name, "no address now")]
    if one.mac_address or one.interface:
        lines.append(_fact("", f"{one.interface}  {one.mac_address}".strip()))
    if one.aliases:
        lines.append(_fact("", f"also called {', '.join(one.aliases)}"))
    return lines


def _name_lines(details: ContainerDetails) -> list[Line]:
    options = details.network
    if options.mode.startswith(_JOIN) or options.mode == "none":
        return []
    asked = ", ".join(options.dns_servers)
    own = [one.network_name for one in details.attachments if one.network_name != _DEFAULT_NETWORK]
    others = asked or "the servers of the host"
    if own:
        lines = [
            _fact("Name servers", f"{EMBEDDED_SERVER}: containers of {', '.join(own)} by name"),
            _fact("", f"it asks {others} for the rest"),
        ]
    else:
        lines = [_fact("Name servers", others)]
    if options.dns_search:
        lines.append(_fact("Search", ", ".join(options.dns_search)))
    if options.dns_options:
        lines.append(_fact("Options", ", ".join(options.dns_options)))
    lines += [
        _fact("Extra host" if not n else "", f"{name}  {address}")
        for n, (name, address) in enumerate(options.extra_hosts)
    ]
    return lines


def _port_lines(details: ContainerDetails) -> list[Line]:
    summary = details.summary
    published = distinct_ports(summary.ports)
    lines = [_fact("Ports" if not n else "", text) for n, text in enumerate(port_texts(published))]
    reached = {f"{port.container_port}/{port.protocol}" for port in published}
    asked = port_texts(details.network.published_ports)
    if asked and not published:
        lines.append(_fact("Ports", f"{', '.join(asked)}, when it runs", "dim"))
        reached |= {f"{p.container_port}/{p.protocol}" for p in details.network.published_ports}
    hidden = [port for port in summary.exposed_ports if port not in reached]
    if hidden:
        lines.append(_fact("Not published", ", ".join(hidden), "dim"))
    return lines
