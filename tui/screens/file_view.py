"""A file to read: text, or bytes in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.content import Content

from tui import format as formatting
from tui.file_lines import file_lines, is_text
from tui.host_files import in_own_thread
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen
from tui.widgets.texts import TextRows

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from engine.types import FileContent

_KEYS = " / filter   g top   G end   esc close "


class FileViewScreen(Dialog[None]):
    """Shows the beginning of a file, as much as was read of it."""

    BINDINGS = [
        Binding("q,h,left", "cancel", show=False, id="view.close"),
        Binding("slash", "filter", show=False, id="view.filter"),
    ]

    def __init__(self, file: FileContent) -> None:
        super().__init__(file.path)
        self._file = file
        self._width = 0
        self.lines = TextRows(id="file-view")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=_KEYS)
        box.add_class("-list")
        with box:
            yield self.lines

    def on_mount(self) -> None:
        """Say what it is."""
        file = self._file
        kind = "" if is_text(file.content) else "  not text"
        size = formatting.size(file.size_bytes)
        if not file.is_complete:
            size = f"the first {formatting.size(len(file.content))} of {size}"
        title = f"/{clean(file.path, limit=200)}  {size}{kind}"
        self.query_one(".dialog-box").border_title = Content(title).markup
        self.lines.set_empty_text("The file is empty" if not file.size_bytes else "Reading ...")
        self.lines.focus()

    def on_resize(self, _event: events.Resize) -> None:
        """Break the lines anew when there is another width for them."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        width = self.lines.row_width
        if width != self._width and self._file.content:
            self._width = width
            self.run_worker(
                self._show(width - 1), group="lines", exclusive=True, exit_on_error=False
            )

    async def _show(self, width: int) -> None:
        content = self._file.content
        self.lines.show_lines(await in_own_thread(lambda: file_lines(content, width)))

    def action_filter(self) -> None:
        """Ask for a text that lines must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.lines.set_filter(text)
                shown = f" only {clean(text, limit=40)}  " if text else ""
                self.query_one(".dialog-box").border_subtitle = Content(f"{shown}{_KEYS}").markup
                self.lines.set_empty_text("No line contains this; / asks for another text")

        prompt = PromptScreen("Filter", "Only lines with:", value=self.lines.filter_text)
        self.app.push_screen(prompt, answered)
