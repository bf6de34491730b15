"""The events of the store and its cleaning up, by keyboard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.events import Event, EventSubject
from engine.types import AttachmentRequest, ContainerStatus, NetworkRequest
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.notices import notices
from tui.screens.dialogs import ChoiceScreen, ConfirmScreen
from tui.screens.events import MAXIMUM_EVENTS, EventList, EventsScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


async def test_events_of_the_past_are_shown_and_those_of_now_come_on_top(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.change_status("job", ContainerStatus.RUNNING, "start")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("V")
        await wait_until(pilot, lambda: "start" in screen_text(app))
        assert isinstance(app.screen, EventsScreen)
        await app.bridge.call(lambda opened: opened.kill_container("web-1", signal="SIGHUP"))
        await wait_until(pilot, lambda: len(app.screen.list.rows) == 2)  # type: ignore[attr-defined]
        rows = [row.event.action for row in app.screen.list.rows]
        assert rows == ["kill", "start"]
        await pilot.press("slash", *"start", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, EventsScreen))
        assert [row.event.action for row in app.screen.list.rows] == ["start"]
        await pilot.press("escape")
        await settled(pilot)
        assert not isinstance(app.screen, EventsScreen)


async def test_a_flood_of_events_is_kept_within_bounds(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("V")
        await wait_until(pilot, lambda: isinstance(app.screen, EventsScreen))
        view = app.screen.query_one(EventList)
        view.add(
            Event(
                time_ns=time.time_ns(),
                subject=EventSubject.CONTAINER,
                action=f"a{number}",
                subject_id="f" * 64,
            )
            for number in range(MAXIMUM_EVENTS + 50)
        )
        assert len(view.rows) == MAXIMUM_EVENTS
        assert view.rows[0].event.action == f"a{MAXIMUM_EVENTS + 49}"


async def test_a_hostile_name_moves_no_cursor(app: LamellaApp, engine: FakeEngine) -> None:
    engine._emit(EventSubject.IMAGE, "tag", "sha256:" + "0" * 64, "evil\x1b[2J\u202ename")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("V")
        await wait_until(pilot, lambda: "evil" in screen_text(app))
        assert "\x1b" not in screen_text(app)
        assert "\u202e" not in screen_text(app)


async def test_what_nobody_uses_is_measured_named_and_removed_only_after_a_yes(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("X")
        await settled(pilot)
        assert isinstance(app.screen, ChoiceScreen)
        assert "containers that do not run" in screen_text(app)
        assert "12.0 kB" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert "job" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert ("prune", "containers") not in engine.calls
        await pilot.press("y")
        await settled(pilot)
        assert ("prune", "containers") in engine.calls
        assert "job" not in [row.name for row in app.dashboard.containers.rows]


async def test_a_store_where_everything_is_in_use_says_so(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.change_status("job", ContainerStatus.RUNNING, "start")
    engine.add_container("deb", image="debian:bookworm")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("X")
        await settled(pilot)
        assert not isinstance(app.screen, ChoiceScreen)
        messages = notices(app)
        assert messages == ["Nothing to clean up: everything is in use"]


async def test_networks_that_no_container_is_to_be_in_are_cleaned_up_as_well(
    app: LamellaApp, engine: FakeEngine
) -> None:
    for name in ("empty", "needed"):
        await engine.create_network(NetworkRequest(name=name))
    # It does not run, and is to be in it when it does.
    await engine.connect_network("job", AttachmentRequest(network="needed"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("X")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "networks without a container" in screen_text(app)
        await pilot.press("end", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        text = screen_text(app)
        assert "empty" in text
        assert "needed" not in text
        await pilot.press("y")
        await settled(pilot)
        assert "empty" not in [one.name for one in engine.networks.values()]
        assert "needed" in [one.name for one in engine.networks.values()]
