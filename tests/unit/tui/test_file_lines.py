from __future__ import annotations

from rich.cells import cell_len

from tui.file_lines import MAXIMUM_LINES, file_lines, is_text


def rows(content: bytes, width: int) -> list[str]:
    return ["".join(cell.text for cell in line) for line in file_lines(content, width)]


def test_lines_have_numbers_and_go_on_in_the_next_row() -> None:
    assert rows(b"one\r\n\ntwelve letters\n", 15) == [
        "     1 one",
        "     2 ",
        "     3 twelve l",
        "       etters",
    ]
    assert rows(b"no end", 40) == ["     1 no end"]


def test_wide_characters_are_broken_where_there_is_room() -> None:
    assert rows("日本語日本語".encode(), 16) == ["     1 日本語日", "       本語"]
    assert all(cell_len(row) <= 16 for row in rows("a日b本\u0301".encode() * 40, 16))


def test_what_a_terminal_would_obey_is_not_drawn() -> None:
    text = "\n".join(rows(b"\x1b]52;c;evil\x07a\x1b[2Jb\xe2\x80\xaec\xff\td", 60))
    assert text == "     1 ab\ufffdc\ufffd   d"


def test_what_is_not_text_is_shown_as_bytes() -> None:
    content = bytes(range(16)) + b"Hello"
    assert not is_text(content)
    assert rows(content, 100) == [
        "00000000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f |................|",
        "00000010  48 65 6c 6c 6f                                  |Hello|",
    ]
    assert len(rows(bytes(1 << 20), 100)) == (64 << 10) // 16 + 1


def test_lines_without_end_are_bounded() -> None:
    found = rows(b"\n" * (1 << 20), 80)
    assert len(found) == MAXIMUM_LINES + 1
    assert found[-1] == "Only the first 50,000 lines are shown"
    assert len(rows(b"x" * (1 << 20), 88)) == (1 << 20) // 80 + 1
