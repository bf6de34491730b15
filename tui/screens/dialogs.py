"""Small dialogs: confirm, ask for a text, choose, wait, read.

Every text given to them may come from outside and is made clean here.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.late_dataclasses import dataclass
from tui import format as formatting
from tui.sanitise import clean, clean_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from textual import events
    from textual.app import ComposeResult
    from textual.worker import Worker

    from engine.operations import Progress

Answer = TypeVar("Answer")
_MOST_NAMES_SHOWN = 8
_LONGEST_VALUE = 4000


def safe_text(text: str) -> Content:
    """Make a text of several lines clean, and free of markup."""
    return Content("\n".join(clean_lines(text)))


def form_rows(fields: Iterable[tuple[str, str, str]], values: Mapping[str, str]) -> ComposeResult:
    """Make a row of a form for each field: name, label and placeholder.

    Args:
        fields: The field of a name has the id `field-NAME`.
        values: What they begin with, by name.
    """
    for name, label, placeholder in fields:
        with Horizontal(classes="form-row"):
            yield Static(label, classes="form-label")
            field = Input(
                clean(values[name], limit=_LONGEST_VALUE),
                placeholder=placeholder,
                id=f"field-{name}",
                compact=True,
                select_on_focus=False,
            )
            field.cursor_blink = False
            yield field


class Dialog(ModalScreen[Answer]):
    """A framed box in the middle; escape gives the answer None."""

    BINDINGS = [Binding("escape", "cancel", "Cancel", show=False, id="dialog.cancel")]

    def __init__(self, title: str) -> None:
        super().__init__(classes="dialog")
        self._title = title

    def frame(self, *, keys: str) -> Vertical:
        """Make the box, with the title in its frame and the keys below."""
        box = Vertical(classes="dialog-box")
        box.border_title = Content(clean(self._title, limit=120)).markup
        box.border_subtitle = Content(keys).markup
        return box

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Close with an answer, once.

        Textual would close whatever is on top: a key that arrives when its dialog has just closed
        would take the dialog below along, or the application.
        """
        return super().dismiss(result) if self.is_active else AwaitComplete()

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class ConfirmScreen(Dialog[bool]):
    """Says what will be lost and asks; enter alone never destroys, y does."""

    BINDINGS = [
        Binding("y", "confirm", "Yes", show=False, id="dialog.yes"),
        Binding("n,q", "cancel", "No", show=False, id="dialog.no"),
    ]

    def __init__(self, title: str, explanation: str, *, verb: str) -> None:
        super().__init__(title)
        self._explanation = explanation
        self._verb = verb

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        with self.frame(keys=f" y {self._verb}   esc keep "):
            yield Static(safe_text(self._explanation), markup=False)

    def action_confirm(self) -> None:
        """Answer yes."""
        self.dismiss(result=True)


class QuitScreen(ConfirmScreen):
    """Says what ends with the application, and asks; ctrl+c again is an answer too."""

    BINDINGS = [Binding("ctrl+c,ctrl+q", "confirm", show=False, id="dialog.quit")]

    def __init__(self, programs: tuple[str, ...], operations: tuple[str, ...] = ()) -> None:
        """Ask whether to end these.

        Args:
            programs: What runs in terminals that were left open.
            operations: What goes on in the background.
        """
        text, keys = "", "Containers run on."
        if programs:
            text += f"Left open, and hung up with the application:\n\n{_listed(programs)}\n\n"
            keys += " T goes back to a terminal."
        if operations:
            text += f"Cancelled with the application:\n\n{_listed(operations)}\n\n"
            keys += " B shows what goes on."
        super().__init__("Quit?", text + keys, verb="quit")


def _listed(names: tuple[str, ...]) -> str:
    lines = [f"  {name}" for name in names[:_MOST_NAMES_SHOWN]]
    if len(names) > _MOST_NAMES_SHOWN:
        lines.append(f"  and {len(names) - _MOST_NAMES_SHOWN} more")
    return "\n".join(lines)


class PromptScreen(Dialog[str]):
    """Asks for one line of text; what is wrong with it is said below it."""

    def __init__(
        self,
        title: str,
        explanation: str,
        *,
        value: str = "",
        validate: Callable[[str], str] = lambda _text: "",
        act: Callable[[str], Coroutine[object, object, str]] | None = None,
    ) -> None:
        """Ask for a text.

        Args:
            title: In the frame.
            explanation: Above the text.
            value: What is filled in.
            validate: Says what is wrong with a text, or nothing.
            act: Does what the text is for, and says what is wrong, or nothing: then it closes.
        """
        super().__init__(title)
        self._explanation = explanation
        self._value = value
        self._validate = validate
        self._act = act

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        with self.frame(keys=" enter accept   esc cancel "):
            yield Static(safe_text(self._explanation), markup=False)
            prompt = Input(self._value, id="prompt", compact=True)
            prompt.cursor_blink = False
            yield prompt
            yield Static("", id="problem", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Accept the text if nothing is wrong with it."""
        text = event.value.strip()
        problem = self._validate(text)
        if problem or self._act is None:
            self._answer(text, problem)
            return
        acting = self._act(text)

        async def act() -> None:
            self._answer(text, await acting)

        _worker: Worker[None] = self.run_worker(
            act, group="act", exclusive=True, exit_on_error=False
        )

    def _answer(self, text: str, problem: str) -> None:
        if problem:
            self.query_one("#problem", Static).update(safe_text(problem))
        else:
            self.dismiss(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One thing that can be chosen; `value` is the answer."""

    label: str
    value: str


class ChoiceScreen(Dialog[str]):
    """Asks to choose one of a few."""

    BINDINGS = [
        Binding("j", "down", show=False, id="dialog.down"),
        Binding("k", "up", show=False, id="dialog.up"),
        Binding("q", "cancel", show=False, id="dialog.close"),
    ]

    def __init__(self, title: str, choices: tuple[Choice, ...]) -> None:
        super().__init__(title)
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        with self.frame(keys=" enter choose   esc cancel "):
            yield OptionList(
                *(Option(Content(clean(choice.label, limit=200))) for choice in self._choices),
                id="choices",
                compact=True,
            )

    def action_down(self) -> None:
        """Go to the next."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """Go to the one before."""
        self.query_one(OptionList).action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with the choice."""
        self.dismiss(self._choices[event.option_index].value)


class OperationDialog(Dialog[str]):
    """Shows how far an operation is; answers `cancel` or `hide`."""

    BINDINGS = [Binding("enter,b", "hide", "Hide", show=False, id="dialog.hide")]

    def show_newest(self, progress: Progress | None) -> None:
        """There is something newer to show."""
        raise NotImplementedError

    _is_finished = False

    def finish(self) -> None:
        """Close: the task has ended; at once, or when the dialog above this one closes."""
        self._is_finished = True
        self.dismiss("hide")

    def on_screen_resume(self) -> None:
        """Close if the task ended while another dialog was above this one."""
        if self._is_finished:
            self.dismiss("hide")

    def action_cancel(self) -> None:
        """Cancel the task."""
        self.dismiss("cancel")

    def action_hide(self) -> None:
        """Let the task go on without the dialog."""
        self.dismiss("hide")


class ProgressScreen(OperationDialog):
    """Shows how far a long task has come by one bar."""

    def __init__(self, title: str, progress: Progress | None = None, *, waits_for: str) -> None:
        super().__init__(title)
        self._progress = progress
        self._waits_for = waits_for

    def compose(self) -> ComposeResult:
        """Lay the box out, with what was known before it opened."""
        progress = self._progress
        with self.frame(keys=" esc cancel   b go on in the background "):
            step = progress.step if progress else self._waits_for
            yield Static(safe_text(step), id="step", markup=False)
            meter = self._meter(progress) if progress else ""
            yield Static(Content(meter), id="meter", markup=False)

    def show_newest(self, progress: Progress | None) -> None:
        """Show the newest progress."""
        self._progress = progress
        if self.is_mounted and progress is not None:
            self.query_one("#step", Static).update(safe_text(progress.step or self._waits_for))
            self.query_one("#meter", Static).update(Content(self._meter(progress)))

    def _meter(self, progress: Progress) -> str:
        if not progress.total:
            if not progress.done:
                return ""
            return _amount(progress.done, progress.unit)
        is_ascii = self.app.has_class("-ascii")
        drawn = formatting.bar(progress.done, progress.total, 30, is_ascii=is_ascii)
        return (
            f"{drawn} {100 * progress.done // progress.total:3d} %  "
            f"{_amount(progress.done, progress.unit)} of {_amount(progress.total, progress.unit)}"
        )


def _amount(count: int, unit: str) -> str:
    return formatting.size(count) if unit == "bytes" else f"{count} {clean(unit)}".rstrip()


_COLUMN_BEGINS = re.compile(r"(?:^|\S) {2,}(?=\S)")
_LAST_COLUMN = 30


def fold(content: Content, width: int) -> Content:
    """Fold lines at blanks; what goes on stands below the last column that its line begins."""
    folded: list[Content] = []
    for line in content.split("\n", allow_blank=True):
        begins = [match.end() for match in _COLUMN_BEGINS.finditer(line.plain)]
        indent = max((at for at in begins if at <= _LAST_COLUMN and at < width // 2), default=0)
        rest = line
        while cell_len(rest.plain) > width:
            room = max(indent + 1, _length_that_fits(rest.plain, width))
            blank = rest.plain.rfind(" ", indent + 1, room + 1)
            end = blank if blank > 0 else room
            folded.append(rest[:end])
            rest = Content(" " * indent) + rest[end + (blank > 0) :]
        folded.append(rest)
    return Content("\n").join(folded)


def _length_that_fits(text: str, width: int) -> int:
    for length, cell in enumerate(accumulate(map(cell_len, text))):
        if cell > width:
            return length
    return len(text)


class FoldedText(Static):
    """A text in columns that stay columns when a line is too long."""

    def __init__(self, content: Content) -> None:
        super().__init__(content, markup=False)
        self._unfolded = content
        self._width = 0

    def on_resize(self, event: events.Resize) -> None:
        """Fold it anew when its width has changed."""
        if event.size.width != self._width:
            self._width = event.size.width
            self.update(fold(self._unfolded, max(1, self._width)))


class ReadingScreen(Dialog[None]):
    """Text to read: help, or the report about the host."""

    BINDINGS = [
        Binding("q,question_mark,enter", "cancel", show=False, id="dialog.done"),
        Binding("j,down", "scroll(1)", show=False, id="dialog.scroll_down"),
        Binding("k,up", "scroll(-1)", show=False, id="dialog.scroll_up"),
        Binding("pagedown,ctrl+d,ctrl+f,space", "scroll(10)", show=False, id="dialog.page_down"),
        Binding("pageup,ctrl+u,ctrl+b", "scroll(-10)", show=False, id="dialog.page_up"),
    ]

    def __init__(self, title: str, content: Content) -> None:
        super().__init__(title)
        self._content = content

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=" esc close ")
        box.add_class("-wide")
        with box, VerticalScroll(id="reading", can_focus=False):
            yield FoldedText(self._content)

    def action_scroll(self, rows: int) -> None:
        """Scroll the text."""
        self.query_one("#reading", VerticalScroll).scroll_relative(y=rows, animate=False)
