"""Keys that come in a burst, commands of another pane, work in the background, saved logs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from textual import events
from textual.keys import _character_to_key
from textual.screen import Screen

from engine.types import ContainerStatus
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tui.screens.dialogs import ConfirmScreen, ProgressScreen
from tui.screens.run_form import RunScreen
from tui.widgets.layers import LayerSummary

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from textual._types import CallbackType
    from textual.app import ComposeResult
    from textual.message_pump import MessagePump
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


async def burst(pilot: Pilot[None], text: str) -> None:
    """Give the application all keys at once, as a slow line does."""
    for character in text:
        key = "tab" if character == "\t" else _character_to_key(character)
        pilot.app.post_message(events.Key(key, character))
    await settled(pilot)


async def test_keys_that_come_at_once_each_go_where_the_one_before_led(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await burst(pilot, "3d")
        assert isinstance(app.screen, ConfirmScreen)
        assert "Remove web-1?" in screen_text(app)


async def test_a_form_takes_what_is_typed_faster_than_it_opens(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await burst(pilot, "rtwo\tsleep 5\t\t8080:80\t\t64m")
        form = app.screen
        assert isinstance(form, RunScreen)
        assert [form._value(name) for name in ("name", "command", "ports", "memory")] == [
            "two",
            "sleep 5",
            "8080:80",
            "64m",
        ]


async def test_a_form_that_opens_slowly_takes_what_is_typed_meanwhile(
    app: LamellaApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out = RunScreen.compose

    def lay_out_on_a_busy_machine(form: RunScreen) -> ComposeResult:
        busy_until = time.monotonic() + 1.5
        while time.monotonic() < busy_until:
            pass
        return lay_out(form)

    monkeypatch.setattr("tui.app.KEY_DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(RunScreen, "compose", lay_out_on_a_busy_machine)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await burst(pilot, "rtwo\tsleep 5")
        form = app.screen
        assert isinstance(form, RunScreen)
        assert [form._value(name) for name in ("image", "name", "command")] == [
            "debian:bookworm",
            "two",
            "sleep 5",
        ]


async def test_a_screen_whose_first_paint_nobody_tells_of_holds_up_no_key(
    app: LamellaApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another screen was on top for just that moment."""
    invoke_later = Screen._invoke_later
    lost = []

    def lose_one(screen: Screen[object], callback: CallbackType, sender: MessagePump) -> None:
        if isinstance(screen, ConfirmScreen) and not lost:
            lost.append(callback)
        else:
            invoke_later(screen, callback, sender)

    monkeypatch.setattr("tui.app.OPENING_DEADLINE_SECONDS", 1000)
    monkeypatch.setattr(Screen, "_invoke_later", lose_one)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await burst(pilot, "3dn")
        assert lost
        assert app.screen is app.dashboard


async def test_a_command_of_another_pane_goes_there_first(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("colon", *"logs times")
        await wait_until(pilot, lambda: "Logs: times" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.focused is app.dashboard.detail.logs)
        await settled(pilot)
        assert app.dashboard.detail.logs.has_timestamps
        await pilot.press("colon", *"files sort")
        await wait_until(pilot, lambda: "Files: sort" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.focused is app.dashboard.detail.files)
        await settled(pilot)
        model = app.dashboard.detail.files.model
        assert model is not None
        assert model.is_by_size
    assert engine.calls == []


async def test_work_in_the_background_can_still_be_cancelled(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.gates["load"] = asyncio.Event()
    archive = tmp_path / "image.tar"
    archive.touch()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("L")
        await settled(pilot)
        await paste(pilot, str(archive))
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Unpacking layer 1 of 1" in screen_text(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        assert "1 in background" in screen_text(app)
        await pilot.press("B")
        await wait_until(pilot, lambda: isinstance(app.screen, ProgressScreen))
        await pilot.press("escape")
        await settled(pilot)
        assert "in background" not in screen_text(app)
        assert all("loaded" not in row.name for row in app.dashboard.images.rows)


async def test_work_that_ends_as_its_dialog_opens_closes_no_other(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        below = ConfirmScreen("Remove it?", "It is lost.", verb="remove")
        app.push_screen(below)
        progress = ProgressScreen("Loading", waits_for="Unpacking")
        app.push_screen(progress)
        progress.finish()  # before it has heard that it is on the screen
        await settled(pilot)
        assert app.screen is below
        progress.action_cancel()  # a key that was on its way
        await settled(pilot)
        assert app.screen is below


async def test_work_that_ends_below_another_dialog_leaves_that_alone(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        progress = ProgressScreen("Loading", waits_for="Unpacking")
        app.push_screen(progress)
        await settled(pilot)
        above = ConfirmScreen("Remove it?", "It is lost.", verb="remove")
        app.push_screen(above)
        await settled(pilot)
        progress.finish()
        await settled(pilot)
        assert app.screen is above
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.dashboard


async def test_the_layer_below_can_be_seen_without_leaving_the_files(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("down", "enter", "enter")
        await settled(pilot)
        before = app.dashboard.stack.current
        await pilot.press("J")
        await settled(pilot)
        after = app.dashboard.stack.current
        assert isinstance(before, LayerSummary)
        assert isinstance(after, LayerSummary)
        assert after.position == before.position - 1
        assert app.focused is app.dashboard.detail.files
        await pilot.press("K")
        await settled(pilot)
        assert app.dashboard.stack.current == before


async def test_a_log_is_saved_whole_and_over_another_file_only_after_a_yes(
    app: LamellaApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.log").write_text("kept")
    log = b"listening on 8080\nGET / 200\n"
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "enter", "S", "ctrl+u", *"web.log", "enter")
        await settled(pilot)
        assert (tmp_path / "web.log").read_bytes() == log
        await pilot.press("S", "ctrl+u", *"taken.log", "enter")
        await settled(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert (tmp_path / "taken.log").read_text() == "kept"
        await pilot.press("y")
        await settled(pilot)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.log", "web.log"]
    assert (tmp_path / "taken.log").read_bytes() == log


async def test_wide_characters_are_whole_when_lines_wrap(engine: FakeEngine) -> None:
    from tui.app import LamellaApp

    text = "x" + "日本語" * 30
    engine.add_container("wide", image="web:latest", log=(text.encode(),))
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "slash", *"wide", "enter", "enter", "w")
        await wait_until(pilot, lambda: app.dashboard.detail.logs.is_wrapped)
        await settled(pilot)
        logs = app.dashboard.detail.logs
        rows = [logs.render_line(y).text.rstrip() for y in range(logs.virtual_size.height)]
    assert "".join(rows) == text
    assert all(rows)


async def test_a_new_container_is_under_the_cursor(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("r", *"newest", "enter")
        await settled(pilot)
        current = app.dashboard.containers.current
        assert current is not None
        assert (current.name, current.status) == ("newest", ContainerStatus.RUNNING)
