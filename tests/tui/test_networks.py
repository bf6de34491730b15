"""The networks, by keyboard."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.types import (
    AttachmentRequest,
    ContainerStatus,
    HostFeature,
    NetworkOptions,
    NetworkRequest,
)
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.networks import (
    NARROW,
    SMALLEST,
    WIDE,
    add_networks,
    networks_of,
    opened,
)
from tests.tui.notices import told
from tui.app import LamellaApp
from tui.screens.dialogs import ChoiceScreen, ConfirmScreen, PromptScreen, ReadingScreen
from tui.screens.network_form import ConnectScreen
from tui.screens.networks import NetworksScreen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import EngineApi
    from tests.fakes import FakeEngine


@pytest.fixture
async def networks(engine: FakeEngine) -> FakeEngine:
    return await add_networks(engine)


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_the_list_and_the_map_show_who_is_where(
    app: LamellaApp, networks: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app, "backend")
        text = screen_text(app)
        assert "Networks  5" in text
        (line,) = (
            line for line in text.splitlines() if "10.80.4.0/24" in line and "server" in line
        )
        assert "backend" in line
        assert [row.network.name for row in screen.list.rows][:2] == ["backend", "spare"]
        map_text = "\n".join(row.text for row in screen.map.rows)
        assert "1 running in it" in text
        assert "10.80.4.1" in map_text
        assert "8080->80" in map_text
        assert "as api" in map_text
        assert "does not run" in map_text
        (server,) = (one for one in text.splitlines() if "8080->80" in one)
        assert "10.80.4." in server
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.dashboard


async def test_in_the_smallest_terminal_list_and_map_can_be_walked(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=SMALLEST) as pilot:
        screen = await opened(pilot, app, "backend")
        assert screen.list.size.height >= 2
        await pilot.press("tab", "G")
        await settled(pilot)
        assert screen.map.has_focus
        assert "rests" in screen_text(app)


async def test_the_map_follows_the_cursor(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app, "backend")
        await pilot.press("j")
        await settled(pilot)
        picture = screen.map.picture
        assert picture is not None
        assert picture.network.name == "spare"
        assert "nobody yet: a connects one" in screen_text(app)


async def test_with_none_of_its_own_it_says_which_key_makes_one(app: LamellaApp) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await opened(pilot, app)
        assert "none of your own yet: c makes one" in screen_text(app)


async def test_a_container_is_connected_with_names_and_address(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        screen = await opened(pilot, app, "backend")
        await pilot.press("a")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        text = screen_text(app)
        assert "web-1" in text
        assert "job" in text
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConnectScreen))
        await pilot.press(*"www", "space", *"shop", "tab", *"10.8.0.9", "enter")
        await settled(pilot)
        assert "no configured subnet" in " ".join(screen_text(app).split())
        await pilot.press("tab", "tab", "ctrl+u", *"10.80.4.9", "enter")
        await settled(pilot)
        assert app.screen is screen
        assert networks_of(networks, "web-1") == ("bridge", "backend")
        request = networks._find("web-1").request.network.attachments[-1]
        assert (request.aliases, request.ipv4_address) == (("www", "shop"), "10.80.4.9")
        assert "Connected web-1 to backend" in told(app)
        map_text = "\n".join(row.text for row in screen.map.rows)
        assert "10.80.4.9" in map_text


async def test_the_default_bridge_has_no_names_and_is_connected_to_at_once(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "bridge")
        await pilot.press("a")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, NetworksScreen)
        assert networks_of(networks, "server") == ("backend", "bridge")


async def test_what_has_the_hosts_network_cannot_be_connected(
    app: LamellaApp, engine: FakeEngine
) -> None:
    for container in engine.containers.values():
        container.request = replace(container.request, network=NetworkOptions(mode="host"))
    await engine.create_network(NetworkRequest(name="mine"))
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "mine")
        await pilot.press("a")
        await settled(pilot)
        assert "Nobody to connect to mine" in told(app)
        assert isinstance(app.screen, NetworksScreen)


async def test_the_one_under_the_maps_cursor_is_disconnected_after_a_question(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app, "backend")
        await pilot.press("tab")
        index = next(
            number
            for number, row in enumerate(screen.map.rows)
            if row.member is not None and row.member.name == "server"
        )
        await pilot.press("g", *["j"] * index, "u")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        text = screen_text(app)
        assert "Disconnect server from backend?" in text
        assert "what it has open there is cut off" in text
        assert "It is in no network then" in text
        await pilot.press("enter")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("y")
        await settled(pilot)
        assert networks_of(networks, "server") == ()
        assert all(row.member is None or row.member.name != "server" for row in screen.map.rows)


async def test_from_the_list_it_is_asked_who_is_to_leave(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "backend")
        await pilot.press("u")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await settled(pilot)
        assert networks_of(networks, "rests") == ()
        assert networks_of(networks, "server") == ("backend",)


@pytest.mark.parametrize("key", ["a", "u"])
async def test_host_and_none_are_chosen_when_a_container_is_made(
    app: LamellaApp, networks: FakeEngine, key: str
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "host")
        await pilot.press(key)
        await settled(pilot)
        assert "when a container is made" in told(app) or "when the container was made" in told(app)
        assert networks.calls == []


async def test_one_in_use_says_by_whom_and_stays(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "backend")
        await pilot.press("d")
        await settled(pilot)
        assert "server runs in backend: stop it, or u takes it out" in told(app)
        assert networks.calls == []


async def test_one_that_only_resting_ones_need_warns_before_it_goes(
    app: LamellaApp, networks: FakeEngine
) -> None:
    networks._find("server").summary = replace(
        networks._find("server").summary, status=ContainerStatus.EXITED
    )
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "backend")
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "cannot start any more" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert networks.calls == []


async def test_an_empty_one_is_removed_after_a_question(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app, "spare")
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await settled(pilot)
        assert "spare" not in [row.network.name for row in screen.list.rows]
        assert "spare" not in [one.name for one in networks.networks.values()]


async def test_what_is_always_there_stays(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app, "none")
        await pilot.press("d")
        await settled(pilot)
        assert "none is always there" in told(app)
        assert networks.calls == []


async def test_prune_lists_what_goes_and_keeps_what_resting_ones_need(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app)
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        text = screen_text(app)
        assert "Remove 1 network?" in text
        await pilot.press("y")
        await settled(pilot)
        assert {one.name for one in networks.networks.values()} == {
            "backend",
            "bridge",
            "host",
            "none",
        }
        await pilot.press("x")
        await settled(pilot)
        assert "nothing to remove" in told(app)


async def test_a_filter_shows_only_what_has_the_text(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("slash")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press(*"rests", "enter")
        await settled(pilot)
        assert [row.network.name for row in screen.list.rows] == ["backend"]
        assert "1 of 5" in screen_text(app)


async def test_what_others_do_shows_at_once(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app, "backend")
        await app.bridge.call(
            lambda engine: engine.create_network(NetworkRequest(name="elsewhere"))
        )
        await wait_until(pilot, lambda: "elsewhere" in screen_text(app))
        request = AttachmentRequest(network="backend")
        await app.bridge.call(lambda engine: engine.connect_network("web-1", request))
        await wait_until(pilot, lambda: any("web-1" in row.text for row in screen.map.rows))
        await app.bridge.call(lambda engine: engine.stop_container("server"))
        await wait_until(
            pilot,
            lambda: any("server" in row.text and "not run" in row.text for row in screen.map.rows),
        )
        await settled(pilot)


async def test_inspect_and_copy_give_the_addresses(
    app: LamellaApp, networks: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    async with app.run_test(size=WIDE) as pilot:
        monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
        await opened(pilot, app, "backend")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        text = screen_text(app)
        assert "10.80.4.0/24" in text
        assert "server  10.80.4." in text
        assert "rests  does not run" in text
        await pilot.press("escape", "y")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press(*["j"] * 3, "enter")
        await settled(pilot)
    assert copied == ["10.80.4.0/24"]


async def test_a_list_that_cannot_be_read_says_why(
    app: LamellaApp, networks: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise StoreError("the store is damaged", hint="Restore it from a copy")

    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        monkeypatch.setattr(networks, "list_networks", broken)
        await pilot.press("5")
        await settled(pilot)
        assert "the store is damaged" in screen_text(app)
        assert "Restore it from a copy" in screen_text(app)


async def test_help_and_palette_lead_there(app: LamellaApp, networks: FakeEngine) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("colon", *"everywhere networks")
        await wait_until(pilot, lambda: "Everywhere: networks" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, NetworksScreen))
        await settled(pilot)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        assert "lamella network create NAME" in screen_text(app)


async def test_what_the_host_does_not_give_is_said_below_the_map_and_among_the_hosts_features(
    app: LamellaApp, networks: FakeEngine
) -> None:
    networks.network_features = (
        HostFeature(name="network", is_available=True, detail="bridges and rules of nftables"),
        HostFeature(
            name="forwarding",
            is_available=False,
            detail="net.ipv4.ip_forward is 0",
            remedy="As root: sysctl -w net.ipv4.ip_forward=1",
        ),
    )
    async with app.run_test(size=WIDE) as pilot:
        screen = await opened(pilot, app, "backend")
        lines = [row.text for row in screen.map.rows]
        assert lines[-1].startswith("! forwarding: net.ipv4.ip_forward is 0. As root: sysctl")
        assert not any("nftables" in line for line in lines)
        assert screen.list.move_to_key(
            next(one.network_id for one in networks.networks.values() if one.name == "none")
        )
        await settled(pilot)
        assert "forwarding" not in "".join(row.text for row in screen.map.rows)
        await pilot.press("escape", "exclamation_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        text = screen_text(app)
        assert "bridges and rules of nftables" in text
        assert "As root: sysctl -w net.ipv4.ip_forward=1" in text
        assert "Use systemd" in text


async def test_a_screen_that_is_opened_before_the_store_fills_when_it_is(
    networks: FakeEngine,
) -> None:
    gate = asyncio.Event()

    @contextlib.asynccontextmanager
    async def opened_late() -> AsyncIterator[EngineApi]:
        await gate.wait()
        async with networks.opened() as engine:
            yield engine

    app = LamellaApp(opened_late)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("5")
        await wait_until(pilot, lambda: "the engine is not open" in screen_text(app))
        await wait_until(pilot, lambda: app.bridge._loop is not None)
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(gate.set)
        await wait_until(pilot, lambda: "backend" in screen_text(app))
        await settled(pilot)


async def test_nothing_of_the_screen_is_loaded_before_it_is_asked_for(
    app: LamellaApp, networks: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tui.screens.networks", "tui.screens.network_form"):
        monkeypatch.delitem(sys.modules, name)
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot)
        await app.bridge.call(
            lambda engine: engine.create_network(NetworkRequest(name="elsewhere"))
        )
        await app.bridge.call(lambda engine: engine.stop_container("server"))
        await settled(pilot)
        assert "tui.screens.networks" not in sys.modules
        assert "tui.screens.network_form" not in sys.modules
