"""Registries: look for images, list their tags, go on to look into them or to pull them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.binding import Binding
from textual.content import Content
from textual.widgets import Input, Static

from engine.errors import EngineError
from tui.image_names import is_registry, repository_of, with_tag
from tui.keymap import Context, commands_of, display_keys
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen, ReadingScreen, safe_text
from tui.screens.help import help_content
from tui.widgets.registry import FoundList, FoundRow, TagList, found_header
from tui.widgets.status import OneLine

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.types import FoundImage
    from tui.screens.tools import ToolScreen
    from tui.widgets.rows import LineView

_MOST_FOUND = 100
_SHARE_OF_WIDTH = 0.96
_FRAME_CELLS = 6
_BEGIN = (
    "A name to look into or to pull, or a word to look for on Docker Hub; "
    "HOST/WORD looks in another registry, HOST/ lists all that it has"
)
_ANYHOW = "The name itself can be looked into and pulled all the same"


def keys_text(
    operations: ToolScreen, *contexts: Context, left_out: frozenset[str] = frozenset()
) -> str:
    """The footer's keys of these contexts, for the frame of a wide dialog; as many as fit.

    Args:
        operations: Knows the keys.
        contexts: In this order.
        left_out: Ids of commands that do not work there.
    """
    end = "esc back "
    room = int(operations.app.size.width * _SHARE_OF_WIDTH) - _FRAME_CELLS - len(end)
    text = " "
    for command in commands_of(*contexts):
        if not command.is_in_footer or command.command_id in left_out:
            continue
        keys = display_keys(operations.keys_of(command)).split(" ")[0]
        piece = f"{clean(keys, limit=16)} {command.label}  "
        if cell_len(text + piece) > room:
            break
        text += piece
    return text + end


def failure_text(error: EngineError) -> str:
    """What failed, and below it what can be done; clean."""
    return f"{clean(error.message, limit=300)}\n{clean(error.hint, limit=300)}".strip()


class NamesScreen(Dialog[None]):
    """Lists names of images that can be looked into and pulled."""

    CONTEXTS: tuple[Context, ...] = (Context.REGISTRY, Context.LISTS)
    LEFT_OUT: frozenset[str] = frozenset()

    def __init__(self, title: str, operations: ToolScreen) -> None:
        """List names.

        Args:
            title: Of the box.
            operations: Runs what changes something, with progress and answers.
        """
        super().__init__(title)
        self._operations = operations

    @property
    def current_name(self) -> str:
        """The name under the cursor; empty without one."""
        raise NotImplementedError

    @property
    def context_view(self) -> LineView:
        """The names."""
        raise NotImplementedError

    def _chosen_name(self) -> str:
        if not self.current_name:
            self.app.bell()
        return self.current_name

    def action_peek(self) -> None:
        """Look into the image."""
        from tui.screens.remote_image import RemoteImageScreen

        if name := self._chosen_name():
            self.app.push_screen(RemoteImageScreen(name, self._operations))

    def action_pull(self) -> None:
        """Pull the image."""
        if name := self._chosen_name():
            self._operations.pull(name)

    def action_tags(self) -> None:
        """List the tags of the repository."""
        if name := self._chosen_name():
            self.app.push_screen(TagsScreen(repository_of(name), self._operations))

    def action_delete(self) -> None:
        """Have the registry forget the image."""
        name = self._chosen_name()
        if name and repository_of(name) == name:
            self._operations.tell(f"{name} is a repository: t lists its tags, and d deletes one")
        elif name:
            self._operations.delete_remote(name, deleted=self._deleted)

    def _deleted(self) -> None:
        """The registry has something no longer."""

    def action_background(self) -> None:
        """Show what goes on in the background."""
        self._operations.action_background()

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of, self.LEFT_OUT)
        self.app.push_screen(ReadingScreen("Keys", content))


class RegistryScreen(NamesScreen):
    """Asks for a name or a word; shows what a search finds below the name itself."""

    BINDINGS = [Binding("down", "to_list", show=False, id="registry.to_list")]

    def __init__(self, operations: ToolScreen) -> None:
        super().__init__("Registry", operations)
        self.list = FoundList(id="found")
        self._header = OneLine(id="found-header")
        self._typed = ""
        self._found: tuple[FoundImage, ...] = ()

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.REGISTRY))
        box.add_class("-list")
        with box:
            field = Input(placeholder="name or word, then enter", id="term", compact=True)
            field.cursor_blink = False
            yield field
            yield Static(_BEGIN, id="registry-note", markup=False)
            yield self._header
            yield self.list

    @property
    def context_view(self) -> LineView:
        """What was found."""
        return self.list

    def on_mount(self) -> None:
        """Begin in the input."""
        self.list.set_empty_text("What is typed above stands here, and below it what is found")
        self.query_one("#term", Input).focus()

    def on_resize(self) -> None:
        """Fit the header to the rows."""
        self.call_after_refresh(self._show_header)

    def _show_header(self) -> None:
        self._header.show_cells(found_header(self.list.row_width))

    @property
    def current_name(self) -> str:
        """The name under the cursor."""
        row = self.list.current
        return "" if row is None else row.name

    def _note(self, text: str) -> None:
        self.query_one("#registry-note", Static).update(safe_text(text))

    def _show(self) -> None:
        typed = self._typed
        of_typed = next((one for one in self._found if one.name == typed), None)
        is_name = bool(typed) and not typed.endswith("/") and not is_registry(typed)
        rows = [FoundRow(name=typed, found=of_typed, is_typed=True)] if is_name else []
        rows += [FoundRow(name=one.name, found=one) for one in self._found if one.name != typed]
        self.list.set_rows(tuple(rows))
        self._show_header()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The typed name is the first row, from the first letter on."""
        self._typed = event.value.strip()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look for it, and go to the rows: the first can be used at once."""
        term = event.value.strip()
        if not term:
            return
        self.list.action_move_to(0)
        self.list.focus()
        self._found = ()
        self._show()
        self._note(f"Looking for {term} ...")
        wanted = term if is_registry(term) else repository_of(term)
        self.run_worker(self._search(wanted), group="search", exclusive=True, exit_on_error=False)

    async def _search(self, term: str) -> None:
        operations = self._operations
        try:
            found = await operations.ask_registry(
                lambda engine: engine.search_images(term, limit=_MOST_FOUND)
            )
        except EngineError as error:
            self._note(f"{failure_text(error)}\n{self._remark}".strip())
            return
        self._found = found
        if not found:
            self._note(f"Nothing found for {term}\n{self._remark}".strip())
        else:
            count = f"{len(found)} found" if len(found) < _MOST_FOUND else f"The first {len(found)}"
            self._note(f"{count} for {term}")
        self._show()

    @property
    def _remark(self) -> str:
        """What can be done although nothing was found."""
        return _ANYHOW if self.current_name else ""

    def action_to_list(self) -> None:
        """From the input to the rows."""
        self.list.focus()

    def action_search(self) -> None:
        """Back to the input."""
        self.query_one("#term", Input).focus()


class TagsScreen(NamesScreen):
    """Every tag of a repository."""

    LEFT_OUT = frozenset(("registry.tags",))

    def __init__(self, repository: str, operations: ToolScreen) -> None:
        super().__init__(f"Tags of {repository}", operations)
        self._repository = repository
        self._tags: tuple[str, ...] = ()
        self.list = TagList(id="tags")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        keys = keys_text(self._operations, Context.REGISTRY, left_out=self.LEFT_OUT)
        box = self.frame(keys=keys)
        box.add_class("-list")
        with box:
            yield self.list

    @property
    def context_view(self) -> LineView:
        """The tags."""
        return self.list

    def on_mount(self) -> None:
        """Ask for them; closing the screen ends that."""
        self.list.set_empty_text(f"Asking for the tags of {clean(self._repository, limit=200)} ...")
        self.list.focus()
        self.run_worker(self._load(), group="tags", exclusive=True, exit_on_error=False)

    async def _load(self) -> None:
        repository = self._repository
        try:
            self._tags = await self._operations.ask_registry(
                lambda engine: engine.list_remote_tags(repository)
            )
        except EngineError as error:
            self.list.set_empty_text(failure_text(error))
            return
        self.list.set_rows(self._tags)
        self._show_about()

    def _show_about(self) -> None:
        text = self.list.filter_text
        none = "It has no tags" if not text else "No tag contains this; / asks for another text"
        self.list.set_empty_text(none)
        count = f"{len(self.list.rows)} of {len(self._tags)}" if text else str(len(self._tags))
        title = f"Tags of {clean(self._repository, limit=100)}  {count}"
        if text:
            title += f"  filter: {clean(text, limit=40)}"
        self.query_one(".dialog-box").border_title = Content(title).markup

    @property
    def current_name(self) -> str:
        """The image that the tag under the cursor is."""
        tag = self.list.current
        return "" if tag is None else with_tag(self._repository, tag)

    def _deleted(self) -> None:
        if self.is_attached:
            self.run_worker(self._load(), group="tags", exclusive=True, exit_on_error=False)

    def action_tags(self) -> None:
        """They are here already."""
        self.app.bell()

    def action_search(self) -> None:
        """Ask for a text that tags must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.list.set_filter(text)
                self._show_about()

        prompt = PromptScreen("Filter", "Only tags with:", value=self.list.filter_text)
        self.app.push_screen(prompt, answered)
