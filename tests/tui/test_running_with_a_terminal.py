"""`run -it` by keyboard: the form, the terminal that opens, and what is left when it closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.errors import NameInUseError, StartError
from engine.types import ContainerStatus

pytest.importorskip("bittty", reason="`make test` installs what pyproject.toml lists")
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.test_open_terminals import shows, type_line
from tui.screens.terminal import TerminalScreen

if TYPE_CHECKING:
    from engine.types import ContainerSummary
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = ((120, 40), (80, 24))
TERMINAL = ("tab", "tab", "space")
"""From the name to the tick of the terminal, and set it."""


def find(engine: FakeEngine, name: str) -> ContainerSummary | None:
    return next((c.summary for c in engine.containers.values() if c.summary.name == name), None)


@pytest.mark.parametrize("size", SIZES)
async def test_a_new_container_with_a_terminal_is_typed_into_at_once(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        # In one go, as a slow line brings them: enter on a tick runs it like enter in a field.
        await pilot.press("r", *"mine", "tab", *"sh", "tab", "space", "enter")
        await type_line(pilot, "echo q d s")
        await shows(pilot, "echo q d s")
        assert isinstance(app.screen, TerminalScreen)
        assert "mine  attached" in screen_text(app)
        (made,) = (c for c in engine.containers.values() if c.summary.name == "mine")
        assert (made.request.has_terminal, made.request.is_stdin_open) == (True, True)
        (session,) = engine.sessions
        assert session.received.startswith(b"echo q d s\r")
        assert (session.sizes[0].columns, session.sizes[0].rows) == (size[0], size[1] - 2)
        await type_line(pilot, "exit 3")
        await shows(pilot, "ended with exit code 3")
        await pilot.press("enter")
        await settled(pilot)
        assert app.screen is app.dashboard
        assert app.focused is app.dashboard.containers
        current = app.dashboard.selected_container
        assert current is not None
        assert (current.name, current.status) == ("mine", ContainerStatus.EXITED)
    assert engine.calls[:2] == [("create", "mine"), ("start", "mine")]


async def test_a_drawn_name_is_shown_and_leaving_says_how_to_come_back(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *TERMINAL, "up", *"sh", "enter")
        await shows(pilot, "brave_lamport")
        await pilot.press("ctrl+right_square_bracket")
        await shows(pilot, "Detached from brave_lamport")
        assert "it runs on, a goes back" in screen_text(app)
        assert app.focused is app.dashboard.containers
        await pilot.press("a")
        await shows(pilot, "attached")
        await type_line(pilot, "exit")
        await shows(pilot, "ended with exit code 0")


async def test_one_to_be_removed_is_gone_when_its_terminal_has_ended(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r", *"brief", *TERMINAL, "up", *"sh", *("up",) * 3, "space", "enter")
        await shows(pilot, "brief  attached")
        made = find(engine, "brief")
        assert made is not None
        assert made.is_removed_on_exit
        await type_line(pilot, "exit")
        await shows(pilot, "ended with exit code 0")
        await wait_until(pilot, lambda: find(engine, "brief") is None)


@pytest.mark.parametrize("keys", [(), TERMINAL], ids=["background", "terminal"])
@pytest.mark.parametrize("is_removed", [False, True], ids=["kept", "removed"])
async def test_one_that_does_not_start_is_told_and_goes_if_it_was_to_be_removed(
    app: LamellaApp, engine: FakeEngine, keys: tuple[str, ...], is_removed: bool
) -> None:
    engine.failures["start"] = StartError("exec: no such program", exit_code=127)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *"bad", *keys)
        if is_removed:
            await pilot.press(*("up",) * (4 if keys else 2), "space")
        await pilot.press("enter")
        await shows(pilot, "exec: no such program")
        await settled(pilot)
        assert app.screen is app.dashboard
    assert (find(engine, "bad") is None) is is_removed


async def test_one_that_cannot_be_made_leaves_one_where_one_was(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.failures["create"] = NameInUseError("web-1", "0" * 64)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *"web-1", *TERMINAL, "enter")
        await shows(pilot, "is already in use")
        assert app.screen is app.dashboard
        assert app.focused is app.dashboard.images


async def test_leaving_before_the_program_is_there_gives_it_up(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.gates["create"] = asyncio.Event()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *"late", *TERMINAL, "enter")
        await shows(pilot, "opening")
        await pilot.press("ctrl+right_square_bracket")
        await shows(pilot, "Left late before it was there")
        await settled(pilot)
        assert app.screen is app.dashboard
    assert find(engine, "late") is None


async def test_starting_one_with_a_terminal_says_which_key_opens_it(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *"mine", *TERMINAL, "up", *"sh", "enter")
        await type_line(pilot, "exit")
        await shows(pilot, "ended with exit code 0")
        await pilot.press("enter", "s")
        await shows(pilot, "Started mine; a opens its terminal")


async def test_where_one_pane_is_shown_a_new_container_is_a_key_away(app: LamellaApp) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("r", *"job-2", "enter")
        await shows(pilot, "Started job-2; 3 shows it")
        await pilot.press("3")
        await shows(pilot, "> job-2")


async def test_a_stop_that_takes_long_says_what_it_waits_for(
    app: LamellaApp, engine: FakeEngine
) -> None:
    gate = engine.gates["stop"] = asyncio.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("3", "s")
        await shows(pilot, "after the stop timeout it is killed")
        await app.bridge.call(lambda _engine: _set(gate))
        await settled(pilot)
        assert app.screen is app.dashboard


async def _set(gate: asyncio.Event) -> None:
    gate.set()
