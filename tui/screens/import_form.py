"""The form that says what the image of a root filesystem is like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static, TextArea

from engine.types import ImportRequest
from tui.screens.dialogs import Dialog, form_rows, safe_text

if TYPE_CHECKING:
    from pathlib import Path, PurePath

    from textual.app import ComposeResult

_FIELDS = (
    ("name", "Name", "repository:tag; no name when empty"),
    ("message", "Message", "Imported from the file; the history shows it"),
    ("platform", "Platform", "this host's when empty; linux/arm64"),
)
_ENDINGS = re.compile(r"\.(tar|tgz|tzst|gz|gzip|zst|zstd)$", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
_SEPARATORS = re.compile(r"[._-]{2,}")


def name_of_file(path: PurePath) -> str:
    """Make a repository's name of a file's: `Debian 12.tar.gz` is `debian-12`; may be empty.

    Letters and digits, with one dot, underscore or hyphen between them, as references have it.
    """
    stem = path.name
    while _ENDINGS.search(stem):
        stem = _ENDINGS.sub("", stem)
    plain = _NOT_IN_NAMES.sub("-", stem.lower())
    return _SEPARATORS.sub("-", plain)[:100].strip("._-")


class ImportScreen(Dialog[ImportRequest]):
    """Asks what the image is called and what runs in it; nothing is required.

    Args:
        source: The tar.
        request: What the fields begin with.
        problem: What is wrong with it.
    """

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Import", show=False, id="import.submit", priority=True),
        Binding("down", "app.focus_next", show=False, id="import.next"),
        Binding("up", "app.focus_previous", show=False, id="import.previous"),
    ]

    def __init__(self, source: Path, request: ImportRequest, *, problem: str = "") -> None:
        super().__init__(f"Import {source.name}")
        self._request = request
        self._problem = problem

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        request = self._request
        values = {
            "name": request.name or "",
            "message": request.message,
            "platform": request.platform,
        }
        with self.frame(keys=" enter import   tab next field   esc cancel "):
            yield Static(
                "The tar's files become an image of one layer.", classes="form-note", markup=False
            )
            yield from form_rows(_FIELDS, values)
            with Horizontal(classes="form-block"):
                yield Static('Changes\nCMD ["sh"]', classes="form-label", markup=False)
                area = TextArea(
                    "\n".join(request.changes), id="changes", tab_behavior="focus", compact=True
                )
                area.cursor_blink = False
                yield area
            yield Static(safe_text(self._problem), classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin in the name."""
        self.query_one("#field-name").focus()

    def on_input_submitted(self) -> None:
        """Import from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Answer with the request; what makes no sense in it the engine says."""
        lines = self.query_one("#changes", TextArea).text.splitlines()
        self.dismiss(
            ImportRequest(
                name=self._value("name") or None,
                message=self._value("message"),
                changes=tuple(line.strip() for line in lines if line.strip()),
                platform=self._value("platform"),
            )
        )

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value.strip()
