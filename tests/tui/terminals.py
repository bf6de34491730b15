"""Opens terminals in the application for tests: a container, programs behind exec, keys."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.local_sessions import ScriptedSession, opened, pty_session, terminal_environment
from tests.tui.conftest import screen_text, settled, wait_until
from tui.screens.terminal import TerminalScreen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from textual.pilot import Pilot

    from engine.api import Session
    from engine.types import ExecRequest, TerminalSize
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp
    from tui.terminal.session import OpenTerminal
    from tui.widgets.terminal_view import TerminalView

SIZE = (100, 30)


@contextlib.asynccontextmanager
async def opened_app(app: LamellaApp) -> AsyncIterator[Pilot[None]]:
    """The application with the cursor on the running container."""
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await settled(pilot)
        assert app.dashboard.containers.move_to_key(
            next(c.container_id for c in app.dashboard.containers.rows if c.name == "web-1")
        )
        await settled(pilot)
        yield pilot


def use_programs(
    engine: FakeEngine,
    make: Callable[[ExecRequest, TerminalSize], AbstractAsyncContextManager[Session]],
) -> list[ExecRequest]:
    """Let exec run programs of this machine; returns the requests that come."""
    requests: list[ExecRequest] = []

    def exec_container(
        reference: str, request: ExecRequest, *, size: TerminalSize | None = None
    ) -> AbstractAsyncContextManager[Session]:
        requests.append(request)
        assert size is not None
        return make(request, size)

    engine.exec_container = exec_container  # type: ignore[method-assign]
    return requests


def use_bash(engine: FakeEngine) -> list[ExecRequest]:
    return use_programs(
        engine,
        lambda request, size: pty_session(
            ("bash", "--norc", "--noprofile"), size=size, environment=terminal_environment(PS1="$ ")
        ),
    )


def use_script(engine: FakeEngine) -> ScriptedSession:
    session = ScriptedSession()
    use_programs(engine, lambda _request, _size: opened(session))
    return session


def view_of(app: LamellaApp) -> TerminalView:
    assert isinstance(app.screen, TerminalScreen)
    return app.screen.view


def terminal_of(app: LamellaApp) -> OpenTerminal:
    return view_of(app).terminal


async def shows(pilot: Pilot[None], text: str) -> None:
    app = pilot.app
    try:
        await wait_until(pilot, lambda: text in screen_text(app))
    except TimeoutError:
        pytest.fail(f"no {text!r} in\n{screen_text(app)}")


async def type_line(pilot: Pilot[None], text: str) -> None:
    names = {" ": "space", "$": "dollar_sign", "-": "minus", ";": "semicolon", "'": "apostrophe"}
    await pilot.press(*(names.get(c, c) for c in text), "enter")
