"""The one way to ask for a path of this host: a directory to walk, and a field to type into."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from tui import format as formatting
from tui.host_files import (
    Completion,
    HostListing,
    PathState,
    PathType,
    absolute,
    complete,
    in_own_thread,
    look_at,
    read_directory,
    starting_directory,
)
from tui.keymap import Context, commands_of, display_keys
from tui.sanitise import clean
from tui.screens.dialogs import ConfirmScreen, Dialog, ReadingScreen, safe_text
from tui.screens.help import help_content
from tui.screens.paths import PathWanted
from tui.widgets.host_files import HERE, PARENT, HostFileList

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from textual import events
    from textual.app import ComposeResult
    from textual.worker import Worker

    from tui.host_files import HostEntry
    from tui.keymap import Command
    from tui.screens.paths import PathQuestion


class PathField(Input):
    """Where a path is typed; tab completes it."""

    BINDINGS = [
        Binding("tab", "screen.complete", show=False, id="picker.complete"),
        Binding("down,shift+tab", "screen.to_list", show=False, id="picker.to_list"),
    ]

    def on_resize(self) -> None:
        """Show where the cursor is: it was put there before it was known how much fits."""
        position = self.cursor_position
        self.cursor_position = 0
        self.cursor_position = position


_FIELD_KEYS = " enter {verb}  tab complete  down list  esc cancel "
_END_OF_KEYS = "esc close "
_LOW_ROWS = 20
_FILTER_KEYS = " enter list   esc clear "


class FilePicker(Dialog[Path]):
    """Walks directories, or takes a path that is typed or pasted.

    Args:
        question: What is asked.
        directory: Where to begin; empty for the working directory.
        keys_of: The keys of a command, as settings.toml may have changed them.
    """

    BINDINGS = [
        Binding("escape", "leave", "Cancel", show=False, id="picker.cancel"),
    ]

    def __init__(
        self, question: PathQuestion, *, directory: str, keys_of: Callable[[Command], str]
    ) -> None:
        super().__init__(question.title)
        self._question = question
        self._keys_of = keys_of
        self._is_writing = question.wanted is PathWanted.NEW_FILE
        self._directory = directory or starting_directory()
        self._problem = ""
        self._shown_in_field = ""
        self._file_name = question.file_name
        self.list = HostFileList(id="host-files")

    @property
    def directory(self) -> str:
        """The directory that is shown."""
        return self._directory

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys="")
        box.add_class("-list")
        with box:
            yield Static(safe_text(self._question.explanation), markup=False, id="picker-about")
            with Horizontal(classes="form-row"):
                yield Static("Path", classes="form-label")
                field = PathField(id="picker-path", compact=True, select_on_focus=False)
                field.cursor_blink = False
                yield field
            yield self.list
            with Horizontal(classes="form-row", id="picker-filter-row"):
                yield Static("Filter", classes="form-label")
                searched = Input(id="picker-filter", compact=True, placeholder="text in names")
                searched.cursor_blink = False
                yield searched
            yield Static("", markup=False, id="picker-state")

    def on_mount(self) -> None:
        """Begin in the field when a name is to be given, else in the list."""
        self._go(self._directory)
        if self._is_writing:
            self._field.focus()
        else:
            self.list.focus()

    @property
    def _field(self) -> PathField:
        return self.query_one("#picker-path", PathField)

    # --- the directory ------------------------------------------------------------------------

    def _go(self, directory: str, *, cursor_on: str = "") -> None:
        """Show another directory; what was read of one before is forgotten."""
        self._directory = directory
        self._problem = ""
        self._close_filter()
        self._show_path(self._file_name)
        self.list.set_empty_text("Reading the directory ...")
        self.list.show_listing(HostListing(directory=directory))
        self._show_state()
        self._begin(lambda: self._read(directory, cursor_on), group="picker-read")

    def _begin(self, work: Callable[[], Coroutine[object, object, None]], *, group: str) -> None:
        """Do what waits for a thread, in place of what was begun before of its group."""

        async def begin() -> None:
            await work()

        _worker: Worker[None] = self.run_worker(
            begin, group=group, exclusive=True, exit_on_error=False
        )

    async def _read(self, directory: str, cursor_on: str) -> None:
        is_left = threading.Event()
        try:
            listing = await in_own_thread(
                lambda: read_directory(directory, is_wanted=lambda: not is_left.is_set())
            )
        finally:
            is_left.set()
        self._show_listing(listing, cursor_on)

    def _show_listing(self, listing: HostListing, cursor_on: str) -> None:
        ways: list[HostEntry] = []
        if self._question.wanted is PathWanted.FILE_OR_DIRECTORY:
            ways.append(HERE)
        if listing.directory != "/":
            ways.append(PARENT)
        self.list.show_listing(listing, *ways)
        if not (cursor_on and self.list.move_to_key(cursor_on)):
            self.list.go_to_first_name()
        self.list.set_empty_text("Nothing is here")
        self._problem = listing.problem
        self._show_state()

    def _show_state(self) -> None:
        """Write the line below the list: what is wrong, or how much is shown."""
        state = self.query_one("#picker-state", Static)
        state.set_class(bool(self._problem), "problem")
        if self._problem:
            state.update(safe_text(self._problem))
            return
        count, hidden_count = self.list.entry_count, self.list.hidden_count
        parts = ["1 entry" if count == 1 else f"{count:,} entries"]
        if self.list.filter_text:
            parts.append(f"filter: {self.list.filter_text}")
        elif hidden_count:
            key = display_keys(self._keys_of(_HIDDEN)).split(" ")[0]
            parts.append(f"{hidden_count} hidden, {key} shows them")
        state.update(safe_text("   ".join(parts)))

    def _tell_problem(self, problem: str) -> None:
        self._problem = problem
        self._show_state()

    # --- the field ----------------------------------------------------------------------------

    def _show_path(self, name: str) -> None:
        field = self._field
        field.value = f"{_with_slash(clean(self._directory))}{clean(name)}"
        field.cursor_position = len(field.value)
        self._shown_in_field = _with_slash(clean(self._directory))

    def _typed_path(self) -> str:
        """What was typed, with the directory as it is in place of how it is shown."""
        text = self._field.value
        shown = self._shown_in_field
        if shown and text.startswith(shown):
            return _with_slash(self._directory) + text.removeprefix(shown)
        return text

    def on_paste(self, event: events.Paste) -> None:
        """Take a path that is pasted while the list has the focus."""
        text = (event.text.splitlines() or [""])[0].strip()
        if text:
            event.stop()
            self._field.value = text
            self._field.cursor_position = len(text)
            self._field.focus()

    async def action_complete(self) -> None:
        """Go on with what was typed as far as there is one way to."""
        before, typed, directory = self._field.value, self._typed_path(), self._directory
        found = await in_own_thread(lambda: complete(typed, directory))
        if self._field.value == before:
            self._take_completion(before, found)

    def _take_completion(self, before: str, found: Completion | None) -> None:
        if found is None:
            self._tell_problem("No name begins with this")
            return
        field = self._field
        stem = before.removesuffix(found.beginning) if found.beginning else before
        field.value = stem + found.common
        field.cursor_position = len(field.value)
        self._problem = ""
        self._show_state()
        if len(found.names) > 1:
            self.query_one("#picker-state", Static).update(safe_text("   ".join(found.names)))

    def action_to_list(self) -> None:
        """Go from the field to the list; a name that was typed stays the new file's."""
        if self._is_writing:
            self._file_name = self._field.value.rpartition("/")[2] or self._file_name
        self.list.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed; what was wrong with the path is about another one now."""
        if event.input.id == "picker-filter":
            self.list.set_filter(event.value)
            self._show_state()
        elif self._problem and event.input.has_focus:
            self._tell_problem("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the path, or go from the filter to what it left."""
        event.stop()
        if event.input.id == "picker-filter":
            self.list.focus()
            return
        typed, directory = self._typed_path(), self._directory
        self._begin(lambda: self._take(lambda: absolute(typed, directory)), group="picker-take")

    # --- what is chosen -----------------------------------------------------------------------

    async def _take(self, path_of: Callable[[], str]) -> None:
        """Look what a path is, then open it, take it, or say why not."""

        def look() -> tuple[str, PathState, PathState]:
            path = path_of()
            return path, look_at(path), look_at(os.path.dirname(path))

        path, state, above = await in_own_thread(look)
        if state.type is PathType.DIRECTORY:
            takes_directories = self._question.wanted is PathWanted.FILE_OR_DIRECTORY
            if takes_directories and path == self._directory:
                self.dismiss(Path(path))
                return
            self._go(path)
            if not self._is_writing:
                self.list.focus()
        elif state.problem:
            self._tell_problem(state.problem)
        elif self._is_writing:
            self._take_target(path, state, above)
        elif state.type in (None, PathType.BROKEN_LINK):
            self._tell_problem(f"There is no {path}")
        elif state.type in (PathType.FILE, PathType.PIPE):
            self.dismiss(Path(path))
        else:
            self._tell_problem(f"{path} is a {state.type}")

    def _take_target(self, path: str, state: PathState, above: PathState) -> None:
        """Take a path that is to be written, after asking where something is lost."""
        if state.type is None:
            if above.type is PathType.DIRECTORY:
                self.dismiss(Path(path))
            else:
                self._tell_problem(f"There is no directory {os.path.dirname(path)}")
            return
        if state.type is not PathType.FILE:
            self._tell_problem(f"{path} is a {state.type}")
            return
        age = formatting.age(state.modified_at, now=time.time())
        text = (
            f"{path}\n\nWhat is in it will be lost: {formatting.size(state.size_bytes)}, "
            f"changed {age if age == 'now' else f'{age} ago'}."
        )

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.dismiss(Path(path))

        self.app.push_screen(ConfirmScreen("Replace the file?", text, verb="replace"), answered)

    def action_open(self) -> None:
        """Open the directory under the cursor, or take the file."""
        row = self.list.current
        if row is None:
            self.app.bell()
        elif row is HERE:
            self.dismiss(Path(self._directory))
        elif row is PARENT:
            self.action_parent()
        elif row.is_directory:
            self._go(os.path.join(self._directory, row.name))
        elif self._is_writing:
            self._file_name = clean(row.name)
            self._show_path(self._file_name)
            if clean(row.name) == row.name:
                self._field.focus()
            else:
                self._tell_problem("This name cannot be typed; give another one")
        else:
            path = os.path.join(self._directory, row.name)
            self._begin(lambda: self._take(lambda: path), group="picker-take")

    # --- keys ---------------------------------------------------------------------------------

    def action_parent(self) -> None:
        """Go to the directory above; the cursor stands on the one that was left."""
        above, name = os.path.split(self._directory)
        if above != self._directory:
            self._go(above, cursor_on=name)

    def action_home(self) -> None:
        """Go to the person's own directory."""
        self._go(os.path.expanduser("~"))

    def action_reread(self) -> None:
        """Read the directory afresh."""
        row = self.list.current
        self._go(self._directory, cursor_on=row.name if row else "")

    def action_toggle_hidden(self) -> None:
        """Show names with a dot in front, or not."""
        self.list.toggle_hidden()
        self._problem = ""
        self._show_state()

    def action_to_field(self) -> None:
        """Go to the field."""
        self._field.focus()

    def action_filter_files(self) -> None:
        """Go to the filter."""
        self.query_one("#picker-filter-row").add_class("-active")
        self.query_one("#picker-filter", Input).focus()

    def _close_filter(self) -> None:
        self.query_one("#picker-filter-row").remove_class("-active")
        field = self.query_one("#picker-filter", Input)
        if field.has_focus:
            self.list.focus()
        field.value = ""
        self.list.set_filter("")

    def action_leave(self) -> None:
        """Clear the filter, or close without an answer."""
        if self.query_one("#picker-filter-row").has_class("-active"):
            self._close_filter()
            self._show_state()
        else:
            self.action_cancel()

    def action_help(self) -> None:
        """Show the keys of this screen."""
        contexts = (Context.PICKER, Context.LISTS)
        self.app.push_screen(ReadingScreen("Keys", help_content(contexts, self._keys_of)))

    def _list_keys(self) -> str:
        """The keys of the list, as many as there is room for."""
        room = self.query_one(".dialog-box").size.width - len(_END_OF_KEYS)
        keys = " "
        for command in commands_of(Context.PICKER):
            if not command.is_in_footer:
                continue
            key = clean(display_keys(self._keys_of(command)).split(" ")[0], limit=16)
            piece = f"{key} {command.label}  "
            if cell_len(keys + piece) > room:
                break
            keys += piece
        return keys + _END_OF_KEYS

    def _show_keys(self) -> None:
        """Name the keys of what has the focus."""
        focused = self.focused
        if focused is None or focused.id == "host-files":
            keys = self._list_keys()
        elif focused.id == "picker-path":
            keys = _FIELD_KEYS.format(verb=self._question.verb)
        else:
            keys = _FILTER_KEYS
        self.query_one(".dialog-box").border_subtitle = Content(keys).markup

    def on_resize(self, event: events.Resize) -> None:
        """Leave out what is only nice to have where there is little room."""
        self.set_class(event.size.height < _LOW_ROWS, "-low")
        self.call_after_refresh(self._show_keys)

    def on_descendant_focus(self) -> None:
        """Name the keys of what has the focus."""
        self._show_keys()


_HIDDEN = next(c for c in commands_of(Context.PICKER) if c.command_id == "picker.hidden")


def _with_slash(directory: str) -> str:
    return directory if directory.endswith("/") else directory + "/"
