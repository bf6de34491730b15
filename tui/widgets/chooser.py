"""A field of a form that has one of a few values, all of them in sight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

if TYPE_CHECKING:
    from textual import events


class Chooser(Static, can_focus=True, inherit_bindings=False):
    """`(*) gzip  ( ) zstd`: the arrows choose, and the mouse.

    Args:
        values: What can be chosen, the first to begin with; their texts are ours.
        id: The widget's.
    """

    BINDINGS = [
        Binding("right,l,space", "choose(1)", show=False, id="form.next_choice"),
        Binding("left,h", "choose(-1)", show=False, id="form.previous_choice"),
    ]

    class Chosen(Message):
        """Another value was chosen."""

        def __init__(self, chooser: Chooser) -> None:
            super().__init__()
            self.chooser = chooser

        @property
        def control(self) -> Chooser:
            """The field, for `@on` selectors."""
            return self.chooser

    def __init__(self, values: tuple[str, ...], *, id: str) -> None:
        super().__init__("", id=id, markup=False)
        self._values = values
        self._index = 0
        self._show()

    @property
    def index(self) -> int:
        """Which value is chosen."""
        return self._index

    def _show(self) -> None:
        pieces: list[Content] = []
        for index, value in enumerate(self._values):
            is_chosen = index == self._index
            text = f"({'*' if is_chosen else ' '}) {value}"
            pieces.append(Content.styled(text, "bold" if is_chosen else ""))
            pieces.append(Content("  "))
        self.update(Content.assemble(*pieces[:-1]))

    def action_choose(self, step: int) -> None:
        """Choose the next value, or the one before."""
        self._choose((self._index + step) % len(self._values))

    def on_click(self, event: events.Click) -> None:
        """Choose what is under the mouse."""
        begin = 0
        for index, value in enumerate(self._values):
            begin += len(value) + 6
            if event.x < begin:
                self._choose(index)
                break

    def _choose(self, index: int) -> None:
        if index != self._index:
            self._index = index
            self._show()
            self.post_message(self.Chosen(self))
