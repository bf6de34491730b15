"""Pulls and pushes, by keyboard: a line for each layer, the background, cancelled and failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.errors import RegistryUnreachableError
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tests.tui.notices import told
from tests.tui.registries import NAME, SIZES, moving, search, settled_screen
from tui.screens.dialogs import ChoiceScreen, PromptScreen, QuitScreen
from tui.screens.registry import RegistryScreen
from tui.screens.transfer_dialog import TransferScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

MANY = 119


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    engine.remote_names.add(NAME)
    return engine


@pytest.mark.parametrize("size", SIZES)
async def test_a_pull_shows_each_layer_and_all_of_them(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    engine.moving_layers = moving(done_bytes=10_000_000, count=3)
    engine.gates["layers"] = asyncio.Event()
    async with app.run_test(size=size) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: "1 of 3 layers" in screen_text(app))
        assert isinstance(app.screen, TransferScreen)
        text = screen_text(app)
        assert "10.0 MB of 80.0 MB" in text
        rows = [line for line in text.splitlines() if "000000" in line]
        assert "Already exists" in rows[0]
        assert "Downloading" in rows[1]
        assert "10.0 MB/40.0 MB" in rows[1]
        assert size[0] < 80 or "█" in rows[1]
        assert "Pulling fs layer" in rows[2]
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(engine.gates["layers"].set)
        await settled(pilot)
        assert f"Pulled {NAME}" in told(app)
        assert isinstance(app.screen, RegistryScreen)


async def test_many_layers_scroll_and_follow_what_goes_on_until_somebody_moves(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.moving_layers = moving(done_bytes=1, count=MANY)
    engine.gates["layers"] = asyncio.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: f"of {MANY} layers" in screen_text(app))
        view = app.screen.list
        assert "000000000001" in view.current.transfer.digest
        await pilot.press("G")
        await settled_screen(pilot)
        assert f"{MANY - 1:012x}" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)


async def test_nothing_is_drawn_while_nothing_changes(
    app: LamellaApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.moving_layers = moving(done_bytes=0, count=3)
    engine.gates["layers"] = asyncio.Event()
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: "of 3 layers" in screen_text(app))
        screen = app.screen
        assert isinstance(screen, TransferScreen)
        await settled_screen(pilot)
        drawn: list[int] = []
        monkeypatch.setattr(type(screen.list), "_draw", lambda *_words: drawn.append(1))
        refreshed: list[object] = []
        monkeypatch.setattr(screen.list, "refresh", lambda *words, **_: refreshed.append(words))
        for _ in range(20):
            screen._draw()
        assert not drawn
        assert not refreshed
        monkeypatch.undo()
        await pilot.press("escape")
        await settled(pilot)


async def test_a_cancelled_pull_says_that_it_goes_on_where_it_was(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.moving_layers = moving(done_bytes=10_000_000, count=2)
    engine.gates["layers"] = asyncio.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: isinstance(app.screen, TransferScreen))
        await wait_until(pilot, lambda: "Downloading" in screen_text(app))
        await pilot.press("escape")
        await settled(pilot)
        assert f"Cancelled: Pulling {NAME}" in told(app)
        assert "pull it again, and it goes on where it was" in told(app)


async def test_a_pull_that_fails_in_the_middle_says_so_too(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.moving_layers = moving(done_bytes=10_000_000, count=2)
    engine.gates["layers"] = asyncio.Event()
    engine.failures["layers"] = RegistryUnreachableError("localhost:5000", "connection lost")
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: "Downloading" in screen_text(app))
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(engine.gates["layers"].set)
        await settled(pilot)
        assert "connection lost" in told(app)
        assert "pull it again, and it goes on where it was" in told(app)


async def test_several_go_on_in_the_background_and_one_is_chosen_to_look_at(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.moving_layers = moving(done_bytes=10_000_000, count=2)
    engine.gates["layers"] = asyncio.Event()
    engine.remote_names.add("other:1")
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        for name in (NAME, "other:1"):
            if name != NAME:
                await pilot.press("slash", "ctrl+u", *"other", "colon", "1", "enter")
                await settled_screen(pilot)
            await pilot.press("P")
            await wait_until(pilot, lambda: isinstance(app.screen, TransferScreen))
            await pilot.press("b")
            await wait_until(pilot, lambda: isinstance(app.screen, RegistryScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        assert "2 in background" in screen_text(app)
        await pilot.press("B")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "Pulling other:1" in screen_text(app)
        assert f"Pulling {NAME}" in screen_text(app)
        assert "1 of 2 layers" in screen_text(app)
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, TransferScreen))
        await wait_until(pilot, lambda: "Downloading" in screen_text(app))
        assert "Pulling other:1" in screen_text(app)
        await pilot.press("escape")
        await wait_until(pilot, lambda: "1 in background" in screen_text(app))
        before = app.dashboard.images.current
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(engine.gates["layers"].set)
        await settled(pilot)
        assert f"Pulled {NAME}" in told(app)
        assert "in background" not in screen_text(app)
        # The cursor is where somebody who moves about in the list has put it.
        assert app.dashboard.images.current == before


async def test_an_image_is_pushed_under_another_name(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("p")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        current = app.dashboard.images.current
        assert current is not None
        assert app.screen.query_one("#prompt").value == current.name
        await pilot.press("ctrl+u")
        await paste(pilot, "localhost:5000/mine:2")
        await pilot.press("enter")
        await settled(pilot)
        assert engine.calls == [
            ("tag", f"{current.name} localhost:5000/mine:2"),
            ("push", "localhost:5000/mine:2"),
        ]
        assert "Pushed localhost:5000/mine:2: digest sha256:" in told(app)
        await pilot.press("p", "enter")
        await settled(pilot)
        assert engine.calls[2:] == [("push", app.dashboard.images.current.name)]


async def test_a_name_of_another_image_is_moved_only_when_that_is_said_twice(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.add_image("localhost:5000/taken:1")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("p", "ctrl+u")
        await paste(pilot, "localhost:5000/taken:1")
        await pilot.press("enter")
        await settled(pilot)
        assert "localhost:5000/taken:1 is a name of" in screen_text(app)
        assert engine.calls == []
        await pilot.press("enter")
        await settled(pilot)
        assert [name for name, _ in engine.calls] == ["tag", "push"]


async def test_quitting_says_what_it_would_cancel(app: LamellaApp, engine: FakeEngine) -> None:
    engine.moving_layers = moving(done_bytes=10_000_000, count=2)
    engine.gates["layers"] = asyncio.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: isinstance(app.screen, TransferScreen))
        await pilot.press("b")
        await wait_until(pilot, lambda: isinstance(app.screen, RegistryScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await settled_screen(pilot)
        assert f"Pulling {NAME}" in screen_text(app)
        assert "Cancelled with the application" in screen_text(app)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        await pilot.press("q", "y")
