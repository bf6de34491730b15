"""Terminals in the application: keys pressed, real programs of this machine behind the engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import SessionLostError, StartError
from engine.types import TerminalSize
from tests.local_sessions import ScriptedSession, opened, pty_session
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.terminals import (
    opened_app,
    shows,
    terminal_of,
    type_line,
    use_bash,
    use_programs,
    use_script,
    view_of,
)
from tui.screens.terminal import TerminalScreen
from tui.terminal.model import SCROLLBACK_ROWS
from tui.terminal.session import TerminalStatus
from tui.widgets.terminal_view import FRAME_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.api import Session
    from engine.types import ExecRequest
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


async def test_a_shell_runs_what_is_typed_and_its_end_is_told(
    app: LamellaApp, engine: FakeEngine
) -> None:
    requests = use_bash(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await shows(pilot, "$ ")
        assert (requests[0].command, requests[0].has_terminal) == (("bash",), True)
        # Letters that are commands elsewhere are letters here.
        await type_line(pilot, "echo q1 d2 T3; stty size")
        await shows(pilot, "28 100")
        assert "q1 d2 T3" in screen_text(app)
        await pilot.press("ctrl+c")
        await type_line(pilot, "exit 7")
        await shows(pilot, "ended with exit code 7")
        await pilot.press("enter")
        await settled(pilot)
        assert app.screen is app.dashboard
        assert not app.dashboard.open_terminals


async def test_where_there_is_no_bash_sh_is_taken(app: LamellaApp, engine: FakeEngine) -> None:
    session = ScriptedSession()

    @contextlib.asynccontextmanager
    async def make(request: ExecRequest, _size: TerminalSize) -> AsyncIterator[Session]:
        if request.command == ("bash",):
            raise StartError("no such program: bash", exit_code=127)
        async with opened(session) as used:
            yield used

    requests = use_programs(engine, make)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
    assert [request.command for request in requests] == [("bash",), ("sh",)]


async def test_a_command_can_be_chosen(app: LamellaApp, engine: FakeEngine) -> None:
    requests = use_bash(engine)
    async with opened_app(app) as pilot:
        await pilot.press("E")
        await settled(pilot)
        await pilot.press(*"top", "space", "minus", *"d1", "enter")
        await shows(pilot, "$ ")
        assert requests[0].command == ("top", "-d1")


async def test_a_program_that_cannot_be_started_is_told(
    app: LamellaApp, engine: FakeEngine
) -> None:
    @contextlib.asynccontextmanager
    async def make(_request: ExecRequest, _size: TerminalSize) -> AsyncIterator[Session]:
        raise StartError("exec: no such program", exit_code=127)
        yield

    use_programs(engine, make)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await shows(pilot, "exec: no such program")
        assert app.screen is app.dashboard


async def test_a_container_that_does_not_run_says_what_to_do(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with opened_app(app) as pilot:
        app.dashboard.containers.move_to_key(
            next(c.container_id for c in app.dashboard.containers.rows if c.name == "job")
        )
        for key in ("e", "E", "a"):
            app.clear_notifications()
            await pilot.press(key)
            await shows(pilot, "s starts it")
            assert app.screen is app.dashboard


async def test_leaving_a_shell_keeps_it_and_says_how_to_come_back(
    app: LamellaApp, engine: FakeEngine
) -> None:
    use_bash(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await shows(pilot, "$ ")
        await type_line(pilot, "cd /usr; echo here")
        await shows(pilot, "here")
        await pilot.press("ctrl+right_square_bracket")
        await shows(pilot, "T goes back to it")
        await shows(pilot, "1 left open (T)")
        await pilot.press("e")  # another one, meanwhile
        await shows(pilot, "$ ")
        await type_line(pilot, "echo second")
        await pilot.press("ctrl+right_square_bracket")
        await settled(pilot)
        assert len(app.dashboard.open_terminals) == 2
        await pilot.press("T", "enter")
        await settled(pilot)
        await type_line(pilot, "pwd")
        await shows(pilot, "/usr")


async def test_the_end_of_a_shell_that_was_left_is_told(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
        await pilot.press("ctrl+right_square_bracket")
        await settled(pilot)
        await app.bridge.call(lambda _engine: session.end(3))
        await shows(pilot, "ended with exit code 3")
        assert not app.dashboard.open_terminals


async def test_leaving_an_attached_program_detaches(app: LamellaApp, engine: FakeEngine) -> None:
    session = ScriptedSession()
    engine.attach_container = lambda *_names, **_options: opened(session)  # type: ignore
    async with opened_app(app) as pilot:
        await pilot.press("a")
        await app.bridge.call(lambda _engine: session.give(b"old \x1b[c", is_replay=True))
        await app.bridge.call(lambda _engine: session.give(b"new \x1b[5n"))
        await shows(pilot, "old new")
        await wait_until(pilot, lambda: session.written == b"\x1b[0n")  # of now, not of then
        await pilot.press("ctrl+right_square_bracket")
        await shows(pilot, "Detached from web-1; it runs on")
        await wait_until(pilot, lambda: session.is_left)


async def test_a_lost_session_says_what_to_do(app: LamellaApp, engine: FakeEngine) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(lambda _engine: session.give(b"still there"))
        await app.bridge.call(lambda _engine: session.lose(SessionLostError("0123456789abcdef")))
        await shows(pilot, "the session was lost")
        assert "lamella attach 0123456789ab" in screen_text(app)
        assert "still there" in screen_text(app)


async def test_what_scrolled_off_is_read_selected_and_copied(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        lines = b"".join(b"line %03d\r\n" % n for n in range(200))
        await app.bridge.call(lambda _engine: session.give(lines + b"$ "))
        await shows(pilot, "line 199")
        await pilot.press("pageup", "pageup")
        await shows(pilot, "54 lines back")
        assert "line 199" not in screen_text(app)
        await app.bridge.call(lambda _engine: session.give(b"more output\r\n"))
        await wait_until(pilot, lambda: terminal_of(app).model.screen_line == 174)
        before = screen_text(app).splitlines()[1:-1]
        await pilot.press("g")
        await settled(pilot)
        assert "line 000" in screen_text(app)
        assert before != screen_text(app).splitlines()[1:-1]
        await pilot.press("home", "v", "down", "right", "right", "right", "y")
        await settled(pilot)
        assert app.clipboard == "line 000\nline"
        assert not view_of(app).is_scrolled_back
        assert session.written == b""  # none of it went to the program
        await shows(pilot, "more output")


async def test_in_a_full_screen_program_paging_is_the_programs(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(lambda _engine: session.give(b"\x1b[?1049h\x1b[?1hpager"))
        await shows(pilot, "pager")
        await pilot.press("pageup", "up", "f10", "alt+x", "escape", "q")
        await wait_until(pilot, lambda: session.written.endswith(b"q"))
        assert session.written == b"\x1b[5~\x1bOA\x1b[21~\x1bx\x1bq"


async def test_the_size_is_told_and_a_burst_of_sizes_once(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
        await pilot.resize_terminal(81, 30)
        await wait_until(pilot, lambda: session.sizes[-1:] == [TerminalSize(columns=81, rows=28)])
        view, fits = view_of(app), 0

        def fit() -> None:
            nonlocal fits
            fits += 1

        view.fit = fit
        for _ in range(20):
            view.on_resize()
        await wait_until(pilot, lambda: fits > 0)
        assert fits == 1


async def test_only_lines_that_changed_are_drawn_again_and_not_each_time(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(lambda _engine: session.give(b"\x1b[?1049h\x1b[2J\x1b[Hready"))
        await shows(pilot, "ready")
        view = view_of(app)
        drawn: list[int] = []
        paints = 0
        render_line, paint = view.render_line, view._paint

        def record(y: int) -> object:
            drawn.append(y)
            return render_line(y)

        def count() -> None:
            nonlocal paints
            paints += 1
            paint()

        view.render_line, view._paint = record, count
        began = time.monotonic()
        for number in range(200):
            await app.bridge.call(lambda _engine, n=number: session.give(b"\x1b[6;1Hnumber %d" % n))
        await shows(pilot, "number 199")
        assert set(drawn) <= {0, 5}  # the cursor came from the first row
        assert paints <= (time.monotonic() - began) / FRAME_SECONDS + 2


async def test_output_that_the_interface_cannot_take_holds_up_the_program(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
        gate = asyncio.Event()
        seen = bytearray()

        async def hold(data: bytes) -> None:
            await gate.wait()
            seen.extend(data)

        terminal_of(app).tap = hold
        given = 0

        async def give_all() -> None:
            nonlocal given
            for number in range(1000):
                await session.give(b"%04d" % number)
                given += 1

        giving = asyncio.ensure_future(app.bridge.call(lambda _engine: give_all()))
        held: list[int] = []
        await wait_until(
            pilot, lambda: held.append(given) or (given > 0 and held[-20:] == [given] * 20)
        )
        assert given < 300
        gate.set()
        await giving
        await wait_until(pilot, lambda: len(seen) == 4000)
        assert bytes(seen) == b"".join(b"%04d" % number for number in range(1000))


async def test_hostile_output_stays_in_the_terminal(app: LamellaApp, engine: FakeEngine) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(
            lambda _engine: session.give(
                "\x1b]0;[bold]x[/] \u202eevil\x07\x1b]52;c;aGk=\x07"
                "\x9b31mred\u202e\x1bPq\x1b\\ok".encode()
            )
        )
        await shows(pilot, "redok")
        await shows(pilot, "[bold]x[/] \ufffdevil")
        assert app.clipboard == ""
        assert not any(ord(c) < 32 and c != "\n" for c in screen_text(app))


async def test_a_paste_goes_to_the_program_as_the_program_wants_it(
    app: LamellaApp, engine: FakeEngine
) -> None:
    from textual import events

    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await app.bridge.call(lambda _engine: session.give(b"\x1b[?2004hready"))
        await shows(pilot, "ready")
        app.post_message(events.Paste("two\nlines"))
        await wait_until(pilot, lambda: session.written == b"\x1b[200~two\rlines\x1b[201~")


async def test_input_that_the_program_does_not_read_is_bounded(
    app: LamellaApp, engine: FakeEngine
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
        session.writable.clear()
        terminal = terminal_of(app)
        accepted = sum(terminal.send(b"x" * 100_000) for _ in range(30))
        assert accepted <= 11
        session.writable.set()
        await wait_until(pilot, lambda: len(session.written) == accepted * 100_000)


@pytest.mark.parametrize("keys", [("q", "y"), ("ctrl+c", "ctrl+c")])
async def test_quitting_asks_before_it_hangs_programs_up(
    app: LamellaApp, engine: FakeEngine, keys: tuple[str, str]
) -> None:
    session = use_script(engine)
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: terminal_of(app).status is TerminalStatus.RUNNING)
        await pilot.press("ctrl+right_square_bracket", keys[0])
        await shows(pilot, "shell in web-1")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        assert app.is_running
        assert not session.is_left
        await pilot.press(keys[0])
        await shows(pilot, "Left open, and hung up with the application")
        await pilot.press(keys[1])
        await wait_until(pilot, lambda: not app.is_running)
    assert session.is_left
    assert not session.is_detached


async def test_quitting_asks_nothing_when_no_program_ends_with_it(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with opened_app(app) as pilot:
        await pilot.press("q")
        await wait_until(pilot, lambda: not app.is_running)


async def test_ten_megabytes_of_a_real_cat_end_in_its_last_lines_and_little_memory(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(
        b"".join(b"line %06d of a long file that fills its rows\n" % n for n in range(222_223))
    )
    assert path.stat().st_size > 10_000_000
    use_programs(engine, lambda _request, size: pty_session(("cat", str(path)), size=size))
    async with opened_app(app) as pilot:
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, TerminalScreen))
        async with asyncio.timeout(100):  # seconds alone, more beside other tests
            while not terminal_of(app).is_over:
                await pilot.pause()
        await shows(pilot, "ended with exit code 0")
        assert "line 222222 of a long file" in screen_text(app)
        model = terminal_of(app).model
        assert model.screen_line - model.first_line == SCROLLBACK_ROWS
        await pilot.press("g")  # what has ended can be read all the same
        await shows(pilot, "line 217196")
