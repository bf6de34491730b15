"""Commands for networks: `network connect|create|disconnect|inspect|ls|prune|rm`."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from engine.errors import EngineError, InvalidInputError, NetworkNotFoundError
from engine.types import AttachmentRequest
from tui.cli import docker_texts, output
from tui.cli.command import Command, command_group
from tui.cli.dispatch import report
from tui.cli.documents import Document, document, indented
from tui.cli.filters import (
    NETWORK_KEYS,
    PRUNE_KEYS,
    Filters,
    has_labels,
    prune_filter,
    truth_of,
)
from tui.cli.images import NO_TRUNCATION
from tui.cli.network_documents import network_document
from tui.cli.network_requests import CREATE_OPTIONS, read_network, split_lists
from tui.cli.options import Option
from tui.cli.rows import FORMAT, Row, Shape, row
from tui.cli.session import for_each
from tui.cli.templates import Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import Network
    from tui.cli.options import Arguments

_SCOPE = "local"
_TYPES = ("builtin", "custom")
_HEADS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
    "Subnets": "SUBNETS",
}
_NETWORKS = "NETWORK [NETWORK...]"


async def create(engine: EngineApi, arguments: Arguments) -> int:
    """Make a network and print its id."""
    output.write_line((await engine.create_network(read_network(arguments))).network_id)
    return 0


async def list_networks(engine: EngineApi, arguments: Arguments) -> int:
    """List networks."""
    shape = Shape(arguments.text("format"), heads=_HEADS)
    is_whole = arguments.is_on("no-trunc")
    found = await _wanted(engine, arguments)
    if arguments.is_on("quiet"):
        for network in found:
            output.write_line(_identity(network, is_whole=is_whole))
        return 0
    if not shape.is_own_table:
        shape.write([_row(network, is_whole=is_whole) for network in found])
        return 0
    output.write_table(
        ("NETWORK ID", "NAME", "DRIVER", "SCOPE"),
        [
            (_identity(network, is_whole=is_whole), network.name, network.driver.value, _SCOPE)
            for network in found
        ],
    )
    return 0


async def _wanted(engine: EngineApi, arguments: Arguments) -> list[Network]:
    filters = Filters(arguments.texts("filter"), known=NETWORK_KEYS, command="network ls")
    keeps = _keeps(filters)
    is_dangling = truth_of(filters, "dangling")
    found = [network for network in await engine.list_networks() if keeps(network)]
    if is_dangling is None:
        return found
    return [one for one in found if await _is_dangling(engine, one) is is_dangling]


def _keeps(filters: Filters) -> Callable[[Network], bool]:
    for value in filters.values("type"):
        if value not in _TYPES:
            raise InvalidInputError(f"invalid filter: 'type'='{value}'", hint="builtin or custom")
    names = [_pattern(value) for value in filters.values("name")]
    ids = [_pattern(value) for value in filters.values("id")]
    drivers, scopes, types = map(filters.values, ("driver", "scope", "type"))
    labels = filters.values("label")

    def keeps(network: Network) -> bool:
        return (
            (not names or any(name.search(network.name) for name in names))
            and (not ids or any(one.search(network.network_id) for one in ids))
            and (not drivers or network.driver.value in drivers)
            and (not scopes or _SCOPE in scopes)
            and (not types or _TYPES[not network.is_predefined] in types)
            and has_labels(network.labels, labels)
        )

    return keeps


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, RecursionError):
        return re.compile(re.escape(value))


async def _is_dangling(engine: EngineApi, network: Network) -> bool:
    if network.is_predefined:
        return False
    try:
        return not (await engine.inspect_network(network.network_id)).members
    except NetworkNotFoundError:
        return True  # Removed meanwhile: nobody was in it.


def _identity(network: Network, *, is_whole: bool) -> str:
    return network.network_id if is_whole else output.short_id(network.network_id)


def _row(network: Network, *, is_whole: bool) -> Row:
    return row(
        {
            "ID": _identity(network, is_whole=is_whole),
            "Name": network.name,
            "Driver": network.driver.value,
            "Scope": _SCOPE,
            "IPv4": "true",
            "IPv6": str(network.has_ipv6).lower(),
            "Internal": str(network.is_internal).lower(),
            "Labels": docker_texts.labels(network.labels),
            "CreatedAt": docker_texts.moment(network.created_at),
            "Subnets": ",".join(one.subnet for one in network.subnets),
        },
        document(network),
        network.labels,
    )


async def inspect(engine: EngineApi, arguments: Arguments) -> int:
    """Print what is known of networks, as one JSON list or as a template has it."""
    form = arguments.text("format")
    template = None if form is None or form == "json" else Template(form)
    documents: list[Document] = []

    async def add(reference: str) -> None:
        found = network_document(await engine.inspect_network(reference))
        if template is not None:
            output.write_line(template.render(found))
        documents.append(found)

    exit_code = await for_each(arguments.operands, add)
    if template is None:
        output.write_text(indented(documents) if form is None else json.dumps(documents))
    return exit_code


async def remove(engine: EngineApi, arguments: Arguments) -> int:
    """Remove networks."""
    is_forced = arguments.is_on("force")
    exit_code = 0
    for reference in arguments.operands:
        try:
            await engine.remove_network(reference)
        except NetworkNotFoundError as error:
            if not is_forced:
                report(error)
                exit_code = 1
        except EngineError as error:
            report(error)
            exit_code = 1
        else:
            output.write_line(reference)
    return exit_code


async def prune(engine: EngineApi, arguments: Arguments) -> int:
    """Remove networks that no container is to be in."""
    wanted = prune_filter(arguments.texts("filter"), command="network prune")
    if not arguments.is_on("force") and not _agrees():
        return 0
    names = (await engine.prune_networks(wanted)).names
    if names:
        output.write_text("\n".join(("Deleted Networks:", *names, "")))
    return 0


def _agrees() -> bool:
    output.write_message(
        "WARNING! This will remove all custom networks not used by at least one container."
    )
    output.write_all(2, b"Are you sure you want to continue? [y/N] ")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def connect(engine: EngineApi, arguments: Arguments) -> int:
    """Put a container into a network."""
    network, container = arguments.operands
    await engine.connect_network(
        container,
        AttachmentRequest(
            network=network,
            aliases=split_lists(arguments.texts("alias")),
            ipv4_address=arguments.text("ip") or "",
            ipv6_address=arguments.text("ip6") or "",
            mac_address=arguments.text("mac-address") or "",
        ),
    )
    return 0


async def disconnect(engine: EngineApi, arguments: Arguments) -> int:
    """Take a container out of a network."""
    network, container = arguments.operands
    is_forced = arguments.is_on("force")
    await engine.disconnect_network(container, network, is_forced=is_forced)
    return 0


_LIST = Command(
    "network ls",
    "",
    "List networks.",
    list_networks,
    (
        Option("filter", "f", "KEY=VALUE", f"Only these: {', '.join(NETWORK_KEYS)}", True),
        FORMAT,
        NO_TRUNCATION,
        Option("quiet", "q", "", "Print ids only"),
    ),
    only_looks=True,
)
_REMOVE = Command(
    "network rm",
    _NETWORKS,
    "Remove networks.",
    remove,
    (Option("force", "f", "", "One that is not there is no error"),),
    (1, None),
)
COMMANDS = command_group(
    "network",
    "Make, list, inspect, connect and remove networks.",
    (
        Command(
            "network connect",
            "NETWORK CONTAINER",
            "Put a container into a network, while it runs or before.",
            connect,
            (
                Option("alias", "", "NAME", "One more name for it in this network", True),
                Option("ip", "", "ADDRESS", "Its IPv4 address there, such as 10.80.4.7"),
                Option("ip6", "", "ADDRESS", "Its IPv6 address there"),
                Option("mac-address", "", "ADDRESS", "Its Ethernet address there"),
            ),
            (2, 2),
        ),
        Command(
            "network create",
            "NETWORK",
            "Make a network; containers in it find each other by name.",
            create,
            CREATE_OPTIONS,
            (1, 1),
        ),
        Command(
            "network disconnect",
            "NETWORK CONTAINER",
            "Take a container out of a network.",
            disconnect,
            (Option("force", "f", "", "One that is not in it is no error"),),
            (2, 2),
        ),
        Command(
            "network inspect",
            _NETWORKS,
            "Show everything about networks, as JSON.",
            inspect,
            (Option("format", "f", "TEMPLATE", "json, or a template such as '{{.IPAM.Config}}'"),),
            (1, None),
            only_looks=True,
        ),
        _LIST,
        _LIST._replace(name="network list"),
        Command(
            "network prune",
            "",
            "Remove all networks that no container is to be in.",
            prune,
            (
                Option("filter", "", "KEY=VALUE", f"Only these: {', '.join(PRUNE_KEYS)}", True),
                Option("force", "f", "", "Do not ask"),
            ),
        ),
        _REMOVE._replace(name="network remove"),
        _REMOVE,
    ),
)
