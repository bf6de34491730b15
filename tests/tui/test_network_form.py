"""The form that makes a network, by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.types import NetworkSubnet
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.networks import NARROW, WIDE, add_networks, opened
from tests.tui.notices import told
from tui.screens.network_form import NetworkFormScreen
from tui.screens.networks import NetworksScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


@pytest.fixture
async def networks(engine: FakeEngine) -> FakeEngine:
    return await add_networks(engine)


async def test_one_is_made_in_the_form_and_stands_under_the_cursor(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=NARROW) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, NetworkFormScreen))
        await pilot.press("enter")
        assert "Name: which?" in screen_text(app)
        await pilot.press(*"mine", "tab", *"10.9.0.0/24", "tab", *"10.9.0.254", "tab")
        await pilot.press(*"10.9.0.128/25", "tab", "space", "tab", "space", "enter")
        await settled(pilot)
        assert app.screen is screen
        row = screen.list.current
        assert row is not None
        made = row.network
        assert made.name == "mine"
        assert made.subnets[0] == NetworkSubnet(
            subnet="10.9.0.0/24", gateway="10.9.0.254", ip_range="10.9.0.128/25"
        )
        assert made.is_internal
        assert made.has_ipv6
        assert made.subnets[1].subnet.startswith("fd")
        assert "mine is ready" in told(app)


@pytest.mark.parametrize(
    ("subnet", "gateway", "address_range", "problem"),
    [
        ("10.9.0.1/24", "", "", "it should be 10.9.0.0/24"),
        ("nonsense", "", "", "is no subnet; write it as 10.5.0.0/24"),
        ("10.9.0.0/24 10.10.0.0/24", "", "", "one IPv4 subnet"),
        ("10.9.0.0/24", "10.8.0.1", "", "it is not in 10.9.0.0/24"),
        ("", "10.8.0.1", "", "Gateway: give the subnet, too"),
        ("10.9.0.0/24", "10.9.0.0/30", "", "one address, without a prefix"),
        ("10.9.0.0/24", "", "10.9.0.0/16", "Range: it is not in 10.9.0.0/24"),
        ("10.9.0.0/31", "", "", "no room"),
    ],
)
async def test_what_makes_no_sense_is_said_in_the_form_and_can_be_mended(
    app: LamellaApp, engine: FakeEngine, subnet: str, gateway: str, address_range: str, problem: str
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app)
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, NetworkFormScreen))
        for field, text in (
            ("name", "mine"),
            ("subnet", subnet),
            ("gateway", gateway),
            ("range", address_range),
        ):
            app.screen.query_one(f"#field-{field}").value = text  # type: ignore[attr-defined]
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, NetworkFormScreen)
        assert problem in " ".join(screen_text(app).split())
        assert not any(name == "mine" for name in (n.name for n in engine.networks.values()))


async def test_a_name_that_is_taken_is_said_in_the_form(
    app: LamellaApp, networks: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await opened(pilot, app)
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, NetworkFormScreen))
        await pilot.press(*"backend", "enter")
        await settled(pilot)
        assert "network with name backend already exists" in screen_text(app)
        await pilot.press("2", "enter")
        await settled(pilot)
        assert isinstance(app.screen, NetworksScreen)
        assert "backend2" in screen_text(app)
