"""The networks of the store: who is in them, as a map; made, joined, left and removed here."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content

from engine.errors import EngineError, NetworkNotFoundError
from engine.types import NetworkDriver
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.messages import EngineOpened, NetworksTouched
from tui.network_map import picture_of
from tui.sanitise import clean
from tui.screens.dialogs import Choice, ChoiceScreen, Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.network_actions import (
    connect_to,
    create_network,
    disconnect_from,
    prune_networks,
    remove_network,
)
from tui.screens.registry import keys_text
from tui.widgets.network_map import MapRow, NetworkMap
from tui.widgets.networks import NetworkList, NetworkRow, kind_text
from tui.widgets.rows import Cell, RowList
from tui.widgets.status import OneLine

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.api import EngineApi
    from engine.types import ContainerSummary, HostFeature, Network, NetworkDetails
    from tui.messages import EngineState
    from tui.network_map import NetworkPicture
    from tui.screens.tools import ToolScreen


class NetworksScreen(Dialog[None]):
    """Every network and a map of the selected one; what happens to them elsewhere shows at once."""

    BINDINGS = [*bindings_of(Context.NETWORKS)]

    def __init__(self, operations: ToolScreen) -> None:
        """Show the networks.

        Args:
            operations: Runs what changes something, with progress and answers.
        """
        super().__init__("Networks")
        self._operations = operations
        self._containers: tuple[ContainerSummary, ...] = ()
        self._wanted_row = ""
        self._lacks: tuple[str, ...] | None = None
        """What the host does not give networks; None until it was looked at."""
        self._is_stale = False
        self._is_loading = False
        self.list = NetworkList(id="networks")
        self.about = OneLine(id="network-about")
        self.map = NetworkMap(id="network-map")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.NETWORKS))
        box.add_class("-list")
        with box:
            yield self.list
            yield self.about
            yield self.map

    def on_mount(self) -> None:
        """Read the list."""
        self.list.set_empty_text("Reading the networks ...")
        self.list.focus()
        self.reload()

    # --- what is shown ------------------------------------------------------------------------

    def follow(self, state: EngineState) -> None:
        """Read everything afresh when it may have changed."""
        if isinstance(state, NetworksTouched | EngineOpened):
            self.reload()

    def reload(self) -> None:
        """Read everything afresh; once more if something happens while it is read."""
        self._is_stale = True
        if not self._is_loading:
            self._is_loading = True
            self.run_worker(self._load(), group="networks", exit_on_error=False)

    async def _load(self) -> None:
        bridge = self._operations.bridge
        try:
            while self._is_stale:
                self._is_stale = False
                networks, self._containers = await bridge.call(_read)
                self._show(networks)
                await self._read_map()
                if self._lacks is None:
                    features = await bridge.call(lambda engine: engine.list_network_features())
                    self._lacks = tuple(_lack(one) for one in features if not one.is_available)
                    await self._read_map()
        except EngineError as error:
            self.list.set_rows(())
            self.list.set_empty_text(_failure_text(error))
            self.about.show_cells(())
            self.map.show_picture(None)
        finally:
            self._is_loading = False

    def _show(self, networks: tuple[Network, ...]) -> None:
        rows = (
            NetworkRow(
                network=network,
                containers=tuple(
                    one for one in self._containers if network.name in one.network_names
                ),
            )
            for network in networks
        )
        # Those that a person made are what is looked for; the ones that are always there follow.
        self.list.set_rows(tuple(sorted(rows, key=lambda row: row.network.is_predefined)))
        if self._wanted_row and self.list.move_to_key(self._wanted_row):
            self._wanted_row = ""
        self._show_about()

    def _show_about(self) -> None:
        if self.list.filter_text:
            self.list.set_empty_text("Nothing passes the filter; / then enter clears it")
        count = f"{len(self.list.rows)} of " if self.list.filter_text else ""
        title = f"Networks  {count}{self.list.total_count}"
        if self.list.filter_text:
            title += f"  filter: {clean(self.list.filter_text, limit=40)}"
        elif self.list.total_count and all(row.network.is_predefined for row in self.list.rows):
            title += "  none of your own yet: c makes one"
        self.query_one(".dialog-box").border_title = Content(title).markup

    @on(RowList.Highlighted, "#networks")
    def _network_highlighted(self) -> None:
        if not self._is_loading:
            self.run_worker(
                self._follow(), group="network-map", exclusive=True, exit_on_error=False
            )

    async def _follow(self) -> None:
        try:
            await self._read_map()
        except EngineError as error:
            self.map.set_empty_text(_failure_text(error))
            self.map.show_picture(None)

    async def _read_map(self) -> None:
        """Draw the map of the network under the cursor, also if that moves meanwhile."""
        while (row := self.list.current) is not None:
            network_id = row.network.network_id
            try:
                details = await self._operations.bridge.call(partial(_inspected, network_id))
            except NetworkNotFoundError:
                return  # removed meanwhile: its event reads the list again
            if self.list.current is not None and network_id == self.list.current.network.network_id:
                self._show_map(row, details)
                return
        self.about.show_cells(())
        self.map.set_empty_text("The map of the selected network appears here")
        self.map.show_picture(None)

    def _show_map(self, row: NetworkRow, details: NetworkDetails) -> None:
        network = row.network
        facts = [kind_text(network, is_long=True), f"{len(row.running)} running in it"]
        if not network.is_predefined:
            age_text = formatting.age(network.created_at, now=time.time())
            facts.append("new" if age_text == "now" else f"made {age_text} ago")
        self.about.show_cells(
            (
                Cell(clean(network.name, limit=128), "strong"),
                Cell("  " + " · ".join(facts), "dim"),
            )
        )
        picture = picture_of(
            details,
            self._containers,
            host_name=socket.gethostname(),
            is_rootless=self._operations.is_rootless,
        )
        if network.driver is NetworkDriver.BRIDGE and self._lacks:
            warnings = dict.fromkeys((*picture.warnings, *self._lacks))
            picture = replace(picture, warnings=tuple(warnings))
        self.map.show_picture(picture)

    # --- actions ------------------------------------------------------------------------------

    def _current(self) -> NetworkRow | None:
        row = self.list.current
        if row is None:
            self.app.bell()
        return row

    @property
    def _marked_container(self) -> ContainerSummary | None:
        """The container under the map's cursor, if the map has the focus."""
        row: MapRow | None = self.map.current if self.map.has_focus else None
        if row is None or row.member is None:
            return None
        identity = row.member.container_id
        return next((one for one in self._containers if one.container_id == identity), None)

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content((Context.NETWORKS, Context.LISTS), self._operations.keys_of)
        self.app.push_screen(ReadingScreen("Keys", content))

    def action_filter_networks(self) -> None:
        """Ask for a text that rows must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.list.set_filter(text)
                self._show_about()

        prompt = PromptScreen("Filter", "Only networks with:", value=self.list.filter_text)
        self.app.push_screen(prompt, answered)

    def action_refresh_networks(self) -> None:
        """Read everything afresh."""
        self.reload()

    def action_create_network(self) -> None:
        """Ask what the network is to be, and make it."""

        def made(network: Network) -> None:
            self._wanted_row = network.network_id
            self.list.set_filter("")
            self.reload()

        create_network(self._operations, made=made)

    def action_connect_network(self) -> None:
        """Choose a container and put it into the network."""
        if (row := self._current()) is not None:
            connect_to(self._operations, row, self._containers)

    def action_disconnect_network(self) -> None:
        """Take a container out of the network: the one under the map's cursor, or one of a list."""
        if (row := self._current()) is not None:
            disconnect_from(self._operations, row, self._marked_container)

    def action_remove_network(self) -> None:
        """Confirm, then remove."""
        if (row := self._current()) is not None:
            remove_network(self._operations, row)

    def action_prune_networks(self) -> None:
        """Remove networks that no container is to be in."""
        prune_networks(self._operations)

    def action_inspect_network(self) -> None:
        """Show everything about the network."""
        picture = self.map.picture
        row = self._current()
        if row is None or picture is None:
            return
        self.app.push_screen(ReadingScreen(clean(row.network.name, limit=128), _about(picture)))

    def action_yank_network(self) -> None:
        """Choose what to copy."""
        picture = self.map.picture
        if picture is None:
            self.app.bell()
            return
        choices = tuple(
            Choice(label=f"{label:<16} {clean(value, limit=100)}", value=value)
            for label, value in _copyable(picture)
        )

        def answered(text: str | None) -> None:
            if text is not None:
                self.app.copy_to_clipboard(clean(text))

        self.app.push_screen(ChoiceScreen("Copy", choices), answered)

    def action_open_port(self) -> None:
        """Open a published port of the container under the map's cursor, or of one of a list."""
        row = self._current()
        if row is None:
            return
        marked = self._marked_container
        containers = row.running if marked is None else (marked,)
        self._operations.open_port_of(tuple(one for one in containers if one.ports) or containers)


async def _inspected(network_id: str, engine: EngineApi) -> NetworkDetails:
    return await engine.inspect_network(network_id)


async def _read(
    engine: EngineApi,
) -> tuple[tuple[Network, ...], tuple[ContainerSummary, ...]]:
    return await engine.list_networks(), await engine.list_containers()


def _lack(feature: HostFeature) -> str:
    return f"{feature.name}: {feature.detail}. {feature.remedy}".rstrip(". ")


def _failure_text(error: EngineError) -> str:
    return f"{clean(error.message, limit=300)}\n\n{clean(error.hint, limit=200)}"


def _copyable(picture: NetworkPicture) -> list[tuple[str, str]]:
    network = picture.network
    found = [("name", network.name), ("id", network.network_id)]
    if network.bridge:
        found.append(("device", network.bridge))
    for one in network.subnets:
        found += [("subnet", one.subnet), ("gateway", one.gateway)]
    for member in picture.members:
        found += [
            (clean(member.name, limit=16), address)
            for address in (member.ipv4_address, member.ipv6_address)
            if address
        ]
    return found


def _about(picture: NetworkPicture) -> Content:
    network = picture.network
    facts = [
        ("name", network.name),
        ("id", network.network_id),
        ("driver", kind_text(network, is_long=True)),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(network.created_at))),
        *((("device", network.bridge),) if network.bridge else ()),
    ]
    for one in network.subnets:
        facts += [("subnet", one.subnet), ("gateway", one.gateway)]
        if one.ip_range:
            facts.append(("range", one.ip_range))
        facts += [("reserved", f"{address}  {name}") for name, address in one.auxiliary_addresses]
    facts += [("option", f"{key}={value}") for key, value in network.options]
    facts += [("label", f"{key}={value}" if value else key) for key, value in network.labels]
    for member in picture.members:
        addresses = [one for one in (member.ipv4_address, member.ipv6_address) if one]
        state = ", ".join(addresses) or ("no address" if member.is_running else "does not run")
        facts.append(("member", f"{member.name}  {state}"))
    if not picture.members:
        facts.append(("member", "none"))
    facts += [("warning", text) for text in picture.warnings]
    pieces: list[Content] = []
    for name, value in facts:
        pieces.append(Content.styled(f"{name:<9}", "$secondary"))
        pieces.append(Content(clean(value, limit=300) + "\n"))
    return Content.assemble(*pieces).rstrip()
