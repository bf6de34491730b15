"""The application over a fake engine, and how to wait until it has settled.

`settled(pilot)` returns when every call to the engine has been answered, every state it published
has been shown and the screen has been laid out; `wait_until(pilot, condition)` waits for anything
else that can be seen. Neither sleeps for luck: both fail after a deadline.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from textual import events

from engine.types import ChangeKind, ContainerStatus, FileKind
from tests.fakes import FakeEngine, file_entry
from tests.tui import notices
from tui.app import LamellaApp
from tui.screens.file_view import FileViewScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

DEADLINE_SECONDS = 20.0
LASTING = ("follow", "terminal")
"""Workers that go on while nothing happens."""


async def wait_until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await pilot.pause()
        if pilot.app.is_running:
            # What it came with is laid out, too: a screen is there before its words are.
            await pilot.pause()


async def settled(pilot: Pilot[None]) -> None:
    app = pilot.app
    assert isinstance(app, LamellaApp)
    quiet = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while quiet < 3:
            await pilot.pause()
            is_quiet = (
                (app.bridge.is_open or app.has_failed)
                and not app.bridge.has_waiting_state
                and app.bridge.calls_in_flight == 0
                and not app.has_keys_in_hand
                and (app.watcher.is_settled or app.has_failed)
                and all(worker.group in LASTING for worker in app.workers if worker.is_running)
            )
            quiet = quiet + 1 if is_quiet else 0


async def paste(pilot: Pilot[None], text: str) -> None:
    """Put a long text into the focused input, as a terminal pastes it: each key takes its time."""
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()


def screen_text(app: LamellaApp) -> str:
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)


def viewed_lines(app: LamellaApp) -> list[str]:
    """The lines of the file that is shown."""
    assert isinstance(app.screen, FileViewScreen), app.screen
    return [row.text.strip() for row in app.screen.lines.rows]


@pytest.fixture(autouse=True)
def _remembered_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    notices.remember(monkeypatch)


@pytest.fixture
def engine() -> FakeEngine:
    fake = FakeEngine()
    fake.add_image("debian:bookworm")
    fake.add_image(
        "web:latest",
        steps=(
            ("/bin/sh -c #(nop) ADD file:1 in / ", 117_000_000),
            ("/bin/sh -c apt-get install -y python3", 80_200_000),
            ("COPY app /srv/app # buildkit", 16_100_000),
            ('/bin/sh -c #(nop)  CMD ["serve"]', 0),
        ),
        files=(
            file_entry("srv", kind=FileKind.DIRECTORY, mode=0o755, change=ChangeKind.UNCHANGED),
            file_entry("srv/app.py", size_bytes=4200),
            file_entry("srv/old.py", change=ChangeKind.REMOVED, kind=FileKind.WHITEOUT),
            file_entry("srv/settings", size_bytes=10, change=ChangeKind.MODIFIED),
        ),
    )
    fake.add_container("web-1", image="web:latest", log=(b"listening on 8080", b"GET / 200"))
    fake.add_container(
        "job", image="web:latest", status=ContainerStatus.EXITED, exit_code=1, log=(b"failed",)
    )
    return fake


@pytest.fixture
def app(engine: FakeEngine) -> LamellaApp:
    return LamellaApp(engine.opened)
