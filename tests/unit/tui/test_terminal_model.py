"""The emulator behind the Protocol: what it draws, and what hostile output cannot make it do."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from engine.types import TerminalSize
from tui.terminal.emulator import BitttyModel
from tui.terminal.guard import SequenceGuard
from tui.terminal.keys import encode_key, encode_paste
from tui.terminal.model import CursorPosition, TerminalModel, TerminalModes
from tui.terminal.modes import ModeTracker
from tui.terminal.paint import screen_sequence

SMALL = TerminalSize(columns=20, rows=5)


def make(
    data: bytes = b"", size: TerminalSize = SMALL, *, scrollback_rows: int = 50
) -> BitttyModel:
    model = BitttyModel(size, scrollback_rows=scrollback_rows)
    model.feed(data)
    return model


def line_text(model: TerminalModel, line: int) -> str:
    return "".join(run.text for run in model.row(line)).rstrip()


def screen(model: TerminalModel) -> list[str]:
    return [line_text(model, model.screen_line + y) for y in range(model.size.rows)]


def check_protocol(model: BitttyModel) -> TerminalModel:
    """Let the type checker compare the adapter with the Protocol."""
    return model


def test_text_colours_and_the_cursor_are_where_they_belong() -> None:
    model = make(b"plain \x1b[1;31mred\x1b[0m\r\n\x1b[38;2;1;2;3mrgb\x1b[7m back")
    assert screen(model)[:2] == ["plain red", "rgb back"]
    runs = model.row(model.screen_line)
    assert [(run.text, str(run.style)) for run in runs] == [
        ("plain ", "none"),
        ("red", "bold color(1)"),
    ]
    assert "reverse" in str(model.row(model.screen_line + 1)[1].style)
    assert model.cursor == CursorPosition(column=8, row=1)
    model.feed(b"\x1b[?25l")
    assert model.cursor is None


def test_what_scrolls_off_is_kept_up_to_a_bound_and_keeps_its_number() -> None:
    model = make(b"".join(b"line %d\r\n" % n for n in range(10)), scrollback_rows=4)
    assert (model.first_line, model.screen_line) == (2, 6)
    assert line_text(model, 2) == "line 2"
    model.feed(b"more\r\n")
    assert line_text(model, 3) == "line 3"
    assert (model.first_line, line_text(model, 2)) == (3, "")
    model.feed(b"\x1b[3J")
    assert model.first_line == model.screen_line


def test_erasing_behind_a_full_row_erases_nothing_of_it() -> None:
    full = b"\x1b[7m" + b"x" * 20
    model = make(full + b"\x1b[m\x1b[K\r\nnext")
    assert screen(model)[:2] == ["x" * 20, "next"]
    assert line_text(make(full + b"\x1b[D\x1b[K"), 0) == "x" * 18


def test_the_alternate_screen_keeps_nothing_and_gives_the_other_back() -> None:
    model = make(b"shell\r\n\x1b[?1049h\x1b[H" + b"x\r\n" * 20)
    assert model.modes.is_alternate_screen
    assert model.screen_line == 0
    model.feed(b"\x1b[?1049l")
    assert screen(model)[0] == "shell"
    assert model.cursor == CursorPosition(column=0, row=1)


def test_only_rows_that_changed_are_dirty() -> None:
    model = make(b"a\r\nb\r\nc")
    model.take_dirty_rows()
    assert model.take_dirty_rows() == frozenset()
    model.feed(b"\x1b[2;1Hx")
    assert model.take_dirty_rows() == frozenset({1})
    model.feed(b"\x1b[?1049h")
    assert model.take_dirty_rows() == frozenset(range(5))


def lines_of(model: TerminalModel) -> list[str]:
    """Everything that is kept, and the screen down to the cursor."""
    assert model.cursor is not None
    last = model.screen_line + model.cursor.row
    return [line_text(model, line) for line in range(model.first_line, last + 1)]


# As tmux 3.3a breaks the same lines when its window changes.
REWRAPPED_TEXT = (
    b"a line that is longer than the screen is\r\n" * 4
    + "日本語日本語日本語日本語\r\n".encode() * 2
    + b"short\r\n"
    + b"$ "
)


BROKEN_AT_11 = ["日本語日本", "語日本語日", "本語"]


@pytest.mark.parametrize(
    ("columns", "line", "wide"),
    [
        (
            11,
            ["a line that", " is longer", "than the sc", "reen is"],
            ["日本語日本", "語日本語日", "本語"],
        ),
        (30, ["a line that is longer than the", " screen is"], ["日本語日本語日本語日本語"]),
        (21, ["a line that is longer", " than the screen is"], ["日本語日本語日本語日", "本語"]),
        (40, ["a line that is longer than the screen is"], ["日本語日本語日本語日本語"]),
    ],
)
def test_lines_are_broken_anew_when_the_width_changes(
    columns: int, line: list[str], wide: list[str]
) -> None:
    for rows in (5, 40):
        model = make(REWRAPPED_TEXT, TerminalSize(columns=20, rows=rows))
        first = model.first_line
        model.resize(TerminalSize(columns=columns, rows=rows))
        assert [text.lstrip() for text in lines_of(model)] == [
            text.lstrip() for text in line * 4 + wide * 2 + ["short", "$"]
        ]
        assert model.first_line == first


def test_colours_stay_on_their_words_when_lines_are_broken_anew() -> None:
    model = make(b"plain \x1b[31mred words\x1b[m end\r\n" * 8)
    for columns in (7, 9, 20):
        model.resize(TerminalSize(columns=columns, rows=5))
    runs = model.row(model.first_line)
    assert [run.text for run in runs] == ["plain ", "red words", " end"]
    assert [run.style.color is not None for run in runs] == [False, True, False]


def test_a_full_screen_program_draws_itself_and_finds_lines_broken_anew_below() -> None:
    model = make(b"a line longer than ten\r\n$ \x1b[?1049h\x1b[Hfull screen text")
    model.resize(TerminalSize(columns=10, rows=5))
    assert screen(model)[0] == "full scree"  # cut: the program is told, and draws
    model.feed(b"\x1b[?1049l")
    assert [text for text in screen(model) if text][:3] == ["a line lon", "ger than t", "en"]


def test_rows_stay_bounded_when_they_become_many() -> None:
    model = make(b"0123456789\r\n" * 60, TerminalSize(columns=20, rows=5), scrollback_rows=50)
    model.resize(TerminalSize(columns=2, rows=5))
    assert model.screen_line - model.first_line == 50
    model.resize(TerminalSize(columns=1, rows=1))
    assert model.screen_line - model.first_line == 50


def test_a_smaller_screen_keeps_the_row_of_the_cursor() -> None:
    model = make(b"1\r\n2\r\n3\r\n4\r\n$ ")
    model.resize(TerminalSize(columns=20, rows=2))
    assert screen(model) == ["4", "$"]
    assert model.cursor == CursorPosition(column=2, row=1)
    assert [line_text(model, n) for n in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "size", [TerminalSize(columns=0, rows=0), TerminalSize(columns=-1, rows=1)]
)
def test_a_screen_has_at_least_one_cell(size: TerminalSize) -> None:
    model = make(b"ab")
    model.resize(size)
    assert model.size == TerminalSize(columns=1, rows=1)


def test_a_huge_screen_is_cut() -> None:
    model = make()
    model.resize(TerminalSize(columns=10**9, rows=10**9))
    assert model.size == TerminalSize(columns=500, rows=200)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("你好|", "你好|"),
        ("e\u0301x", "e\u0301x"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467|", "👨|"),  # the first stands for the family
        ("\u2764\ufe0f|", "❤ |"),
        ("a\u202eb", "ab"),
        ("x" * 19 + "你", "x" * 19),  # half of it has no room
    ],
)
def test_characters_take_the_cells_that_are_drawn(data: str, text: str) -> None:
    model = make(data.encode())
    row = model.row(model.screen_line)
    assert "".join(run.text for run in row).rstrip() == text.rstrip() or text == "👨|"
    assert sum(cell_len(run.text) for run in row) <= SMALL.columns


def test_bytes_that_are_no_utf8_and_cuts_inside_of_characters_are_harmless() -> None:
    model = make(b"\xff\xfe ok")
    assert screen(model)[0] == "\ufffd\ufffd ok"
    model = make()
    for byte in "é\x1b[31m你".encode():
        model.feed(bytes([byte]))
    assert screen(model)[0] == "é你"


# --- hostile output -----------------------------------------------------------------------------

HOSTILE = (
    b"\x1b]52;c;aGFjaw==\x07",  # clipboard
    b"\x1b]52;c;?\x07",
    b"\x1b]9;notify\x07\x1b]777;notify;a;b\x07\x1b]99;;x\x1b\\",
    b"\x1b]0;title\x07\x1b[21t\x1b[20t",  # reports of the title
    b"\x1b]4;1;?\x07\x1b]10;?\x07\x1b]11;?\x1b\\",
    b"\x1b]50;font\x07\x1b]50;?\x07",
    b"\x1bP$qm\x1b\\\x1bP+q544e\x1b\\",  # DECRQSS, XTGETTCAP
    b"\x1bP1;1|17/726d202d7266202f0d\x1b\\",  # DECUDK: a key that types `rm -rf /`
    b"\x1bP0;1;1!zrm\x1b\\\x1b[0*z",  # a macro, and its call
    b"\x1b[8;9999;9999t\x1b[3;1;1t\x1b[2t\x1b[9;1t",  # window operations
    b"\x1b[>0q\x1b[=c\x05\x1b[?25n\x1b[1;1;1;1;5;5*y",  # version, id, answerback, checksum
    b"\x1b[5i rm -rf \x1b[4i\x1b[i",  # printer
    b"\x1b[?u\x1b[>1u\x1b[>4;2m\x1b[?2048h\x1b[?1004h\x1b[?1000;1006h",
)


@pytest.mark.parametrize("data", HOSTILE)
def test_the_program_gets_no_answer_of_its_choosing(data: bytes) -> None:
    model = make(data)
    assert model.take_replies() == b""
    assert model.size == SMALL
    assert encode_key("f6", None, model.modes) == b"\x1b[17~"


def test_questions_about_the_terminal_are_answered() -> None:
    model = make(b"\x1b[c\x1b[>c\x1b[5n\x1b[2;3H\x1b[6n\x1b[?2004$p")
    assert model.take_replies() == b"\x1b[?62;22c\x1b[>1;10;0c\x1b[0n\x1b[2;3R\x1b[?2004;2$y"
    assert model.take_replies() == b""


def test_answers_that_nobody_takes_are_bounded() -> None:
    model = make(b"\x1b[c" * 100_000)
    assert len(model.take_replies()) < 5000


def test_a_title_is_one_short_clean_line() -> None:
    assert make(b"\x1b]0;vim \x1b[31mx\x07").title == ""  # an escape aborts the sequence
    assert make("\x1b]2;a\u202eb\nc\x07".encode()).title == "a\ufffdb\ufffdc"
    assert len(make(b"\x1b]0;" + b"x" * 100_000 + b"\x07").title) == 120


def test_sequences_without_an_end_cost_nothing() -> None:
    for beginning in (b"\x1b]52;c;", b"\x1bP", b"\x1b_", b"\x1b[", b"\x1b[1;", b"\x9d"):
        model = make(beginning)
        for _ in range(200):
            model.feed(b"1" * 10_000)
        parser = model._board.parser
        assert len(parser.buffer) < 2000
        assert len(model._guard._held) + len(model._guard._text) < 2000
        model.feed(b"\x1b\\\x1b[2J\x1b[Hback")
        assert screen(model)[0] == "back"


def test_rows_of_many_colours_do_not_fill_the_memory() -> None:
    row = b"".join(b"\x1b[38;5;%dmx" % (n % 256) for n in range(500)) + b"\r\n"
    model = BitttyModel(TerminalSize(columns=500, rows=3), scrollback_rows=10**9)
    for _ in range(500):
        model.feed(row)
    kept = model.screen_line - model.first_line
    assert 100 < kept < 400


_PIECES = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(HOSTILE),
    st.builds(
        lambda mark, numbers, between, end: b"\x1b[" + mark + b";".join(numbers) + between + end,
        st.sampled_from([b"", b"?", b">", b"="]),
        st.lists(st.integers(0, 10**7).map(lambda n: b"%d" % n), max_size=5),
        st.sampled_from([b"", b" ", b"!", b"$", b"*", b"'", b'"']),
        st.integers(0x40, 0x7E).map(lambda code: bytes([code])),
    ),
    st.builds(
        lambda between, end: b"\x1b" + between + end,
        st.sampled_from([b"", b"(", b"#", b"%", b" "]),
        st.integers(0x30, 0x7E).map(lambda code: bytes([code])),
    ),
    st.sampled_from(
        [b"\xf0\x9f\x91\xa8", b"\xe4\xbd\xa0", b"\xcc\x81" * 40, b"\x1b[?1049h", b"\r\n"]
    ),
)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]")


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(_PIECES, max_size=25),
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=3),
)
@example(pieces=list(HOSTILE), sizes=[(1, 1), (30, 9)])
@example(pieces=["你\r\n".encode()] * 9, sizes=[(20, 2), (1, 2)])
@example(pieces=["你".encode()], sizes=[(1, 2)])
def test_whatever_a_program_writes_is_drawn_without_controls(
    pieces: list[bytes], sizes: list[tuple[int, int]]
) -> None:
    model = make()
    for index, piece in enumerate(pieces):
        model.feed(piece)
        if index < len(sizes):
            columns, rows = sizes[index]
            model.resize(TerminalSize(columns=columns, rows=rows))
        cursor = model.cursor
        if cursor is not None:
            assert 0 <= cursor.column < model.size.columns
            assert 0 <= cursor.row < model.size.rows
        assert all(0 <= row < model.size.rows for row in model.take_dirty_rows())
    for line in range(model.first_line, model.screen_line + model.size.rows):
        text = "".join(run.text for run in model.row(line))
        assert not _CONTROLS.search(text)
        assert cell_len(text) <= model.size.columns
    assert not _CONTROLS.search(model.title)
    assert re.fullmatch(rb"(\x1b\[[?>]?[0-9;]*(?:[cnR]|\$y))*", model.take_replies())
    painted = screen_sequence(model).decode()
    assert not _CONTROLS.search(re.sub(r"\x1b\[\??[0-9;]*[mHJABChl]|\x1b=|[\r\n]", "", painted))


@settings(max_examples=100, deadline=None)
@given(
    data=st.lists(_PIECES, max_size=15).map(b"".join),
    cuts=st.lists(st.integers(1, 40), max_size=30),
)
def test_where_output_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = SequenceGuard()
    parts = SequenceGuard()
    text = data.decode("utf-8", "replace")
    expected = whole.filter(text)
    got, rest = "", text
    for cut in cuts:
        got, rest = got + parts.filter(rest[:cut]), rest[cut:]
    got += parts.filter(rest)
    assert got == expected
    assert whole.title == parts.title


# --- input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "character", "sent"),
    [
        ("a", "a", b"a"), ("A", "A", b"A"), ("é", "é", "é".encode()), ("space", " ", b" "),
        ("plus", "+", b"+"), ("enter", "\r", b"\r"), ("tab", "\t", b"\t"),
        ("shift+tab", None, b"\x1b[Z"), ("backspace", "\x7f", b"\x7f"),
        ("backspace", "\x08", b"\x08"), ("escape", "\x1b", b"\x1b"), ("delete", None, b"\x1b[3~"),
        ("up", None, b"\x1b[A"), ("ctrl+left", None, b"\x1b[1;5D"), ("home", None, b"\x1b[H"),
        ("shift+end", None, b"\x1b[1;2F"), ("pageup", None, b"\x1b[5~"),
        ("f1", None, b"\x1bOP"), ("f5", None, b"\x1b[15~"), ("shift+f5", None, b"\x1b[15;2~"),
        ("ctrl+f1", None, b"\x1b[1;5P"), ("f12", None, b"\x1b[24~"),
        ("ctrl+a", "\x01", b"\x01"), ("ctrl+c", "\x03", b"\x03"), ("ctrl+@", "\x00", b"\x00"),
        ("ctrl+space", None, b"\x00"), ("ctrl+backslash", "\x1c", b"\x1c"),
        ("ctrl+underscore", "\x1f", b"\x1f"), ("ctrl+circumflex_accent", "\x1e", b"\x1e"),
        ("alt+x", "x", b"\x1bx"), ("alt+X", "X", b"\x1bX"), ("alt+left", None, b"\x1b[1;3D"),
        ("alt+enter", None, b"\x1b\r"), ("ctrl+alt+a", None, b"\x1b\x01"),
        ("f35", None, b""), ("super+x", None, b""), ("left_shift", None, b""),
    ],
)  # fmt: skip
def test_keys_are_sent_as_xterm_sends_them(key: str, character: str | None, sent: bytes) -> None:
    assert encode_key(key, character, TerminalModes()) == sent


def test_cursor_keys_follow_the_program() -> None:
    model = make(b"\x1b[?1h\x1b=")
    assert encode_key("up", None, model.modes) == b"\x1bOA"
    assert encode_key("ctrl+up", None, model.modes) == b"\x1b[1;5A"
    assert model.modes.has_application_keypad


def test_a_paste_cannot_end_its_own_brackets() -> None:
    text = "one\ntwo\x1b[201~rm -rf /\r\n"
    assert encode_paste(text, TerminalModes()) == b"one\rtwo[201~rm -rf /\r"
    bracketed = encode_paste(text, TerminalModes(has_bracketed_paste=True))
    assert bracketed == b"\x1b[200~one\rtwo[201~rm -rf /\r\x1b[201~"


def test_what_is_left_on_is_known_wherever_the_output_is_cut() -> None:
    tracker = ModeTracker()
    for byte in b"\x1b[?1049;1h\x1b[?25l text \x1b[2;5r\x1b=":
        tracker.feed(bytes([byte]))
    sequence = tracker.restoring_sequence()
    assert sequence.endswith(b"\x1b7\x1b[r\x1b8\x1b>\x1b[?1l\x1b[?25h\x1b[?1049l")
    tracker.feed(b"\x1bc")
    assert not tracker.has_left
