"""What a container may ask of networks, with Docker's rules and words."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.network.planning import DEFAULT_NETWORK
from engine.network.subnets import parse_subnet
from engine.types import NetworkOptions

if TYPE_CHECKING:
    from engine.types import AttachmentRequest, Network, PublishedPort

HOST = "host"
NONE = "none"
JOIN = "container:"
DISCONNECTED = "disconnected"
"""The mode of one that was taken out of every network: it may be put into others."""
HOST_GATEWAY = "host-gateway"
PROTOCOLS = ("tcp", "udp", "sctp")
_MODES = frozenset({"", HOST, NONE})
_PORTS = range(1, 65536)
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)
_DOMAIN = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?\.?", re.ASCII)
_EXPOSED = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-z]+))?", re.ASCII)
_MOST_EXPOSED = 65536


def check_network_options(options: NetworkOptions, *, hostname: str | None) -> None:
    """Refuse what can work on no host, before anything is made.

    Raises:
        InvalidInputError: A value makes no sense, or contradicts another one.
    """
    if options == NetworkOptions():
        return
    _check_mode(options, hostname)
    for attachment in options.attachments:
        _check_addresses(attachment)
    for port in options.published_ports:
        _check_port(port)
    for text in options.exposed_ports:
        expand_exposed(text)
    for server in options.dns_servers:
        _check_address(server, f"{server} is not an ip address")
    for domain in options.dns_search:
        if domain != "." and not _DOMAIN.fullmatch(domain):
            raise InvalidInputError(f"{domain} is not a valid domain")
    for option in options.dns_options:
        if not option or not option.isprintable() or " " in option:
            raise InvalidInputError(f"invalid --dns-option: {option!r}")
    for name, address in options.extra_hosts:
        if not _DOMAIN.fullmatch(name):
            raise InvalidInputError(
                f'bad format for add-host: "{name}:{address}"', hint="Write --add-host NAME:ADDRESS"
            )
        if address != HOST_GATEWAY:
            _check_address(address, f'invalid IP address in add-host: "{address}"')


def network_warnings(options: NetworkOptions) -> tuple[str, ...]:
    """What is asked for and has no meaning; the text is Docker's."""
    if options.mode in {HOST, NONE} and (options.published_ports or options.publishes_all):
        return (f"Published ports are discarded when using {options.mode} network mode",)
    return ()


def _check_mode(options: NetworkOptions, hostname: str | None) -> None:
    mode = options.mode
    is_join = mode.startswith(JOIN) and mode != JOIN
    if mode not in _MODES and not is_join:
        raise InvalidInputError(
            f"invalid network mode: {mode!r}",
            hint="--network takes host, none, container:NAME, or the name of a network",
        )
    if not mode:
        return
    if options.attachments:
        raise InvalidInputError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes",
            hint=f"With --network {mode} there is no other network",
        )
    if not is_join:
        return
    for value, what in (
        (hostname, "hostname and the network mode"),
        (options.dns_servers, "dns and the network mode"),
        (options.dns_search, "dns and the network mode"),
        (options.dns_options, "dns and the network mode"),
        (options.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (options.published_ports, "port publishing and the container type network mode"),
        (options.publishes_all, "port publishing and the container type network mode"),
        (options.exposed_ports, "port exposing and the container type network mode"),
    ):
        if value:
            raise InvalidInputError(
                f"conflicting options: {what}",
                hint=f"With --network {mode} it is the other container's",
            )


def _check_addresses(attachment: AttachmentRequest) -> None:
    for text, version in ((attachment.ipv4_address, 4), (attachment.ipv6_address, 6)):
        if text:
            _check_address(text, f"invalid IPv{version} address: {text}", version=version)
    mac = attachment.mac_address
    if mac and (not _MAC.fullmatch(mac) or is_group_mac(mac)):
        raise InvalidInputError(
            f"{mac} is not a valid mac address", hint="Such as 02:4c:00:00:00:07, of one device"
        )
    for alias in attachment.aliases:
        if not _DOMAIN.fullmatch(alias):
            raise InvalidInputError(f"invalid network alias: {alias!r}")


def is_group_mac(mac: str) -> bool:
    """Whether frames to it go to several devices, or it is the empty one."""
    first = int(mac[:2], 16)
    return bool(first & 1) or not int(re.sub("[:-]", "", mac), 16)


def _check_address(text: str, message: str, *, version: int = 0, hint: str = "") -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInputError(message, hint=hint) from None
    if version and address.version != version:
        raise InvalidInputError(message, hint=hint)


def _check_port(port: PublishedPort) -> None:
    if port.container_port not in _PORTS:
        raise InvalidInputError(f"invalid containerPort: {port.container_port}")
    for number in (port.host_port, port.host_port_end):
        if number and number not in _PORTS:
            raise InvalidInputError(f"invalid hostPort: {number}")
    if port.host_port_end and port.host_port_end < port.host_port:
        raise InvalidInputError(f"invalid hostPort: {port.host_port}-{port.host_port_end}")
    if port.protocol not in PROTOCOLS:
        raise InvalidInputError(
            f"invalid proto: {port.protocol}", hint=f"Known are {', '.join(PROTOCOLS)}"
        )
    if port.host_address:
        _check_address(
            port.host_address,
            f"invalid IP address: {port.host_address}",
            hint="Write -p 127.0.0.1:8080:80 or -p [::1]:8080:80",
        )


def expand_exposed(text: str) -> tuple[tuple[int, str], ...]:
    """The ports, each with its protocol, that `80`, `53/udp` or `8000-8010/tcp` stands for.

    Raises:
        InvalidInputError: It stands for none.
    """
    match = _EXPOSED.fullmatch(text)
    if match is None:
        raise InvalidInputError(f"invalid range format for --expose: {text}")
    first = int(match[1])
    last = int(match[2] or first)
    protocol = match[3] or "tcp"
    if first not in _PORTS or last not in _PORTS or last < first or protocol not in PROTOCOLS:
        raise InvalidInputError(f"invalid range format for --expose: {text}")
    return tuple((port, protocol) for port in range(first, last + 1))


def check_attachment(request: AttachmentRequest, network: Network) -> None:
    """Refuse what a network cannot give a container; the texts are Docker's.

    Raises:
        InvalidInputError: It cannot.
    """
    _check_addresses(request)
    if network.name == DEFAULT_NETWORK:
        if request.aliases:
            raise InvalidInputError(
                "network-scoped aliases are only supported for user-defined networks",
                hint="`lamella network create` makes one",
            )
        if request.ipv4_address or request.ipv6_address:
            raise InvalidInputError(
                "user specified IP address is supported on user defined networks only",
                hint="`lamella network create` makes one",
            )
    for text, version in ((request.ipv4_address, 4), (request.ipv6_address, 6)):
        if text and not any(
            ipaddress.ip_address(text) in subnet
            for one in network.subnets
            if (subnet := parse_subnet(one.subnet)).version == version
        ):
            raise InvalidInputError(
                "invalid endpoint settings: no configured subnet or ip-range contain the IP "
                f"address {text}",
                hint=f"Network {network.name} has "
                + (", ".join(one.subnet for one in network.subnets) or "no subnet"),
            )


def is_shared_namespace(mode: str) -> bool:
    """Whether others are in the network namespace of a container, too."""
    return mode == HOST or mode.startswith(JOIN)


def is_shared_mode(mode: str) -> bool:
    """Whether a container has no networks of its own to be put into or taken out of."""
    return mode in {HOST, NONE} or mode.startswith(JOIN)
