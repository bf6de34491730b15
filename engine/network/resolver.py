"""/etc/resolv.conf of a container, by the rules of Docker (libnetwork/internal/resolvconf)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.runtime.host_resolver import Resolver, is_loopback, parse_resolver
from engine.runtime.name_sockets import RESOLVER_ADDRESS

if TYPE_CHECKING:
    from engine.types import NetworkOptions

SYSTEMD_RESOLVER_PATH = "/run/systemd/resolve/resolv.conf"
_SYSTEMD_STUB = ("127.0.0.53",)
_LAST_RESORT4 = ("8.8.8.8", "8.8.4.4")
_LAST_RESORT6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
PUBLIC_SERVERS = (
    "Public name servers (8.8.8.8) are asked: this host's are on its loopback, where containers of "
    "the default network do not reach them; --dns names others, and in a network made by "
    "`lamella network create` the host's are asked"
)
_NO_SEARCH = (".",)
_NDOTS = "ndots:"
NO_NETWORK = "# This container has no network\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResolver:
    """What the host's resolv.conf says.

    Attributes:
        text: /etc/resolv.conf as it is.
        upstream_text: What systemd-resolved asks behind its stub; empty without it.
    """

    text: str = ""
    upstream_text: str = ""

    @property
    def is_stub(self) -> bool:
        """Whether the host asks nobody but systemd-resolved, at an address that is its alone."""
        return parse_resolver(self.text).servers == _SYSTEMD_STUB


def resolver_text(host: HostResolver, options: NetworkOptions, *, has_ipv6: bool) -> str:
    """For a container of the default network, which asks the servers themselves.

    Servers on the host's loopback are nowhere in a container; without any other it asks public
    ones, as Docker has it.

    Args:
        host: The host's.
        options: What the person wants instead.
        has_ipv6: The container has an IPv6 address.
    """
    resolver = _outward(host)
    servers = options.dns_servers or _reachable(resolver, has_ipv6=has_ipv6)
    if not servers:
        servers = _LAST_RESORT4 + (_LAST_RESORT6 if has_ipv6 else ())
    return _written(servers, _wanted_search(resolver, options), _wanted_options(resolver, options))


def asks_public_servers(host: HostResolver, options: NetworkOptions, *, has_ipv6: bool) -> bool:
    """Whether such a container asks servers that nobody has named."""
    return not options.dns_servers and not _reachable(_outward(host), has_ipv6=has_ipv6)


def _outward(host: HostResolver) -> Resolver:
    return parse_resolver(host.upstream_text if host.is_stub and host.upstream_text else host.text)


def _reachable(resolver: Resolver, *, has_ipv6: bool) -> tuple[str, ...]:
    return tuple(
        each for each in resolver.servers if not is_loopback(each) and (has_ipv6 or ":" not in each)
    )


def own_resolver_text(host: HostResolver, options: NetworkOptions) -> str:
    """For a container that asks its own resolver.

    That asks the host's servers from where the host does, or those that were asked for.
    """
    resolver = parse_resolver(host.text)
    found = _wanted_options(resolver, options)
    if not any(option.startswith(_NDOTS) for option in found):
        # A name without a dot is first of all a container's.
        found = (*found, "ndots:0")
    return _written((RESOLVER_ADDRESS,), _wanted_search(resolver, options), found)


def shared_resolver_text(host: HostResolver, options: NetworkOptions) -> str:
    """For a container in the host's network: the host's, but for what was asked for."""
    if not (options.dns_servers or options.dns_search or options.dns_options):
        return host.text
    resolver = parse_resolver(host.text)
    return _written(
        options.dns_servers or resolver.servers,
        _wanted_search(resolver, options),
        _wanted_options(resolver, options),
    )


def _wanted_search(resolver: Resolver, options: NetworkOptions) -> tuple[str, ...]:
    search = options.dns_search or resolver.search
    return () if search == _NO_SEARCH else search


def _wanted_options(resolver: Resolver, options: NetworkOptions) -> tuple[str, ...]:
    return options.dns_options or resolver.options


def _written(servers: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...]) -> str:
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)
