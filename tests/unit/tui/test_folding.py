"""Texts in columns, folded to a width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.content import Content

from tui.screens.dialogs import fold


@pytest.mark.parametrize(
    ("text", "width", "folded"),
    [
        ("short", 20, ["short"]),
        ("one two three", 8, ["one two", "three"]),
        ("  d   Remove it with its log", 18, ["  d   Remove it", "      with its log"]),
        ("+ has  pids  limits of work", 28, ["+ has  pids  limits of work"]),
        ("+ has  pids  limits of much work", 28, ["+ has  pids  limits of much", f"{'':13}work"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("first\n\n  k  second line", 12, ["first", "", "  k  second", "     line"]),
    ],
)  # fmt: skip
def test_what_goes_on_stands_below_its_column(text: str, width: int, folded: list[str]) -> None:
    assert fold(Content(text), width).plain.split("\n") == folded


def test_styles_stay_on_their_words() -> None:
    content = Content.assemble(Content.styled("  d    ", "bold"), Content("Remove it with all"))
    text = fold(content, 16)
    assert text.plain == "  d    Remove it\n       with all"
    assert [(span.start, span.end) for span in text.spans] == [(0, 7)]


@given(st.text(alphabet="ab  語\n", max_size=80), st.integers(min_value=4, max_value=20))
def test_no_line_is_too_wide_and_no_letter_is_lost(text: str, width: int) -> None:
    folded = fold(Content(text), width).plain
    assert all(cell_len(line) <= width for line in folded.split("\n"))
    assert "".join(folded.split()) == "".join(text.split())
