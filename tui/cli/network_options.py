"""Options of `run` and `create` about networks, names and published ports."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.types import AttachmentRequest, NetworkOptions, PublishedPort
from tui.cli.options import Option

if TYPE_CHECKING:
    from tui.cli.options import Arguments

NETWORK_OPTIONS = (
    Option("network", "", "NETWORK", "A network's name, host, none or container:NAME", True),
    Option("net", "", "NETWORK", "The same as --network", True),
    Option("network-alias", "", "NAME", "One more name in its network", True),
    Option("ip", "", "ADDRESS", "Its IPv4 address in its network"),
    Option("ip6", "", "ADDRESS", "Its IPv6 address in its network"),
    Option("mac-address", "", "ADDRESS", "Its Ethernet address, such as 02:4c:00:00:00:07"),
    Option("publish", "p", "[[IP:]HOST:]PORT[/PROTOCOL]", "Lead a port of the host to it", True),
    Option("publish-all", "P", "", "Lead a port of the host to each that the image exposes"),
    Option("expose", "", "PORT[/PROTOCOL]", "One more port that it listens on, or a range", True),
    Option("dns", "", "ADDRESS", "Ask this name server", True),
    Option("dns-search", "", "DOMAIN", "Look names up in this domain, too; . for none", True),
    Option("dns-option", "", "OPTION", "An option of resolv.conf, such as ndots:2", True),
    Option("add-host", "", "NAME:ADDRESS", "A line of /etc/hosts; host-gateway is the host", True),
)
_SHARED = ("host", "none")
_JOIN = "container:"
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_HIGHEST_PORT = 65535


def asks_for_network(arguments: Arguments) -> bool:
    """Whether somebody wants more of networks than everybody gets."""
    named = (name for option in ("network", "net", "publish") for name in arguments.texts(option))
    return arguments.is_on("publish-all") or any(named)


def read_network(arguments: Arguments) -> NetworkOptions:
    """Make the options from the command line.

    Raises:
        InvalidInputError: A value makes no sense.
    """
    mode, attachments = _networks(arguments)
    return NetworkOptions(
        mode=mode,
        attachments=attachments,
        published_ports=tuple(
            port for text in arguments.texts("publish") for port in published_ports(text)
        ),
        publishes_all=arguments.is_on("publish-all"),
        exposed_ports=arguments.texts("expose"),
        dns_servers=arguments.texts("dns"),
        dns_search=arguments.texts("dns-search"),
        dns_options=arguments.texts("dns-option"),
        extra_hosts=tuple(extra_host(text) for text in arguments.texts("add-host")),
    )


def _networks(arguments: Arguments) -> tuple[str, tuple[AttachmentRequest, ...]]:
    named = (*arguments.texts("network"), *arguments.texts("net"))
    aliases = arguments.texts("network-alias")
    first = AttachmentRequest(
        network="",
        aliases=aliases,
        ipv4_address=arguments.text("ip") or "",
        ipv6_address=arguments.text("ip6") or "",
        mac_address=arguments.text("mac-address") or "",
    )
    has_settings = first != AttachmentRequest(network="")
    if not named:
        return "", (replace(first, network="bridge"),) if has_settings else ()
    for name in named:
        if name not in _SHARED and not name.startswith(_JOIN):
            continue
        if len(named) > 1:
            raise InvalidInputError(
                "conflicting options: cannot attach both user-defined and non-user-defined "
                "network-modes",
                hint=f"With --network {name} there is no other network",
            )
        if has_settings:
            raise InvalidInputError(
                "conflicting options: --network-alias, --ip, --ip6 and --mac-address need a "
                f"network, which --network {name} is not",
                hint="`lamella network create` makes one",
            )
        return name, ()
    attachments = [_attachment(text) for text in named]
    if has_settings:
        attachments[0] = _joined(attachments[0], first)
    return "", tuple(attachments)


def _joined(one: AttachmentRequest, settings: AttachmentRequest) -> AttachmentRequest:
    for said, other, option in (
        (one.aliases, settings.aliases, "--network-alias"),
        (one.ipv4_address, settings.ipv4_address, "--ip"),
        (one.ipv6_address, settings.ipv6_address, "--ip6"),
        (one.mac_address, settings.mac_address, "--mac-address"),
    ):
        if said and other:
            raise InvalidInputError(
                f"conflicting options: cannot specify both {option} and per-network settings",
                hint=f"Leave {option} out, or what --network says of it",
            )
    return AttachmentRequest(
        network=one.network,
        aliases=one.aliases or settings.aliases,
        ipv4_address=one.ipv4_address or settings.ipv4_address,
        ipv6_address=one.ipv6_address or settings.ipv6_address,
        mac_address=one.mac_address or settings.mac_address,
    )


def _attachment(text: str) -> AttachmentRequest:
    """`NAME`, or `name=NAME,alias=web,ip=10.0.0.7` as Docker's long form has it."""
    if "=" not in text:
        return AttachmentRequest(network=text)
    said: dict[str, list[str]] = {}
    for field in text.split(","):
        key, separator, value = field.partition("=")
        if not separator or not value:
            raise InvalidInputError(
                f"invalid field {field}", hint="Write --network name=NAME,alias=web,ip=10.0.0.7"
            )
        said.setdefault(key.strip().lower(), []).append(value.strip())
    request = AttachmentRequest(
        network=said.pop("name", [""])[-1],
        aliases=tuple(said.pop("alias", [])),
        ipv4_address=said.pop("ip", [""])[-1],
        ipv6_address=said.pop("ip6", [""])[-1],
        mac_address=said.pop("mac-address", [""])[-1],
    )
    if said:
        raise InvalidInputError(
            f"invalid field key {next(iter(said))}",
            hint="Known are name, alias, ip, ip6 and mac-address",
        )
    if not request.network:
        raise InvalidInputError("network name/id is not specified", hint="Add name=NAME")
    return request


def published_ports(text: str) -> tuple[PublishedPort, ...]:
    """What `-p` says: `80`, `8080:80`, `127.0.0.1::80/udp`, `[::1]:8000-8001:80-81`.

    Raises:
        InvalidInputError: It is none of these; the texts are Docker's.
    """
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    rest, _, container = rest.rpartition(":")
    address, _, host = rest.rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    if not container:
        raise InvalidInputError(f"no port specified: {text}<empty>", hint=_HINT)
    if protocol not in {"tcp", "udp", "sctp"}:
        raise InvalidInputError(f"invalid proto: {protocol}", hint="Known are tcp, udp and sctp")
    first, last = _range(container, "containerPort")
    # 0 is any port, as where nothing stands.
    if not host or (host == "0" and first == last):
        return tuple(
            PublishedPort(container_port=port, protocol=protocol, host_address=address)
            for port in range(first, last + 1)
        )
    host_first, host_last = _range(host, "hostPort")
    if host_last - host_first == last - first:
        return tuple(
            PublishedPort(
                container_port=first + step,
                host_port=host_first + step,
                protocol=protocol,
                host_address=address,
            )
            for step in range(last - first + 1)
        )
    if first != last:
        raise InvalidInputError(
            f"invalid ranges specified for container and host Ports: {container} and {host}",
            hint="Both ranges are of one length, or the container's is one port",
        )
    return (
        PublishedPort(
            container_port=first,
            host_port=host_first,
            host_port_end=host_last,
            protocol=protocol,
            host_address=address,
        ),
    )


_HINT = "Write -p 8080:80, -p 127.0.0.1:8080:80 or -p 53:53/udp"


def _range(text: str, what: str) -> tuple[int, int]:
    match = _PORTS.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if not 0 < first <= last <= _HIGHEST_PORT:
        raise InvalidInputError(f"invalid {what}: {text}", hint=_HINT)
    return first, last


def extra_host(text: str) -> tuple[str, str]:
    """`NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may be in brackets."""
    place = min((found for mark in "=:" if (found := text.find(mark)) >= 0), default=-1)
    name, address = text[:place], text[place + 1 :]
    if place <= 0 or not address:
        raise InvalidInputError(
            f'bad format for add-host: "{text}"', hint="Write --add-host NAME:ADDRESS"
        )
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return name, address
