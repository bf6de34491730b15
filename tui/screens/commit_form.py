"""The form that makes an image of a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Checkbox, Input, Static, TextArea

from engine.types import CommitRequest
from tui.screens.dialogs import Dialog, safe_text
from tui.screens.run_form import Tick

if TYPE_CHECKING:
    from textual.app import ComposeResult

_FIELDS = (
    ("name", "Name", "repository:tag; no name when empty"),
    ("author", "Author", "Ada <ada@example.org>"),
    ("message", "Message", "what was changed; the history shows it"),
)


class CommitScreen(Dialog[CommitRequest]):
    """Asks what the new image is called; nothing is required."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Commit", show=False, id="commit.submit", priority=True),
        Binding("enter", "submit", "Commit", show=False, id="commit.submit_from_tick"),
        Binding("down", "app.focus_next", show=False, id="commit.next"),
        Binding("up", "app.focus_previous", show=False, id="commit.previous"),
    ]

    def __init__(self, container: str, *, is_running: bool) -> None:
        super().__init__(f"Make an image of {container}")
        self._is_running = is_running

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        tick = "space tick   " if self._is_running else ""
        with self.frame(keys=f" enter commit   tab next field   {tick}esc cancel "):
            yield Static(
                safe_text("Its changes become one more layer, without what is in volumes."),
                markup=False,
                classes="form-note",
            )
            for name, label, placeholder in _FIELDS:
                with Horizontal(classes="form-row"):
                    yield Static(label, classes="form-label")
                    field = Input(placeholder=placeholder, id=f"field-{name}", compact=True)
                    field.cursor_blink = False
                    yield field
            with Horizontal(classes="form-block"):
                yield Static("Changes\nENV A=1", classes="form-label")
                area = TextArea(id="changes", tab_behavior="focus", compact=True)
                area.cursor_blink = False
                yield area
            if self._is_running:
                with Horizontal(classes="form-row"):
                    yield Static("Options", classes="form-label")
                    yield Tick("pause it meanwhile", value=True, id="pause", compact=True)

    def on_mount(self) -> None:
        """Begin in the name."""
        self.query_one("#field-name").focus()

    def on_input_submitted(self) -> None:
        """Commit from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Answer with the request; what makes no sense in it the engine says."""
        lines = self.query_one("#changes", TextArea).text.splitlines()
        pause = self.query("#pause")
        self.dismiss(
            CommitRequest(
                name=self._value("name") or None,
                author=self._value("author"),
                message=self._value("message"),
                changes=tuple(line.strip() for line in lines if line.strip()),
                is_pausing=not pause or pause.first(Checkbox).value,
            )
        )

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value.strip()
