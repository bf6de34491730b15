"""hosts, hostname and resolv.conf of a container, which are bound over those of its image.

Their inodes stay for the container's life: a bind mount follows the inode, not the name, so a
later change writes into the file. Programs may write to them, too: what they have made of
resolv.conf is left to them, and hosts is made anew at each start, as Docker has it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.network.attachments import HOST, JOIN
from engine.network.hosts import OwnLines, changed_hosts, hosts_text, shared_hosts_text
from engine.network.resolver import (
    NO_NETWORK,
    PUBLIC_SERVERS,
    SYSTEMD_RESOLVER_PATH,
    HostResolver,
    asks_public_servers,
    own_resolver_text,
    resolver_text,
    shared_resolver_text,
)
from engine.runtime.network_view import HOST_RESOLVER_PATH, read_bounded
from engine.runtime.spec import FileMount

if TYPE_CHECKING:
    from pathlib import Path

    from engine.types import NetworkOptions

HOST_HOSTS_PATH = "/etc/hosts"
_HOSTS, _HOSTNAME, _RESOLVER = "hosts", "hostname", "resolv.conf"
_FILES = (_HOSTS, _HOSTNAME, _RESOLVER)
_RESOLVER_DIGEST = "resolv.conf.digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlace:
    """Where a container stands when its files are written.

    Attributes:
        names: Its hostname and its name.
        addresses: Its own, IPv4 before IPv6 in each network; none without a network.
        gateways: Where it reaches the host; none in internal networks.
        resolver: Address of whom it asks for names; empty for the host's servers themselves.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    resolver: str = ""

    @property
    def has_ipv6(self) -> bool:
        """Whether it reaches servers by IPv6."""
        return any(":" in address for address in self.addresses)

    @property
    def own_lines(self) -> OwnLines:
        """What its hosts say of it."""
        return OwnLines(names=self.names, addresses=self.addresses)


def write_network_files(directory: Path, *, hostname: str, name: str) -> None:
    """Make the three files of a container that has only its loopback; blocking.

    Everybody in the container may read them, whatever the umask here.
    """
    hosts = hosts_text(OwnLines(names=(hostname, name)))
    contents = (hosts, hostname + "\n", NO_NETWORK)
    for file_name, content in zip(_FILES, contents, strict=True):
        descriptor = os.open(
            directory / file_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)
            file.write(content)


def renew_network_files(
    directory: Path, options: NetworkOptions, place: ContainerPlace
) -> tuple[str, ...]:
    """Write hosts and resolv.conf as a container that starts is to have them; blocking.

    Returns:
        What a person may not expect of them, one sentence each.

    Raises:
        OSError: The disk is full, or a file is gone.
    """
    if options.mode.startswith(JOIN):
        return ()  # It has those of the container whose network it shares.
    if options.mode == HOST:
        hosts = shared_hosts_text(
            read_bounded(HOST_HOSTS_PATH).decode(errors="replace"),
            extra_hosts=options.extra_hosts,
            gateways=place.gateways,
        )
    else:
        hosts = hosts_text(
            place.own_lines, extra_hosts=options.extra_hosts, gateways=place.gateways
        )
    _write_into(directory / _HOSTS, hosts.encode())
    return renew_resolver(directory, options, place)


def change_hosts(directory: Path, *, before: ContainerPlace, after: ContainerPlace) -> None:
    """Let hosts follow a container that runs to where it stands from now on; blocking.

    Raises:
        OSError: The disk is full, or the file is gone.
    """
    path = directory / _HOSTS
    text = read_bounded(str(path)).decode(errors="surrogateescape")
    changed = changed_hosts(text, before=before.own_lines, after=after.own_lines)
    _write_into(path, changed.encode(errors="surrogateescape"))


def renew_resolver(
    directory: Path, options: NetworkOptions, place: ContainerPlace
) -> tuple[str, ...]:
    """Let resolv.conf follow a container to other networks; blocking.

    Returns:
        What a person may not expect of it, one sentence each.

    Raises:
        OSError: The disk is full, or the file is gone.
    """
    path = directory / _RESOLVER
    found = read_bounded(str(path))
    # Without a digest it is as it was made.
    noted = read_bounded(str(directory / _RESOLVER_DIGEST)) or _digest(NO_NETWORK.encode())
    if _digest(found) != noted:
        return ()  # Somebody has written to it.
    host = HostResolver(
        text=read_bounded(HOST_RESOLVER_PATH).decode(errors="replace"),
        upstream_text=read_bounded(SYSTEMD_RESOLVER_PATH).decode(errors="replace"),
    )
    content = _resolver(host, options, place).encode()
    if content != found:
        _write_into(path, content)
        _note_resolver(directory, content)
    if not place.addresses or place.resolver:
        return ()
    is_told = asks_public_servers(host, options, has_ipv6=place.has_ipv6)
    return (PUBLIC_SERVERS,) if is_told else ()


def _resolver(host: HostResolver, options: NetworkOptions, place: ContainerPlace) -> str:
    if options.mode == HOST:
        return shared_resolver_text(host, options)
    if place.resolver:
        return own_resolver_text(host, options)
    if not place.addresses:
        return NO_NETWORK
    return resolver_text(host, options, has_ipv6=place.has_ipv6)


def _note_resolver(directory: Path, content: bytes) -> None:
    (directory / _RESOLVER_DIGEST).write_bytes(_digest(content))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _write_into(path: Path, content: bytes) -> None:
    """Put other content into a file that is there; who reads meanwhile never finds it empty."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        rest = content
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def network_file_mounts(directory: Path, *, is_read_only: bool) -> tuple[FileMount, ...]:
    """Where the three files appear in the container; writable like its root, as Docker has them."""
    return tuple(
        FileMount(source=str(directory / name), target=f"/etc/{name}", is_read_only=is_read_only)
        for name in _FILES
    )
