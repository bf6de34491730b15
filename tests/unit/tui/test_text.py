from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import (
    ChangeKind,
    FileKind,
    FileTree,
    LogLine,
    NetworkOptions,
    OutputStream,
)
from tests.fakes import file_entry
from tui import format as formatting
from tui.clipboard import MAXIMUM_BYTES, ClipboardLimitError, copy_sequence
from tui.file_tree import FileTreeModel
from tui.keymap import COMMANDS, find_clashes
from tui.log_buffer import LogBuffer
from tui.sanitise import clean, clean_log_line
from tui.screens.run_form import (
    FieldError,
    parse_command,
    parse_environment,
    parse_memory,
    parse_network,
    parse_process_limit,
)


def _is_safe(text: str) -> bool:
    return all(ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0 for c in text) and "\u202e" not in text


@given(st.text())
def test_clean_text_holds_no_control(text: str) -> None:
    assert _is_safe(clean(text))


@given(st.binary())
def test_a_clean_log_line_holds_no_control(raw: bytes) -> None:
    assert all(_is_safe(run.text) for run in clean_log_line(raw))


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b[31mb", "ab"),
        ("a\x1bP1$r\x1b\\b", "ab"),
        ("a\x9b2Jb", "ab"),
        ("a\u202eb\x00", "a\ufffdb\ufffd"),
    ],
)
def test_sequences_vanish_and_controls_are_replaced(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


def test_a_log_line_keeps_its_colours() -> None:
    red, plain = clean_log_line(b"\x1b[1;31mred\x1b[0m plain")
    assert (red.text, plain.text) == ("red", " plain")
    assert red.style.bold
    assert red.style.color is not None
    assert plain.style.color is None


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (12_000, "12.0 kB"), (214_000_000, "214 MB")],
)
def test_sizes_read_as_in_docker(size_bytes: int, text: str) -> None:
    assert formatting.size(size_bytes) == text


def test_instructions_lose_their_shell() -> None:
    assert formatting.instruction('/bin/sh -c #(nop)  CMD ["sh"]') == 'CMD ["sh"]'
    assert formatting.instruction("/bin/sh -c apt-get update") == "RUN apt-get update"
    assert formatting.instruction("RUN /bin/sh -c make # buildkit") == "RUN make"


def test_form_fields_say_what_they_expect() -> None:
    assert parse_memory("512m") == 512 * 1024**2
    assert parse_command("sh -c 'echo a b'") == ("sh", "-c", "echo a b")
    with pytest.raises(FieldError, match="512m"):
        parse_memory("lots")
    with pytest.raises(FieldError, match="NAME=value"):
        parse_environment("A=1\nB")


def test_the_network_of_a_form_is_what_the_command_line_would_make() -> None:
    asked = parse_network("backend, other", "8080:80 53:53/udp,9000-9001:90-91 all")
    assert asked.mode == ""
    assert [one.network for one in asked.attachments] == ["backend", "other"]
    assert [(p.host_port, p.container_port, p.protocol) for p in asked.published_ports] == [
        (8080, 80, "tcp"),
        (53, 53, "udp"),
        (9000, 90, "tcp"),
        (9001, 91, "tcp"),
    ]
    assert asked.publishes_all
    assert parse_network("", "") == NetworkOptions()
    assert parse_network("container:web-1", "").mode == "container:web-1"


@pytest.mark.parametrize(
    ("network", "ports", "field", "text"),
    [
        ("host backend", "", "network", "with host there is no other network"),
        ("container:", "", "network", "whose"),
        ("backend", "http", "ports", "invalid containerPort: http"),
        ("", "99999:80", "ports", "invalid hostPort"),
        ("", "80/icmp", "ports", "invalid proto"),
        ("host", "8080:80", "ports", "the host's"),
        ("none", "80", "ports", "none"),
    ],
)
def test_a_network_that_makes_no_sense_is_told_at_its_field(
    network: str, ports: str, field: str, text: str
) -> None:
    with pytest.raises(FieldError) as caught:
        parse_network(network, ports)
    assert caught.value.field == field
    assert text in str(caught.value)


def test_copying_is_wrapped_for_tmux_and_bounded() -> None:
    assert copy_sequence("a", {}) == "\x1b]52;c;YQ==\x07"
    assert "\x1bPtmux;\x1b\x1b]52" in copy_sequence("a", {"TMUX": "x"})
    with pytest.raises(ClipboardLimitError):
        copy_sequence("a" * (MAXIMUM_BYTES + 1), {})


def test_no_two_commands_have_one_key_by_default() -> None:
    assert find_clashes({}) == ()
    assert find_clashes({"containers.stop": "p"})[0].second == "containers.pause"
    assert len({command.command_id for command in COMMANDS}) == len(COMMANDS)


def test_the_tree_sums_sizes_and_hides_what_is_not_wanted() -> None:
    entries = (
        file_entry("a", kind=FileKind.DIRECTORY, change=ChangeKind.UNCHANGED),
        file_entry("a/new", size_bytes=5),
        file_entry("a/old", change=ChangeKind.REMOVED, kind=FileKind.WHITEOUT),
        file_entry("b/c/d", size_bytes=7),
    )
    model = FileTreeModel(FileTree(title="", entries=entries, size_bytes=12))
    assert [node.path for node in model.visible()] == [
        "a", "a/new", "a/old", "b", "b/c", "b/c/d",
    ]  # fmt: skip
    assert {node.path: node.size_bytes for node in model.roots} == {"a": 5, "b": 7}
    model.show_as(is_by_size=False, hidden={ChangeKind.REMOVED}, filter_text="")
    assert "a/old" not in [node.path for node in model.visible()]


def test_the_log_buffer_joins_pieces_and_stays_bounded() -> None:
    def record(text: bytes, *, is_partial: bool = False) -> LogLine:
        return LogLine(stream=OutputStream.STDOUT, timestamp_ns=1, text=text, is_partial=is_partial)

    buffer = LogBuffer(maximum_lines=100)
    buffer.append((record(b"a", is_partial=True), record(b"b")))
    assert [line.raw for line in buffer.lines] == [b"ab"]
    for number in range(1000):
        buffer.append((record(b"%d" % number),))
    assert len(buffer.lines) <= 100
    assert buffer.lines[-1].raw == b"999"


def test_a_number_of_processes_can_be_without_limit():
    assert [parse_process_limit(text) for text in ("", "none", "-1", "200")] == [None, -1, -1, 200]
    for text in ("0", "-2", "many"):
        with pytest.raises(FieldError, match="or none"):
            parse_process_limit(text)
