"""An image in a registry, looked into without pulling it; and the files of one of its layers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import EngineError, PlatformMismatchError
from tui import format as formatting
from tui.file_tree import FileTreeModel
from tui.image_names import repository_of
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.registry import failure_text, keys_text
from tui.widgets.files import FileTreeView
from tui.widgets.registry import RemoteLayerList
from tui.widgets.rows import Cell
from tui.widgets.status import OneLine
from tui.widgets.texts import TextRows, remote_image_lines

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.types import PulledImage, RemoteImage, RemoteLayer
    from tui.screens.tools import ToolScreen


class _RemoteScreen(Dialog[None]):
    """What the screens about one image in a registry have in common."""

    CONTEXTS: tuple[Context, ...]
    LEFT_OUT: frozenset[str] = frozenset()
    """Commands of these contexts that the screen does not have."""

    def __init__(self, title: str, name: str, operations: ToolScreen, platform: str = "") -> None:
        super().__init__(title)
        self._image_name = name
        self._operations = operations
        self._platform = platform
        """What the person chose; empty for this host's."""

    def action_pull(self) -> None:
        """Pull the image."""
        self._operations.pull(self._image_name, platform=self._platform, pulled=self._pulled)

    def _pulled(self, _image: PulledImage) -> None:
        """The image is here now."""

    @property
    def context_view(self) -> RemoteLayerList | FileTreeView:
        """The rows that are filtered, and what their own commands are about."""
        raise NotImplementedError

    def action_filter(self) -> None:
        """Ask for a text that rows must contain."""
        rows = self.context_view

        def answered(text: str | None) -> None:
            if text is not None:
                rows.set_filter(text)
                shown = f"  filter: {clean(text, limit=40)}" if text else ""
                title = f"{clean(self._image_name, limit=200)}{shown}"
                self.query_one(".dialog-box").border_title = Content(title).markup

        prompt = PromptScreen("Filter", "Only rows with:", value=rows.filter_text)
        self.app.push_screen(prompt, answered)

    def action_background(self) -> None:
        """Show what goes on in the background."""
        self._operations.action_background()

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of, self.LEFT_OUT)
        self.app.push_screen(ReadingScreen("Keys", content))


class RemoteImageScreen(_RemoteScreen):
    """Its steps, how much there is to fetch, and its configuration."""

    CONTEXTS = (Context.REMOTE_IMAGE, Context.LISTS)
    BINDINGS = [*bindings_of(Context.REMOTE_IMAGE)]

    def __init__(self, name: str, operations: ToolScreen) -> None:
        """Look into an image.

        Args:
            name: As typed or found.
            operations: Runs what changes something, with progress and answers.
        """
        super().__init__(name, name, operations)
        self._image: RemoteImage | None = None
        self._platforms: tuple[str, ...] = ()
        """What there is to choose from, as far as the registry said it."""
        self.steps = RemoteLayerList(id="steps")
        self.config = TextRows(id="remote-config")
        self._about = OneLine(id="remote-about")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.REMOTE_IMAGE))
        box.add_class("-list")
        with box:
            yield self._about
            yield self.steps
            yield self.config

    def on_mount(self) -> None:
        """Ask the registry; closing the screen ends that."""
        self.steps.focus()
        self.action_refresh_image()

    def action_refresh_image(self) -> None:
        """Ask the registry, again if it was asked before."""
        self.steps.set_empty_text(f"Looking at {clean(self._image_name, limit=200)} ...")
        self.run_worker(self._load(), group="peek", exclusive=True, exit_on_error=False)

    async def _load(self) -> None:
        name, platform = self._image_name, self._platform
        try:
            image = await self._operations.ask_registry(
                lambda engine: engine.peek_image(name, platform=platform)
            )
        except EngineError as error:
            text = failure_text(error)
            if isinstance(error, PlatformMismatchError):
                self._platforms = error.platforms
                text = f"{clean(error.message, limit=300)}\n\np  looks at it for another platform"
            self._image = None
            self.steps.set_empty_text(text)
            self.steps.show_steps(())
            self.config.show_lines([])
            self._about.show_cells(())
            return
        self._image, self._platforms = image, image.platforms
        self.steps.set_empty_text("It has no layers")
        self.steps.show_steps(image.layers)
        self.config.show_lines(remote_image_lines(image))
        self._show_about(image)

    def _show_about(self, image: RemoteImage) -> None:
        # A blob that two steps have is fetched once.
        missing = {one.digest: one.size_bytes for one in image.layers if not one.is_present}
        to_fetch = sum(missing.values())
        count = sum(not one.is_empty for one in image.layers)
        rest = f"{formatting.size(to_fetch)} to fetch" if to_fetch else "all of it is here"
        others = f", p: {len(image.platforms)} platforms" if len(image.platforms) > 1 else ""
        self._about.show_cells(
            (
                Cell(f"{count} layers  {formatting.size(image.size_bytes)}  ", "strong"),
                Cell(rest, "warn" if to_fetch else "good"),
                Cell(f"  {clean(image.platform, limit=60)}{others}", "dim"),
            )
        )

    def action_choose_platform(self) -> None:
        """Have the person choose for which platform to look, and to pull."""
        others = self._platforms
        if self._image is not None and others in {(), (self._image.platform,)}:
            self._operations.tell(f"There is nothing here but {self._image.platform}")
        elif others:
            self.run_worker(self._choose(others), group="platform", exclusive=True)
        else:
            self.app.bell()

    async def _choose(self, platforms: tuple[str, ...]) -> None:
        name = clean(self._image_name, limit=80)
        chosen = await self._operations.choose_platform(f"Platform of {name}", platforms)
        if chosen is not None:
            self._platform = chosen
            self.action_refresh_image()

    def _pulled(self, _image: PulledImage) -> None:
        if self.is_attached:
            self.action_refresh_image()

    @property
    def context_view(self) -> RemoteLayerList:
        """The steps."""
        return self.steps

    def action_open_step(self) -> None:
        """Fetch the layer alone and show its files."""
        step, image = self.steps.current, self._image
        if step is None or image is None:
            self.app.bell()
        elif step.is_empty:
            self._operations.tell("This step changed only the image's config")
        else:
            self.app.push_screen(RemoteFilesScreen(image, step, self._operations, self._platform))


_OF_THE_IMAGE = frozenset(("remote.open", "remote.refresh", "remote.platform"))


class RemoteFilesScreen(_RemoteScreen):
    """The files of one layer, which is fetched for this and kept while the application runs."""

    CONTEXTS = (Context.FILES, Context.REMOTE_IMAGE, Context.LISTS)
    LEFT_OUT = _OF_THE_IMAGE
    BINDINGS = [
        binding for binding in bindings_of(Context.REMOTE_IMAGE) if binding.id not in _OF_THE_IMAGE
    ]

    def __init__(
        self, image: RemoteImage, step: RemoteLayer, operations: ToolScreen, platform: str
    ) -> None:
        """Show the files of a step that has some; `platform` is what was chosen, or empty."""
        super().__init__(image.name, image.name, operations, platform)
        self._image = image
        self._step = step
        self._models: dict[int, FileTreeModel] = {}
        self.files = FileTreeView(id="remote-files")
        self._about = OneLine(id="remote-step")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.FILES))
        box.add_class("-list")
        with box:
            yield self._about
            yield self.files

    def on_mount(self) -> None:
        """Fetch the layer; closing the screen ends that."""
        self.files.focus()
        self._show_step()

    def _show_step(self) -> None:
        step = self._step
        text = formatting.instruction(clean(step.created_by))
        self._about.show_cells(
            (Cell(f"{formatting.size(step.size_bytes)}  ", "strong"), Cell(text, "dim"))
        )
        model = self._models.get(step.position)
        self.files.show_tree(model)
        if model is None:
            self.files.set_empty_text(
                f"Fetching this layer alone, {formatting.size(step.size_bytes)} ..."
            )
            self.run_worker(self._load(step), group="files", exclusive=True, exit_on_error=False)

    @property
    def _exact_name(self) -> str:
        """By its digest: the tag may lead elsewhere by now."""
        return f"{repository_of(self._image.name)}@{self._image.digest}"

    def on_file_tree_view_chosen(self, event: FileTreeView.Chosen) -> None:
        """Show the file, if it is one; its layer is fetched once more unless it is kept."""
        if self._operations.sees_file(event.entry):
            self._operations.view_remote_file(
                self._exact_name, self._image.platform, self._step.position, event.entry.path
            )

    async def _load(self, step: RemoteLayer) -> None:
        name, position, platform = self._exact_name, step.position, self._image.platform
        try:
            tree = await self._operations.fetch_from_registry(
                f"Fetching layer {step.position} of {self._image.name}",
                lambda engine, listen: engine.list_remote_layer_files(
                    name, position, platform=platform, progress=listen
                ),
            )
        except EngineError as error:
            self.files.set_empty_text(failure_text(error))
            return
        if tree is None:
            self.files.set_empty_text(
                "Nothing of it was kept\n\nenter on its step fetches it again"
            )
            return
        model = await asyncio.to_thread(FileTreeModel, tree)
        self._models[step.position] = model
        self.files.set_empty_text("No files in this layer pass; a m x u / say which are shown")
        self.files.show_tree(model)

    @property
    def context_view(self) -> FileTreeView:
        """The files."""
        return self.files

    def action_next_layer(self, step: int) -> None:
        """Show the files of the layer below (1) or above (-1)."""
        steps = [one for one in reversed(self._image.layers) if not one.is_empty]
        index = steps.index(self._step) + step
        if 0 <= index < len(steps):
            self._step = steps[index]
            self._show_step()
        else:
            self.app.bell()
