"""The relay between a session and our own terminal: real terminals, real programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys
import termios
from pathlib import Path

import pytest

from engine.errors import InvalidInputError
from engine.types import TerminalSize
from tests.local_sessions import (
    PtySession,
    ScriptedSession,
    on_terminal,
    set_size,
    terminal_environment,
)
from tui.cli.terminal import RelayReason, relay_session
from tui.terminal.detach import DetachScanner, parse_detach_keys

CHECKOUT = Path(__file__).resolve().parents[3]
WIDE = TerminalSize(columns=80, rows=24)
DEADLINE_SECONDS = 30


class Person:
    """Somebody at a terminal on which a relay runs."""

    def __init__(self, session: PtySession, held: int) -> None:
        self.session = session
        self.held = held
        self.seen = b""

    async def sees(self, text: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while text not in self.seen:
                part = await self.session.read()
                assert part is not None, self.seen
                self.seen += part.data

    async def types(self, data: bytes) -> None:
        await self.session.write(data)

    def is_cooked(self) -> bool:
        return bool(termios.tcgetattr(self.held)[3] & termios.ICANON)

    async def wait(self) -> int:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.session.parts[0].wait()


@contextlib.asynccontextmanager
async def person_at_relay(*words: str, **environment: str):
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    set_size(ours, WIDE)
    process = await asyncio.create_subprocess_exec(
        *on_terminal((sys.executable, "-m", "tests.relay_program", *words)),
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=CHECKOUT,
        env=terminal_environment(PYTHONPATH=str(CHECKOUT), **environment),
    )  # fmt: skip
    session = PtySession(process, ours)
    try:
        yield Person(session, theirs)
    finally:
        await session.close()
        os.close(theirs)


async def test_keys_reach_the_program_unchanged_and_its_code_comes_back() -> None:
    async with person_at_relay(
        "sh", "-c", "stty raw -echo; echo ready; head -c 3 | od -c; exit 7"
    ) as p:
        await p.sees(b"ready")
        assert not p.is_cooked()
        await p.types(b"\x03\x1a\x1c")  # none of them is a signal to anybody on the way
        await p.sees(b"003 032 034")
        await p.sees(b"end: ended 7")
        assert await p.wait() == 7
        assert p.is_cooked()


async def test_detach_keys_leave_and_the_terminal_is_as_it_was() -> None:
    async with person_at_relay("sh", "-c", "echo ready; cat") as p:
        before = termios.tcgetattr(p.held)
        await p.sees(b"ready")
        await p.types(b"a\x10b")
        await p.sees(b"a^Pb")  # a ctrl-p with something else behind it is for the program
        await p.types(b"\x10\x11")
        await p.sees(b"read escape sequence")
        await p.sees(b"end: detached 0")
        assert await p.wait() == 0
        assert termios.tcgetattr(p.held) == before


async def test_other_detach_keys_can_be_chosen() -> None:
    async with person_at_relay("sh", "-c", "echo ready; cat", DETACH_KEYS="ctrl-],x") as p:
        await p.sees(b"ready")
        await p.types(b"\x10\x11on")
        await p.sees(b"^Pon")  # the line discipline takes ctrl-q for itself
        await p.types(b"\x1dx")
        await p.sees(b"end: detached 0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_leaves_and_the_terminal_is_as_it_was(number: signal.Signals) -> None:
    async with person_at_relay("sh", "-c", "echo ready; cat") as p:
        before = termios.tcgetattr(p.held)
        await p.sees(b"ready")
        p.session.parts[0].send_signal(number)
        await p.sees(f"end: signalled {128 + number}".encode())
        assert await p.wait() == 128 + number
        assert termios.tcgetattr(p.held) == before


async def test_an_exception_leaves_the_terminal_as_it_was() -> None:
    async with person_at_relay("--break", "sh", "-c", "echo ready; cat") as p:
        before = termios.tcgetattr(p.held)
        await p.sees(b"broken on purpose")
        assert await p.wait() == 1
        assert termios.tcgetattr(p.held) == before


async def test_the_programs_terminal_follows_the_size_of_ours() -> None:
    script = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 0.05; done"
    async with person_at_relay("bash", "-c", script) as p:
        await p.sees(b"24 80\r\nready")
        set_size(p.session.parts[1], TerminalSize(columns=101, rows=31))
        await p.sees(b"31 101")


async def test_a_program_on_a_terminal_ends_with_it_also_where_hang_ups_are_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, for all that we start
    try:
        script = "echo $$ ready; while :; do sleep 0.05; done"
        async with person_at_relay("sh", "-c", script) as p:
            await p.sees(b" ready")
            program = os.pidfd_open(int(p.seen.split()[0]))
    finally:
        signal.signal(signal.SIGHUP, before)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(program, ended.set)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(program)
        os.close(program)


async def test_what_a_program_left_on_is_switched_off_when_it_is_left() -> None:
    script = r"printf '\033[?1049h\033[?1h\033[?25l\033[?1000;1006h\033[3;5r\033=ready'; cat"
    async with person_at_relay("sh", "-c", script) as p:
        await p.sees(b"ready")
        await p.types(b"\x10\x11")
        await p.sees(b"end: detached")
        after = p.seen.partition(b"ready")[2]
    for sequence in (b"?1049l", b"?1l", b"?25h", b"?1000l", b"?1006l", b"\x1b[r", b"\x1b>"):
        assert sequence in after


async def test_a_program_that_tidies_up_gets_nothing_added() -> None:
    async with person_at_relay("sh", "-c", r"printf '\033[?1049h\033[?1049lbye'") as p:
        await p.sees(b"end: ended 0")
        assert p.seen == b"\x1b[?1049h\x1b[?1049lbyeend: ended 0\r\n"


# --- between pipes ----------------------------------------------------------------------------


@contextlib.contextmanager
def descriptors(**files: int):
    """Put other files behind the standard descriptors of this process."""
    numbers = {"stdin": 0, "stdout": 1, "stderr": 2}
    saved = {name: os.dup(numbers[name]) for name in files}
    try:
        for name, descriptor in files.items():
            os.dup2(descriptor, numbers[name])
        yield
    finally:
        for name, descriptor in saved.items():
            os.dup2(descriptor, numbers[name])
            os.close(descriptor)


@contextlib.contextmanager
def pipe():
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


async def test_the_end_of_piped_input_is_the_programs_end_of_input(tmp_path: Path) -> None:
    session = ScriptedSession(has_terminal=False)
    with pipe() as (reading, writing), (tmp_path / "out").open("wb") as out:  # noqa: SIM117
        with descriptors(stdin=reading, stdout=out.fileno()):
            relaying = asyncio.ensure_future(relay_session(session))
            os.write(writing, b"some \x10\x11 input")
            async with session.changed:
                await session.changed.wait_for(lambda: session.written)
            assert not session.has_ended_input
            os.close(writing)
            async with session.changed:
                await session.changed.wait_for(lambda: session.has_ended_input)
            await session.give(b"out\n")
            await session.end(3)
            end = await relaying
    assert session.written == b"some \x10\x11 input"
    assert (end.reason, end.exit_code) == (RelayReason.ENDED, 3)
    assert (tmp_path / "out").read_bytes() == b"out\n"


async def test_a_file_is_input_as_well(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 100_000)
    session = ScriptedSession(has_terminal=False)
    with (tmp_path / "in").open("rb") as source, descriptors(stdin=source.fileno()):
        relaying = asyncio.ensure_future(relay_session(session))
        async with session.changed:
            await session.changed.wait_for(lambda: session.has_ended_input)
        await session.end(0)
        await relaying
    assert session.written == b"x" * 100_000


async def test_each_stream_goes_to_its_own_descriptor(tmp_path: Path) -> None:
    session = ScriptedSession(has_terminal=False)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:  # noqa: SIM117
        with descriptors(stdout=out.fileno(), stderr=err.fileno()):
            relaying = asyncio.ensure_future(relay_session(session, has_input=False))
            await session.give(b"one\n")
            await session.give(b"two\n", is_error=True)
            await session.end(0)
            await relaying
    assert ((tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()) == (
        b"one\n",
        b"two\n",
    )


async def test_a_reader_that_is_gone_is_told_to_the_caller() -> None:
    session = ScriptedSession(has_terminal=False)
    with pipe() as (reading, writing), descriptors(stdout=writing):
        os.close(reading)
        await session.give(b"nobody reads this")
        with pytest.raises(BrokenPipeError):
            await relay_session(session, has_input=False)


# --- what came before -------------------------------------------------------------------------


def read_up_to(descriptor: int, end: bytes) -> bytes:
    seen = b""
    while not seen.partition(end)[1]:
        seen += os.read(descriptor, 65536)
    head, found, _rest = seen.partition(end)
    return head + found


async def test_replayed_output_is_painted_once_as_its_last_screen() -> None:
    ours, theirs = pty.openpty()
    set_size(ours, WIDE)
    session = ScriptedSession(capacity=8)
    try:
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        with descriptors(stdout=theirs):
            for _ in range(3):
                await session.give(b"\x1b[2J\x1b[Hold\x07 \x1b[c\x1b[6n", is_replay=True)
            await session.give(b"\x1b[H\x1b[2J$ ls\r\na  \x1b[31mb\x1b[0m\r\n$ ", is_replay=True)
            await session.give(b"now")
            await session.end(0)
            await relay_session(session, has_input=False)
        seen = read_up_to(ours, b"now")
    finally:
        os.close(ours)
        os.close(theirs)
    # No bell, no question, nothing of the screens before.
    assert seen == b"\r$ ls\r\na  \x1b[31mb\x1b[0m\r\n$\r\x1b[2Cnow"


async def test_a_replayed_full_screen_program_is_asked_to_draw_itself() -> None:
    ours, theirs = pty.openpty()
    set_size(ours, WIDE)
    session = ScriptedSession()
    try:
        with descriptors(stdout=theirs):
            await session.give(b"\x1b[?1049h\x1b[H\x1b[2Jeditor", is_replay=True)
            await session.end(0)
            await relay_session(session, has_input=False)
        seen = read_up_to(ours, b"editor")
        assert seen == b"\x1b[?1049h\x1b[H\x1b[2J\x1b[1;1Heditor"
    finally:
        os.close(ours)
        os.close(theirs)
    assert [size.rows for size in session.sizes] == [23, 24]


# --- detach keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-]", b"\x1d"), ("a,b", b"ab"),
     ("ctrl-@", b"\x00"), ("ctrl-Z", b"\x1a"), ("ctrl-[", b"\x1b"), ("ctrl-_", b"\x1f")],
)  # fmt: skip
def test_detach_keys_are_read_as_docker_reads_them(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "abc", "a,,b", "é", "ctrl-pp", "shift-a"])
def test_detach_keys_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="Invalid detach keys"):
        parse_detach_keys(text)


def test_detach_keys_are_found_wherever_the_input_is_cut() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"ab\x10") == (b"ab", False)
    assert scanner.feed(b"\x10") == (b"\x10", False)
    assert scanner.feed(b"c") == (b"\x10c", False)
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.feed(b"\x11rest") == (b"", True)
