"""What `inspect` shows of networks, by Docker's names: of one network, and of a container's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import ContainerStatus
from tui.cli.docker_texts import rfc3339
from tui.cli.documents import document
from tui.cli.port_texts import container_mappings, own_networks
from tui.cli.template_functions import LabelMap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import (
        AttachmentRequest,
        ContainerDetails,
        NetworkAttachment,
        NetworkDetails,
        NetworkOptions,
        NetworkSubnet,
        PublishedPort,
    )
    from tui.cli.documents import Document

_DEFAULT_NETWORK = "bridge"
_DISCONNECTED = "disconnected"
_LIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


def network_document(details: NetworkDetails) -> dict[str, Document]:
    """Everything about a network."""
    network = details.network
    return {
        "Name": network.name,
        "Id": network.network_id,
        "Created": rfc3339(network.created_at),
        "Scope": "local",
        "Driver": network.driver.value,
        "EnableIPv4": True,
        "EnableIPv6": network.has_ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [
                {
                    "Subnet": one.subnet,
                    **({"IPRange": one.ip_range} if one.ip_range else {}),
                    "Gateway": one.gateway,
                    **_auxiliary(one),
                }
                for one in network.subnets
            ],
        },
        "Internal": network.is_internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": LabelMap(
            (
                member.container_id,
                {
                    "Name": member.container_name,
                    "MacAddress": member.mac_address,
                    "IPv4Address": member.ipv4_address,
                    "IPv6Address": member.ipv6_address,
                },
            )
            for member in details.members
        ),
        "Options": LabelMap(network.options),
        "Labels": LabelMap(network.labels),
        **_record(details),
    }


def _auxiliary(subnet: NetworkSubnet) -> dict[str, Document]:
    if not subnet.auxiliary_addresses:
        return {}
    return {"AuxiliaryAddresses": LabelMap(subnet.auxiliary_addresses)}


def _record(details: NetworkDetails) -> dict[str, Document]:
    own = document(details)
    return own if isinstance(own, dict) else {}


def network_settings(details: ContainerDetails) -> dict[str, Document]:
    """What a container has of networks: its addresses, and the ports that lead to it."""
    summary = details.summary
    attached = {one.network_name: one for one in details.attachments}
    asked = {one.network: one for one in details.network.attachments}
    names = dict.fromkeys((*attached, *own_networks(summary)))
    default = attached.get(_DEFAULT_NETWORK)
    return {
        "SandboxKey": f"/proc/{details.process_id}/ns/net" if details.process_id else "",
        "Ports": _ports(details),
        # As Docker: here is what it has on the default network; on others, see Networks.
        **_addresses(default),
        "MacAddress": default.mac_address if default else "",
        "Networks": LabelMap(
            (name, _attachment(details, attached.get(name), asked)) for name in names
        ),
    }


def _attachment(
    details: ContainerDetails,
    attachment: NetworkAttachment | None,
    asked: dict[str, AttachmentRequest],
) -> dict[str, Document]:
    """One network of a container; without addresses as long as it does not run."""
    request = asked.get(attachment.network_id) if attachment else None
    aliases = attachment.aliases if attachment else ()
    return {
        "IPAMConfig": _wanted_addresses(request),
        "Links": None,
        "Aliases": _texts(aliases),
        "DriverOpts": None,
        "NetworkID": attachment.network_id if attachment else "",
        "MacAddress": attachment.mac_address if attachment else "",
        **_addresses(attachment),
        "DNSNames": _texts(_names(details, attachment)),
    }


def _names(details: ContainerDetails, attachment: NetworkAttachment | None) -> Iterable[str]:
    """What the others on a network can call it; on the default one there are no names."""
    if attachment is None or attachment.network_name == _DEFAULT_NETWORK:
        return ()
    identity = details.summary.container_id[:12]
    return dict.fromkeys((details.summary.name, *attachment.aliases, identity, details.hostname))


def _wanted_addresses(request: AttachmentRequest | None) -> Document:
    if request is None or not (request.ipv4_address or request.ipv6_address):
        return None
    wanted: dict[str, Document] = {}
    if request.ipv4_address:
        wanted["IPv4Address"] = request.ipv4_address
    if request.ipv6_address:
        wanted["IPv6Address"] = request.ipv6_address
    return wanted


def _addresses(attachment: NetworkAttachment | None) -> dict[str, Document]:
    ipv4, _, ipv4_length = (attachment.ipv4_address if attachment else "").partition("/")
    ipv6, _, ipv6_length = (attachment.ipv6_address if attachment else "").partition("/")
    return {
        "Gateway": attachment.ipv4_gateway if attachment else "",
        "IPAddress": ipv4,
        "IPPrefixLen": int(ipv4_length or 0),
        "IPv6Gateway": attachment.ipv6_gateway if attachment else "",
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": int(ipv6_length or 0),
    }


def _ports(details: ContainerDetails) -> LabelMap:
    """Every port that it listens on; null for one that nothing of the host's leads to."""
    found: dict[str, list[Document]] = {}
    for port in container_mappings(details.summary):
        leading = found.setdefault(port.container_side, [])
        if port.host_address:
            leading.append({"HostIp": port.host_address, "HostPort": str(port.host_port)})
    return LabelMap((side, leading or None) for side, leading in found.items())


def network_fields(details: ContainerDetails) -> dict[str, Document]:
    """What HostConfig has about networks: as it was asked for."""
    options = details.network
    return {
        "NetworkMode": _mode(details),
        "PortBindings": _bindings(options.published_ports),
        "PublishAllPorts": options.publishes_all,
        "Dns": [*options.dns_servers],
        "DnsOptions": [*options.dns_options],
        "DnsSearch": [*options.dns_search],
        "ExtraHosts": _texts(f"{name}:{address}" for name, address in options.extra_hosts),
    }


def _mode(details: ContainerDetails) -> str:
    options = details.network
    if options.mode and options.mode != _DISCONNECTED:
        return options.mode
    if not options.attachments:
        return _DEFAULT_NETWORK
    first = options.attachments[0].network
    names = {one.network_id: one.network_name for one in details.attachments}
    return names.get(first, first)


def _bindings(ports: Iterable[PublishedPort]) -> LabelMap:
    found: dict[str, list[Document]] = {}
    for port in ports:
        number = str(port.host_port) if port.host_port else ""
        if port.host_port_end:
            number = f"{port.host_port}-{port.host_port_end}"
        found.setdefault(f"{port.container_port}/{port.protocol}", []).append(
            {"HostIp": port.host_address, "HostPort": number}
        )
    return LabelMap(found.items())


def exposed_ports(exposed: Iterable[str], options: NetworkOptions) -> Document:
    """What Config has: the ports that it listens on, those that are published among them."""
    published = (f"{port.container_port}/{port.protocol}" for port in options.published_ports)
    return LabelMap((side, {}) for side in dict.fromkeys((*exposed, *published))) or None


def _texts(texts: Iterable[str]) -> Document:
    found: list[Document] = [*texts]
    return found or None
