"""The mouse in programs: what is told of it, and what is not."""

from __future__ import annotations

import pytest

from engine.types import TerminalSize
from tui.terminal.emulator import BitttyModel
from tui.terminal.model import MouseTracking, TerminalModes
from tui.terminal.mouse import NO_BUTTON, WHEEL_DOWN, MouseAction, encode_mouse
from tui.terminal.paint import screen_sequence

PRESS, RELEASE, MOVE = MouseAction.PRESS, MouseAction.RELEASE, MouseAction.MOVE


def modes_after(data: bytes) -> TerminalModes:
    model = BitttyModel(TerminalSize(columns=80, rows=24))
    model.feed(data)
    return model.modes


@pytest.mark.parametrize(
    ("data", "mouse", "has_sgr_mouse"),
    [
        (b"", MouseTracking.NONE, False),
        (b"\x1b[?9h", MouseTracking.PRESSES, False),
        (b"\x1b[?1000h", MouseTracking.CLICKS, False),
        (b"\x1b[?1002h\x1b[?1006h", MouseTracking.DRAGS, True),
        (b"\x1b[?1003;1006h", MouseTracking.MOVES, True),
        (b"\x1b[?1002;1006h\x1b[?1002;1006l", MouseTracking.NONE, False),
        (b"\x1b[?1003h\x1bc", MouseTracking.NONE, False),
    ],
)
def test_what_a_program_asks_for_is_known(
    data: bytes, mouse: MouseTracking, has_sgr_mouse: bool
) -> None:
    modes = modes_after(data)
    assert (modes.mouse, modes.has_sgr_mouse) == (mouse, has_sgr_mouse)


@pytest.mark.parametrize(
    ("action", "button", "sgr", "older"),
    [
        (PRESS, 0, b"\x1b[<0;5;3M", b"\x1b[M %#"),
        (RELEASE, 0, b"\x1b[<0;5;3m", b"\x1b[M#%#"),
        (PRESS, 2, b"\x1b[<2;5;3M", b'\x1b[M"%#'),
        (MOVE, 0, b"\x1b[<32;5;3M", b"\x1b[M@%#"),
        (MOVE, NO_BUTTON, b"\x1b[<35;5;3M", b"\x1b[MC%#"),
        (PRESS, WHEEL_DOWN, b"\x1b[<65;5;3M", b"\x1b[Ma%#"),
    ],
)
def test_reports_are_those_of_xterm(
    action: MouseAction, button: int, sgr: bytes, older: bytes
) -> None:
    for has_sgr_mouse, sent in ((True, sgr), (False, older)):
        modes = TerminalModes(mouse=MouseTracking.MOVES, has_sgr_mouse=has_sgr_mouse)
        assert encode_mouse(action, button, 4, 2, modes) == sent


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        (MouseTracking.NONE, ()),
        (MouseTracking.PRESSES, ("press",)),
        (MouseTracking.CLICKS, ("press", "release", "wheel")),
        (MouseTracking.DRAGS, ("press", "release", "wheel", "drag")),
        (MouseTracking.MOVES, ("press", "release", "wheel", "drag", "move")),
    ],
)
def test_nothing_is_told_that_was_not_asked_for(
    tracking: MouseTracking, told: tuple[str, ...]
) -> None:
    modes = TerminalModes(mouse=tracking, has_sgr_mouse=True)
    events = {
        "press": (PRESS, 0),
        "release": (RELEASE, 0),
        "wheel": (PRESS, WHEEL_DOWN),
        "drag": (MOVE, 0),
        "move": (MOVE, NO_BUTTON),
    }
    sent = {name: encode_mouse(*event, 4, 2, modes) for name, event in events.items()}
    assert tuple(name for name, data in sent.items() if data) == told


def test_modifiers_are_told() -> None:
    modes = TerminalModes(mouse=MouseTracking.CLICKS, has_sgr_mouse=True)
    held = {"has_shift": True, "has_meta": True, "has_control": True}
    assert encode_mouse(PRESS, 0, 0, 0, modes, **held) == b"\x1b[<28;1;1M"


def test_the_older_form_is_not_sent_for_cells_that_it_has_no_bytes_for() -> None:
    older = TerminalModes(mouse=MouseTracking.CLICKS)
    assert encode_mouse(PRESS, 0, 222, 222, older) == b"\x1b[M \xff\xff"
    assert encode_mouse(PRESS, 0, 223, 0, older) == b""
    sgr = TerminalModes(mouse=MouseTracking.CLICKS, has_sgr_mouse=True)
    assert encode_mouse(PRESS, 0, 223, 0, sgr) == b"\x1b[<0;224;1M"


@pytest.mark.parametrize("data", [b"\x1b[?1002h\x1b[?1006h", b"\x1b[?1000h", b"\x1b[?9h", b""])
def test_a_real_terminal_is_told_what_the_program_had_asked_for(data: bytes) -> None:
    model = BitttyModel(TerminalSize(columns=80, rows=24))
    model.feed(b"\x1b[?1049h" + data)
    assert modes_after(screen_sequence(model)) == model.modes
