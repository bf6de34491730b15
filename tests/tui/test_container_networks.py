"""The network of one container, by keyboard: its networks, its ports, what the details say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.types import AttachmentRequest, NetworkOptions, PublishedPort
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.networks import NARROW, WIDE, add, add_networks, networks_of
from tests.tui.notices import told
from tui.screens.dialogs import ChoiceScreen
from tui.screens.network_form import ConnectScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


@pytest.fixture
async def networks(engine: FakeEngine) -> FakeEngine:
    return await add_networks(engine)


async def test_a_containers_own_key_connects_and_disconnects_it(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        app.dashboard.containers.move_to_key(networks._find("server").summary.container_id)
        await pilot.press("3", "n")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        text = screen_text(app)
        assert "disconnect from  backend" in text
        assert "connect to       spare" in text
        await pilot.press("G", *["j"] * 2, "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConnectScreen))
        await pilot.press("enter")
        await settled(pilot)
        assert networks_of(networks, "server") == ("backend", "spare")


@pytest.mark.parametrize(("size", "shown"), [(WIDE, ":8080"), (NARROW, "8080->80")])
async def test_ports_stand_in_the_containers_pane(
    app: LamellaApp, networks: FakeEngine, size: tuple[int, int], shown: str
) -> None:
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await settled(pilot)
        (line,) = (one for one in screen_text(app).splitlines() if " server " in one)
        assert shown in line
        await app.bridge.call(lambda engine: engine.stop_container("server"))
        await settled(pilot)
        assert shown not in screen_text(app)


async def test_the_form_runs_a_container_with_ports_in_a_network(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot)
        await pilot.press("1", "r", *"shop", "tab", "tab", "tab")
        await pilot.press(*"8081:80", "tab", *"backend", "enter")
        await settled(pilot)
        assert app.screen is app.dashboard
        request = networks._find("shop").request.network
        assert [one.host_port for one in request.published_ports] == [8081]
        assert networks_of(networks, "shop") == ("backend",)
        await pilot.press("3")
        await settled(pilot)
        (line,) = (one for one in screen_text(app).splitlines() if " shop " in one)
        assert "8081->80" in line


async def test_details_say_how_a_container_is_connected(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=(120, 60)) as pilot:
        await settled(pilot)
        app.dashboard.containers.move_to_key(networks._find("server").summary.container_id)
        await pilot.press("3", "i", "plus")
        await settled(pilot)
        text = "\n".join(row.text for row in app.dashboard.detail.inspect.rows)
        assert "in backend, out by 10.80.4.1" in text
        assert "127.0.0.11: containers of backend by name" in text
        assert "also called api" in text
        assert "8080->80" in text
        # What others change is there at once.
        request = AttachmentRequest(network="spare")
        await app.bridge.call(lambda engine: engine.connect_network("server", request))
        await wait_until(
            pilot,
            lambda: any(row.text.startswith("spare ") for row in app.dashboard.detail.inspect.rows),
        )
        await settled(pilot)


async def test_every_line_of_the_details_is_reached_by_keyboard(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot)
        await pilot.press("3", "i")
        await settled(pilot)
        inspect = app.dashboard.detail.inspect
        assert len(inspect.rows) > inspect.size.height
        assert "Cgroup" not in screen_text(app)
        await pilot.press("j", "j")
        await settled(pilot)
        assert inspect.current is inspect.rows[2]
        await pilot.press("G")
        await settled(pilot)
        assert "Cgroup" in screen_text(app)


async def test_the_one_whose_network_is_shared_is_called_by_its_name(
    app: LamellaApp, networks: FakeEngine
) -> None:
    owner = networks._find("server").summary.container_id
    add(networks, "guest", NetworkOptions(mode=f"container:{owner}"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        app.dashboard.containers.move_to_key(networks._find("guest").summary.container_id)
        await pilot.press("3", "i")
        await settled(pilot)
        assert "the network of server, which it shares" in screen_text(app)


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)


async def press_web(pilot: Pilot[None], app: LamellaApp, engine: FakeEngine, name: str) -> None:
    await settled(pilot)
    app.dashboard.containers.move_to_key(engine._find(name).summary.container_id)
    await pilot.press("3", "w")
    await settled(pilot)


@pytest.mark.usefixtures("no_browser")
async def test_without_a_browser_the_address_is_copied(
    app: LamellaApp, networks: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    async with app.run_test(size=WIDE) as pilot:
        monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
        await press_web(pilot, app, networks, "server")
        assert "No browser on this host" in told(app)
    assert copied == ["http://localhost:8080/"]


@pytest.mark.usefixtures("no_browser")
async def test_a_browser_gets_the_address_of_the_port_that_was_chosen(
    app: LamellaApp, networks: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, program = tmp_path / "asked", tmp_path / "helper"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    two = (
        PublishedPort(container_port=80, host_port=8080),
        PublishedPort(container_port=443, host_port=8443),
        PublishedPort(container_port=53, host_port=53, protocol="udp"),
    )
    add(networks, "both", NetworkOptions(published_ports=two))
    async with app.run_test(size=WIDE) as pilot:
        await press_web(pilot, app, networks, "both")
        assert isinstance(app.screen, ChoiceScreen)
        text = screen_text(app)
        assert "https://localhost:8443/          port 443 of both" in text
        assert "port 53" not in text
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: asked.exists() and asked.stat().st_size > 0)
        await settled(pilot)
        assert "Opening https://localhost:8443/" in told(app)
    assert asked.read_text() == "https://localhost:8443/"


@pytest.mark.usefixtures("no_browser")
@pytest.mark.parametrize(
    ("options", "runs", "why"),
    [
        (NetworkOptions(), True, "web publishes no port"),
        (NetworkOptions(mode="host"), True, "web has the host's network"),
        (
            NetworkOptions(published_ports=(PublishedPort(container_port=80),)),
            False,
            "web does not run: s starts it",
        ),
        (
            NetworkOptions(published_ports=(PublishedPort(container_port=53, protocol="udp"),)),
            True,
            "web publishes no TCP port",
        ),
    ],
)
async def test_where_nothing_can_be_opened_it_says_why(
    app: LamellaApp, engine: FakeEngine, options: NetworkOptions, runs: bool, why: str
) -> None:
    add(engine, "web", options, runs=runs)
    async with app.run_test(size=WIDE) as pilot:
        await press_web(pilot, app, engine, "web")
        assert why in told(app)
