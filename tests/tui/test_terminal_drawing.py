"""What a terminal in the application looks like: the cursor, wide characters, the selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tui.conftest import wait_until
from tests.tui.terminals import opened_app, shows, use_script, view_of

if TYPE_CHECKING:
    from textual.strip import Strip

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp
    from tui.widgets.terminal_view import TerminalView


def painted(view: TerminalView, row: int) -> Strip:
    """A row as it is on the person's terminal, which may be older than the emulator's."""
    strips = view.screen._compositor.render_strips()
    return strips[view.region.y + row]


def reversed_text(strip: Strip) -> str:
    return "".join(s.text for s in strip if s.style is not None and s.style.reverse)


async def test_a_cursor_that_moved_up_is_seen_once(app: LamellaApp, engine: FakeEngine) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        # The screen scrolls and the cursor stays below; then it alone moves.
        await app.bridge.call(lambda _engine: session.give(b"line\r\n" * 40 + b"$ below"))
        await shows(pilot, "$ below")
        view = view_of(app)
        assert reversed_text(painted(view, 27)) == " "
        await app.bridge.call(lambda _engine: session.give(b"\x1b[3;1H"))
        await wait_until(pilot, lambda: reversed_text(painted(view, 2)) == "l")
        assert reversed_text(painted(view, 27)) == ""


async def test_a_cursor_on_a_reversed_cell_is_seen(app: LamellaApp, engine: FakeEngine) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        found = b"\x1b[7mfound\x1b[0m\x1b[1;1H"
        await app.bridge.call(lambda _engine: session.give(found))
        await shows(pilot, "found")
        assert reversed_text(painted(view_of(app), 0)) == "ound"


@pytest.mark.parametrize("column", [3, 4])
async def test_a_cursor_on_a_wide_character_covers_it(
    app: LamellaApp, engine: FakeEngine, column: int
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        text = f"日本語\x1b[1;{column}H".encode()
        await app.bridge.call(lambda _engine: session.give(text))
        await shows(pilot, "日本語")
        assert reversed_text(painted(view_of(app), 0)) == "本"


async def test_a_line_that_the_screen_broke_is_copied_as_one(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        long = b"word " * 30 + b"end"
        data = long + b"\r\n\r\nnext\r\n" + b"\r\n" * 25 + b"last"
        await app.bridge.call(lambda _engine: session.give(data))
        await shows(pilot, "last")  # the first rows are in the history, the others on the screen
        await pilot.press("shift+pageup", "g", "home", "v", *["down"] * 3, "end", "y")
        await wait_until(pilot, lambda: app.clipboard == f"{long.decode()}\n\nnext")


async def test_a_selection_has_wide_characters_whole(app: LamellaApp, engine: FakeEngine) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(lambda _engine: session.give(b"\n" * 30 + "\r日本語 end".encode()))
        await shows(pilot, "日本語 end")
        await pilot.press("shift+pageup", "G", "home", "right", "v", "right", "right", "y")
        await wait_until(pilot, lambda: app.clipboard == "日本")
