"""The detail pane: tabs about what is selected, one of them in view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content

from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.files import FileTreeView
from tui.widgets.logs import LogView
from tui.widgets.texts import TextRows

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.widgets.rows import LineView

IMAGE_TABS = ("files", "inspect")
CONTAINER_TABS = ("logs", "stats", "top", "changes", "inspect")


class DetailPane(Vertical):
    """Holds one view a tab; the frame's title is the tab bar."""

    BINDINGS = [*bindings_of(Context.DETAIL)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.files = FileTreeView(id="files")
        self.logs = LogView(id="logs")
        self.stats = TextRows(id="stats")
        self.processes = TextRows(id="top")
        self.changes = TextRows(id="changes")
        self.inspect = TextRows(id="inspect")
        self.tabs: tuple[str, ...] = IMAGE_TABS
        self.tab = "files"
        self._about = ""

    def compose(self) -> ComposeResult:
        """Hold every view; only one is displayed."""
        for view in self._views().values():
            view.display = view.id == self.tab
            yield view

    def _views(self) -> dict[str, LineView]:
        return {
            "files": self.files,
            "logs": self.logs,
            "stats": self.stats,
            "top": self.processes,
            "changes": self.changes,
            "inspect": self.inspect,
        }

    @property
    def view(self) -> LineView:
        """The view of the current tab."""
        return self._views()[self.tab]

    def show_tab(self, tabs: tuple[str, ...], tab: str) -> None:
        """Offer these tabs and show one of them; the focus moves along."""
        if (tabs, tab) != (self.tabs, self.tab):
            had_focus = self.has_focus_within
            self.tabs, self.tab = tabs, tab
            for name, view in self._views().items():
                view.display = name == tab
            if had_focus:
                self.view.focus()
        self.show_about(self._about)

    def show_about(self, about: str) -> None:
        """Say in the frame what the tab is about."""
        self._about = about
        pieces: list[Content] = [Content("4 ")]
        for name in self.tabs:
            style = "bold reverse" if name == self.tab else ""
            pieces.append(Content.styled(f" {name.capitalize()} ", style))
        self.border_title = Content.assemble(*pieces).markup
        self.border_subtitle = Content(clean(about, limit=160)).markup
