"""What can be done with networks, wherever the key was pressed: asked, confirmed, answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import AttachmentRequest, NetworkDriver, PruneFilter
from tui.sanitise import clean
from tui.screens.dialogs import Choice, ChoiceScreen, ConfirmScreen
from tui.screens.network_form import ConnectScreen, NetworkFormScreen
from tui.screens.store import unused_networks
from tui.widgets.networks import RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.types import ContainerSummary, Network
    from tui.screens.tools import ToolScreen
    from tui.widgets.networks import NetworkRow

_MOST_NAMES = 8
_SHARED = ("host", "none")
_JOIN = "container:"
_DEFAULT_NETWORK = "bridge"


def has_own_networks(container: ContainerSummary) -> bool:
    """Whether it can be put into networks: it has the host's or another's, or is to have none."""
    return not any(name in _SHARED or name.startswith(_JOIN) for name in container.network_names)


def create_network(operations: ToolScreen, *, made: Callable[[Network], None]) -> None:
    """Ask what the network is to be, make it, and hand it on."""

    def answered(network: Network | None) -> None:
        if network is not None:
            made(network)
            name = clean(network.name, limit=128)
            operations.tell(f"{name} is ready: `lamella run --network {name}`, or a connects one")

    operations.app.push_screen(NetworkFormScreen(operations.bridge), answered)


# --- connecting -----------------------------------------------------------------------------------


def connect_to(
    operations: ToolScreen, row: NetworkRow, containers: tuple[ContainerSummary, ...]
) -> None:
    """Choose one of the containers that are not in it, and put it into the network."""
    network = row.network
    name = clean(network.name, limit=128)
    if network.driver is not NetworkDriver.BRIDGE:
        operations.tell(
            f"{name} is chosen when a container is made: `lamella run --network {name}`",
            is_warning=True,
        )
        return
    members = {one.container_id for one in row.containers}
    free = [one for one in containers if one.container_id not in members and has_own_networks(one)]
    if not free:
        why = "every container is in it" if containers else "there is no container yet"
        shared = any(not has_own_networks(one) for one in containers)
        operations.tell(
            f"Nobody to connect to {name}: {why}"
            + (", or has the host's network, another's or none" if shared else ""),
            is_warning=True,
        )
        return

    def answered(container_id: str | None) -> None:
        chosen = next((one for one in free if one.container_id == container_id), None)
        if chosen is not None:
            connect(operations, chosen, network)

    choices = tuple(
        Choice(label=_member_label(one), value=one.container_id)
        for one in sorted(free, key=lambda one: (one.status not in RUNNING, one.name))
    )
    operations.app.push_screen(ChoiceScreen(f"Connect to {name}", choices), answered)


def _member_label(container: ContainerSummary) -> str:
    where = ", ".join(container.network_names) or "no network"
    rest = "" if container.status in RUNNING else "  does not run"
    return f"{container.name:<24} {where}{rest}"


def connect(operations: ToolScreen, container: ContainerSummary, network: Network) -> None:
    """Ask for address and further names, where the network has those, and connect."""

    def tell_connected() -> None:
        when = "" if container.status in RUNNING else "; it has it when it runs"
        operations.tell(
            f"Connected {clean(container.name, limit=128)} to "
            f"{clean(network.name, limit=128)}{when}"
        )

    if network.name != _DEFAULT_NETWORK:

        def answered(request: AttachmentRequest | None) -> None:
            if request is not None:
                tell_connected()

        screen = ConnectScreen(operations.bridge, container, network)
        operations.app.push_screen(screen, answered)
        return

    async def connect_now() -> None:
        request = AttachmentRequest(network=network.network_id)
        if await operations.operate(
            f"Connecting {container.name} to {network.name}",
            lambda engine, _listen: _connected(engine, container.container_id, request),
        ):
            tell_connected()

    operations.run_task(lambda: connect_now(), group="operation")


async def _connected(engine: EngineApi, container_id: str, request: AttachmentRequest) -> bool:
    await engine.connect_network(container_id, request)
    return True


def disconnect_from(
    operations: ToolScreen, row: NetworkRow, marked: ContainerSummary | None
) -> None:
    """Take a container out: the marked one, else one that is chosen."""
    network = row.network
    name = clean(network.name, limit=128)
    if network.driver is not NetworkDriver.BRIDGE:
        operations.tell(
            f"{name} cannot be left: it was chosen when the container was made", is_warning=True
        )
        return
    if not row.containers:
        operations.tell(f"Nobody is in {name}; a connects one", is_warning=True)
        return
    if marked is not None:
        confirm_disconnect(operations, marked, network)
        return

    def answered(container_id: str | None) -> None:
        chosen = next((one for one in row.containers if one.container_id == container_id), None)
        if chosen is not None:
            confirm_disconnect(operations, chosen, network)

    choices = tuple(
        Choice(label=_member_label(one), value=one.container_id)
        for one in sorted(row.containers, key=lambda one: (one.status not in RUNNING, one.name))
    )
    operations.app.push_screen(ChoiceScreen(f"Disconnect from {name}", choices), answered)


def confirm_disconnect(
    operations: ToolScreen, container: ContainerSummary, network: Network
) -> None:
    """Say what breaks, and disconnect."""
    name, network_name = clean(container.name, limit=128), clean(network.name, limit=128)
    others = [one for one in container.network_names if one != network.name]
    lines = []
    if container.status in RUNNING:
        lines.append("It runs: what it has open there is cut off.")
    if container.ports:
        lines.append("Its published ports may lead nowhere afterwards.")
    lines.append(f"It stays in {', '.join(others)}." if others else "It is in no network then.")

    async def disconnect() -> None:
        done = await operations.operate(
            f"Disconnecting {name} from {network_name}",
            lambda engine, _listen: _disconnected(
                engine, container.container_id, network.network_id
            ),
        )
        if done:
            operations.tell(f"Disconnected {name} from {network_name}")

    def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
        if answer:
            operations.run_task(lambda: disconnect(), group="operation")

    title = f"Disconnect {name} from {network_name}?"
    operations.app.push_screen(ConfirmScreen(title, "\n".join(lines), verb="disconnect"), answered)


async def _disconnected(engine: EngineApi, container_id: str, network_id: str) -> bool:
    await engine.disconnect_network(container_id, network_id)
    return True


def change_networks_of(operations: ToolScreen, container: ContainerSummary) -> None:
    """Choose a network to put the container into, or to take it out of."""
    name = clean(container.name, limit=128)
    if not has_own_networks(container):
        shared = container.network_names[0]
        has = "the network of another container" if shared.startswith(_JOIN) else shared
        operations.tell(
            f"{name} was made with --network {clean(has, limit=100)}, and keeps that",
            is_warning=True,
        )
        return

    async def offer() -> None:
        networks = await operations.bridge.call(lambda engine: engine.list_networks())
        bridges = [one for one in networks if one.driver is NetworkDriver.BRIDGE]
        verbs = {
            one.network_id: "disconnect from"
            if one.name in container.network_names
            else "connect to"
            for one in bridges
        }

        def answered(network_id: str | None) -> None:
            chosen = next((one for one in bridges if one.network_id == network_id), None)
            if chosen is None:
                return
            if chosen.name in container.network_names:
                confirm_disconnect(operations, container, chosen)
            else:
                connect(operations, container, chosen)

        choices = tuple(
            Choice(
                label=f"{verbs[one.network_id]:<16} {one.name:<24} "
                + ", ".join(subnet.subnet for subnet in one.subnets),
                value=one.network_id,
            )
            for one in bridges
        )
        operations.app.push_screen(ChoiceScreen(f"Networks of {name}", choices), answered)

    operations.run_task(lambda: offer(), group="operation")


# --- removing -------------------------------------------------------------------------------------


def remove_network(operations: ToolScreen, row: NetworkRow) -> None:
    """Confirm, then remove a network that nobody who runs is in."""
    network = row.network
    name = clean(network.name, limit=128)
    if network.is_predefined:
        operations.tell(
            f"{name} is always there: it costs nothing while nobody is in it", is_warning=True
        )
        return
    if row.running:
        users = _names_of(row.running)
        operations.tell(
            f"{users} run in {name}: stop them, or u takes them out"
            if len(row.running) > 1
            else f"{users} runs in {name}: stop it, or u takes it out",
            is_warning=True,
        )
        return
    text = "Its subnet is free for others then."
    if row.containers:
        users = _names_of(row.containers)
        text = f"{users} cannot start any more: disconnect them first to keep them.\n{text}"

    async def remove() -> None:
        done = await operations.operate(
            f"Removing {name}", lambda engine, _listen: _removed(engine, network.network_id)
        )
        if done:
            operations.tell(f"Removed {name}")

    def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
        if answer:
            operations.run_task(lambda: remove(), group="operation")

    screen = ConfirmScreen(f"Remove the network {name}?", text, verb="remove")
    operations.app.push_screen(screen, answered)


def _names_of(containers: tuple[ContainerSummary, ...]) -> str:
    names = [clean(one.name, limit=64) for one in containers[:_MOST_NAMES]]
    if len(containers) > _MOST_NAMES:
        names.append(f"{len(containers) - _MOST_NAMES} more")
    return ", ".join(names)


async def _removed(engine: EngineApi, network_id: str) -> bool:
    await engine.remove_network(network_id)
    return True


def prune_networks(operations: ToolScreen) -> None:
    """Find what nobody is to be in, confirm, remove."""
    operations.run_task(lambda: _offer_prune(operations), group="operation")


async def _offer_prune(operations: ToolScreen) -> None:
    unused = await operations.operate(
        "Looking for networks that nobody is in", lambda engine, _listen: unused_networks(engine)
    )
    if unused is None:
        return
    if not unused:
        operations.tell("Every network of yours has a container: nothing to remove")
        return

    async def prune() -> None:
        pruned = await operations.operate(
            "Removing networks", lambda engine, _listen: engine.prune_networks(PruneFilter())
        )
        if pruned is not None:
            count = len(pruned.names)
            operations.tell(f"Removed {count} network{'s' * (count != 1)}")

    def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
        if answer:
            operations.run_task(lambda: prune(), group="operation")

    names = [clean(one.name, limit=128) for one in unused[:_MOST_NAMES]]
    if len(unused) > _MOST_NAMES:
        names.append(f"and {len(unused) - _MOST_NAMES} more")
    title = f"Remove {len(unused)} network{'s' * (len(unused) != 1)}?"
    text = "\n".join(("No container is in them:", "", *names))
    operations.app.push_screen(ConfirmScreen(title, text, verb="remove"), answered)
