"""Telling network servers what a container sees, and its networks what it is called there."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.network.planning import DEFAULT_NETWORK
from engine.network.sweeping import MONITOR_LOCK_FILE, held_idle
from engine.runtime.network_view import (
    HOST_RESOLVER_PATH,
    MemberNames,
    NetworkView,
    SeenNetwork,
    forget_container,
    read_view,
    remove_member,
    write_member,
    write_view,
)
from engine.store.durability import raise_store_error
from engine.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.runtime.spec import InterfaceSpec
    from engine.types import Network, NetworkOptions

_SHORT_ID_LENGTH = 12


def has_names(networks: tuple[Network, ...]) -> bool:
    """Whether a container of these networks finds others by name.

    That of the default network does not, as with Docker: who is in it by no wish of anybody's is
    not to be found by anybody either.
    """
    return any(network.name != DEFAULT_NETWORK for network in networks)


def publish_names(
    config: EngineConfig,
    container_id: str,
    *,
    names: tuple[str, ...],
    options: NetworkOptions,
    networks: Mapping[str, Network],
    interfaces: tuple[InterfaceSpec, ...],
) -> None:
    """Write down what a container sees and is called, in place of what was there; blocking.

    Args:
        config: Where.
        container_id: Whose.
        names: Its name and its hostname.
        options: Its own, with the aliases in each network.
        networks: All of the interfaces, by id.
        interfaces: Its own; those of no named network are seen by nobody.

    Raises:
        StoreError: The file system is full.
    """
    aliases = {one.network: one.aliases for one in options.attachments}
    run_directory = config.container_run_directory(container_id)
    named = [
        (SeenNetwork(name=network.name, directory=str(members)), interface)
        for interface in interfaces
        if (network := networks[interface.network_id]).name != DEFAULT_NETWORK
        and (members := config.network_members_directory(interface.network_id))
    ]
    view = NetworkView(
        networks=tuple(seen for seen, _interface in named),
        servers=options.dns_servers,
        resolver_path=HOST_RESOLVER_PATH,
        is_forwarding=any(one.ipv4_gateway or one.ipv6_gateway for one in interfaces),
        addresses=own_addresses(interfaces),
    )
    try:
        os.makedirs(run_directory, mode=0o700, exist_ok=True)
        for left in read_view(str(run_directory)).networks:
            if left not in view.networks:
                remove_member(left.directory, container_id)
        # Before the names: whoever forgets the container finds them by it.
        write_view(str(run_directory), view)
        for seen, interface in named:
            called = (
                names[0],
                *aliases.get(interface.network_id, ()),
                container_id[:_SHORT_ID_LENGTH],
                *names[1:],
            )
            member = MemberNames(
                names=tuple(dict.fromkeys(called)), addresses=own_addresses((interface,))
            )
            write_member(seen.directory, container_id, member)
    except OSError as error:
        raise_store_error(error, run_directory)


def publish_addresses(
    config: EngineConfig,
    container_id: str,
    addresses: tuple[str, ...],
    *,
    servers: tuple[str, ...] = (),
    is_forwarding: bool = False,
) -> None:
    """Write down where a container is that is in no network of ours; blocking.

    Args:
        config: Whose store it is in.
        container_id: The container's.
        addresses: Where published ports lead.
        servers: As in NetworkView.
        is_forwarding: As in NetworkView.

    Raises:
        StoreError: The file system is full.
    """
    run_directory = config.container_run_directory(container_id)
    try:
        os.makedirs(run_directory, mode=0o700, exist_ok=True)
        view = NetworkView(servers=servers, is_forwarding=is_forwarding, addresses=addresses)
        write_view(str(run_directory), view)
    except OSError as error:
        raise_store_error(error, run_directory)


def forget_unstarted(config: EngineConfig, container_id: str) -> None:
    """Take a container's names away, unless it runs; for who was to start it. Blocking."""
    directory = config.container_run_directory(container_id)
    if not is_locked(directory / MONITOR_LOCK_FILE):
        with contextlib.suppress(OSError):
            forget_container(str(directory), container_id)


def sweep_names(config: EngineConfig) -> None:
    """Take the names of containers away that ended unseen; blocking."""
    named: set[str] = set()
    for directory in _directories(config.run / "networks"):
        named.update(_names_in(directory / "members"))
    for container_id in named:
        with held_idle(config, container_id) as is_idle:
            if not is_idle:
                continue
            for directory in _directories(config.run / "networks"):
                with contextlib.suppress(OSError):
                    remove_member(str(directory / "members"), container_id)
            with contextlib.suppress(OSError):
                forget_container(str(config.container_run_directory(container_id)), container_id)


def _directories(parent: Path) -> list[Path]:
    return [parent / name for name in _names_in(parent)]


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def own_addresses(interfaces: tuple[InterfaceSpec, ...]) -> tuple[str, ...]:
    """The addresses of a container, without prefixes; those of its way out come first."""
    ordered = sorted(interfaces, key=lambda one: not (one.ipv4_gateway or one.ipv6_gateway))
    return tuple(
        address.partition("/")[0]
        for one in ordered
        for address in (one.ipv4_address, one.ipv6_address)
        if address
    )
