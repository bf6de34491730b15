"""How the application ends, as a process in a terminal, and what it redraws by the clock."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tui.conftest import settled
from tui.messages import WatchFailed

if TYPE_CHECKING:
    import pytest

    from tui.app import LamellaApp

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0


def end_of_application(root: Path) -> int:
    """Open the application over a store, press q once the outcome is on screen; its exit code."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", PYTHONPATH=str(CHECKOUT))
        words = ["-m", "tui", "--root", str(root), "--run", str(root / "run")]
        os.execv(sys.executable, [sys.executable, *words])
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        seen, is_told, deadline = b"", False, time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if not select.select([descriptor], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                break  # The terminal is closed: it has ended.
            seen += data
            if not is_told and (b"The engine is not open" in seen or b"No images here" in seen):
                is_told = True
                os.write(descriptor, b"q")
        else:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(descriptor)


def test_it_ends_with_1_when_the_engine_could_not_be_opened(tmp_path: Path) -> None:
    in_the_way = tmp_path / "store"
    in_the_way.write_text("a file where the store should be")
    assert end_of_application(in_the_way) == 1


def test_it_ends_with_0_when_a_person_quits(tmp_path: Path) -> None:
    assert end_of_application(tmp_path / "store") == 0


async def test_rows_that_look_the_same_are_not_sent_to_the_terminal_again(
    app: LamellaApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        containers = app.dashboard.containers
        sent: list[int] = []
        monkeypatch.setattr(type(containers), "_refresh_row", lambda _self, row: sent.append(row))
        containers.redraw_changed_rows()
        assert sent == []
        containers._figures[containers.rows[0].container_id] = ("9.9 %", "1 GB")
        containers.redraw_changed_rows()
        assert sent == [0]


async def test_what_the_engine_says_while_the_application_closes_is_let_go(app: LamellaApp) -> None:
    async with app.run_test() as pilot:
        await settled(pilot)
    app.bridge.publish("watch", WatchFailed(message="late", hint=""))
    app.on_state_arrived()
    assert app.bridge.has_waiting_state
