"""The mouse in terminals of the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tui.conftest import wait_until
from tests.tui.terminals import opened_app, shows, terminal_of, use_script
from tui.terminal.session import TerminalStatus

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tests.local_sessions import ScriptedSession
    from tui.app import LamellaApp


async def opened_program(
    app: LamellaApp, pilot: Pilot[None], session: ScriptedSession, modes: bytes
) -> None:
    """Open a program that has switched modes on."""
    await pilot.press("e")
    await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
    await app.bridge.call(lambda _engine: session.give(b"\x1b[?1049h" + modes + b"program"))
    await shows(pilot, "program")


async def test_clicks_drags_and_the_wheel_reach_a_program_that_asked(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await opened_program(app, pilot, session, b"\x1b[?1002;1006h")
        await pilot.mouse_down("#terminal", offset=(4, 2))
        await pilot.mouse_up("#terminal", offset=(6, 3))
        await wait_until(pilot, lambda: session.written.endswith(b"m"))
        # The pilot moves to each place with the button of what it does there.
        assert session.written == b"\x1b[<32;5;3M\x1b[<0;5;3M\x1b[<32;7;4M\x1b[<0;7;4m"
        session.written = b""
        await pilot.hover("#terminal", offset=(9, 9))  # a move alone was not asked for
        await pilot.click("#terminal", offset=(0, 0), button=3, control=True)
        await wait_until(pilot, lambda: session.written.endswith(b"m"))
        assert session.written.endswith(b"\x1b[<18;1;1M\x1b[<18;1;1m")
        assert b";10;10" not in session.written


async def test_the_mouse_is_on_while_a_program_that_asked_is_shown(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        assert not app.is_mouse_on
        await opened_program(app, pilot, session, b"\x1b[?1000h")
        await wait_until(pilot, lambda: app.is_mouse_on)
        await pilot.press("ctrl+right_square_bracket")
        await wait_until(pilot, lambda: not app.is_mouse_on)
        await pilot.press("T")
        await wait_until(pilot, lambda: app.is_mouse_on)
        await app.bridge.call(lambda _engine: session.give(b"\x1b[?1000l"))
        await wait_until(pilot, lambda: not app.is_mouse_on)


async def test_a_program_that_did_not_ask_hears_nothing(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await opened_program(app, pilot, session, b"")
        await pilot.click("#terminal", offset=(4, 2))
        await pilot.press("x")
        await wait_until(pilot, lambda: session.written.endswith(b"x"))
        assert session.written == b"x"
