"""Networks, and what a container asks of them and has of them."""

from __future__ import annotations

from enum import StrEnum

from engine.late_dataclasses import dataclass
from engine.types.identity import ContainerId


class NetworkDriver(StrEnum):
    """What a network is made of; Docker's words. The last two are there once and not made."""

    BRIDGE = "bridge"
    HOST = "host"
    NONE = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSubnet:
    """A range of addresses of a network, IPv4 or IPv6."""

    subnet: str
    """`10.80.4.0/22`."""
    gateway: str
    """The host's address in it."""
    ip_range: str = ""
    """What addresses are drawn from; empty for all of the subnet."""
    auxiliary_addresses: tuple[tuple[str, str], ...] = ()
    """Those that no container is given, each with a name: `("router", "10.80.4.1")`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """What a person asks for with `network create`."""

    name: str
    driver: str = NetworkDriver.BRIDGE
    subnets: tuple[NetworkSubnet, ...] = ()
    """None draws one; a gateway may be empty, and is then the first address."""
    is_internal: bool = False
    """Nothing goes out of it and nothing comes in."""
    has_ipv6: bool = False
    has_ipv4: bool = True
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    """The driver's, in Docker's words: `com.docker.network.driver.mtu`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network."""

    network_id: str
    """64 hexadecimal digits."""
    name: str
    driver: NetworkDriver
    created_at: float
    subnets: tuple[NetworkSubnet, ...] = ()
    is_internal: bool = False
    has_ipv6: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    bridge: str = ""
    """The name of its device on the host; empty without one."""
    is_predefined: bool = False
    """It is there without having been made, and stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMember:
    """A container that runs, as one network sees it."""

    container_id: ContainerId
    container_name: str
    mac_address: str
    ipv4_address: str
    """With the prefix, `10.80.4.2/22`; empty for none."""
    ipv6_address: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDetails:
    """A network and who is in it now."""

    network: Network
    members: tuple[NetworkMember, ...]
    """By name; only those that run."""
    warnings: tuple[str, ...] = ()
    """What of the host keeps it from working, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRequest:
    """A network that a container is to be in."""

    network: str
    """Name, id or the beginning of an id; of a container that is made: its id."""
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    """Empty draws one."""
    ipv6_address: str = ""
    mac_address: str = ""
    """Empty derives one from the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAttachment:
    """A network that a container is in, and what it has there."""

    network_id: str
    network_name: str
    ipv4_address: str
    """With the prefix; empty for none, and for all of them while the container does not run."""
    ipv4_gateway: str
    ipv6_address: str
    ipv6_gateway: str
    mac_address: str
    interface: str
    """In the container, such as `eth0`."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """A port of the host's that leads to one of a container's."""

    container_port: int
    protocol: str = "tcp"
    """`tcp`, `udp` or `sctp`."""
    host_port: int = 0
    """0 draws one at each start."""
    host_port_end: int = 0
    """The last one of a range that one is drawn from; 0 for no range."""
    host_address: str = ""
    """Empty for every one of the host's, IPv4 and IPv6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNetwork:
    """The way out of an ordinary user's container that runs.

    Attributes:
        program: Name of who speaks for it on the host: `pasta` or `slirp4netns`.
        addresses: The container's own, IPv4 first.
    """

    program: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Everything that `run` takes about a container's network."""

    mode: str = ""
    """`host`, `none`, `container:` and a name or id; empty for the networks below."""
    attachments: tuple[AttachmentRequest, ...] = ()
    """None means the default bridge, unless there is a mode."""
    published_ports: tuple[PublishedPort, ...] = ()
    publishes_all: bool = False
    """Every exposed port gets one of the host's."""
    exposed_ports: tuple[str, ...] = ()
    """`80`, `53/udp`, `8000-8010`, besides the image's."""
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    """`.` alone for none."""
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    """Name and address for /etc/hosts; the address may be `host-gateway`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedNetworks:
    """What a prune removed."""

    names: tuple[str, ...]
