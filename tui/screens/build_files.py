"""What a finished step of a build has changed in the files; also while the build goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import EngineError
from tui import format as formatting
from tui.builds.texts import MADE, entries_text, step_name
from tui.file_tree import FileTreeModel
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.registry import failure_text, keys_text
from tui.widgets.files import FileTreeView
from tui.widgets.rows import Cell
from tui.widgets.status import OneLine

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from textual.app import ComposeResult

    from engine.api import EngineApi
    from engine.types import BuildStep, FileContent
    from tui.builds.jobs import BuildJob
    from tui.screens.tools import ToolScreen

_KEPT_MODELS = 6
_OF_A_BUILD = ("build.filter", "build.help", "build.palette", "build.close")
_LEFT_OUT = frozenset(
    binding.id for binding in bindings_of(Context.BUILD) if binding.id not in _OF_A_BUILD
)


class StepFilesScreen(Dialog[None]):
    """The layer explorer over one step; J and K go to the steps around it."""

    CONTEXTS: tuple[Context, ...] = (Context.FILES, Context.BUILD, Context.LISTS)
    LEFT_OUT = frozenset(one for one in _LEFT_OUT if one is not None)
    BINDINGS = [binding for binding in bindings_of(Context.BUILD) if binding.id in _OF_A_BUILD]

    def __init__(self, operations: ToolScreen, job: BuildJob, position: int) -> None:
        """Show the files of a step.

        Args:
            operations: Asks the engine, and shows files.
            job: The build.
            position: Of the step, which has made a layer.
        """
        super().__init__("Files of a step")
        self._operations = operations
        self._job = job
        self._position = position
        self._models: dict[int, FileTreeModel] = {}
        self.files = FileTreeView(id="step-files")
        self._about = OneLine(id="step-about")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.FILES))
        box.add_class("-list")
        with box:
            yield self._about
            yield self.files

    def on_mount(self) -> None:
        """Read the step's files."""
        self.files.focus()
        self._show_step()

    @property
    def context_view(self) -> FileTreeView:
        """The files."""
        return self.files

    def _step(self) -> BuildStep:
        return self._job.model.steps[self._position]

    def _show_step(self) -> None:
        step = self._step()
        self._about.show_cells(
            (
                Cell(formatting.size(step.size_bytes), "strong"),
                Cell(f"  {entries_text(step.entry_count)}  "),
                Cell(clean(step.text), "dim"),
            )
        )
        self._show_title()
        model = self._models.get(self._position)
        self.files.show_tree(model)
        if model is None:
            self.files.set_empty_text("Reading the layer ...")
            self.run_worker(self._load(), group="files", exclusive=True, exit_on_error=False)

    def _show_title(self) -> None:
        progress = self._job.model.progress
        stages = () if progress is None else progress.stages
        title = f"What step {step_name(self._step(), stages)} has changed"
        if self.files.filter_text:
            title += f"  filter: {clean(self.files.filter_text, limit=40)}"
        self.query_one(".dialog-box").border_title = Content(title).markup

    async def _load(self) -> None:
        position, build_id = self._position, self._job.model.build_id
        try:
            tree = await self._operations.bridge.call(
                lambda engine: engine.list_step_files(build_id, position)
            )
        except EngineError as error:
            self.files.set_empty_text(failure_text(error))
            return
        model = await asyncio.to_thread(FileTreeModel, tree)
        self._models[position] = model
        while len(self._models) > _KEPT_MODELS:
            self._models.pop(next(iter(self._models)))
        self.files.set_empty_text("No files of this step pass; a m x u / say which are shown")
        self.files.show_tree(model)

    def on_file_tree_view_chosen(self, event: FileTreeView.Chosen) -> None:
        """Show the file, if it is one."""
        if not self._operations.sees_file(event.entry):
            return
        position, build_id, path = self._position, self._job.model.build_id, event.entry.path

        def read(engine: EngineApi) -> Awaitable[FileContent]:
            return engine.read_step_file(build_id, position, path)

        async def view() -> None:
            from tui.screens.file_view import FileViewScreen

            self.app.push_screen(FileViewScreen(await self._operations.bridge.call(read)))

        self._operations.run_task(lambda: view(), group="view", is_exclusive=True)

    def action_next_layer(self, step: int) -> None:
        """Show the files of the step after (1) or before (-1) that has some."""
        found = [one.position for one in self._job.model.steps if _has_files(one)]
        index = found.index(self._position) + step
        if 0 <= index < len(found):
            self._position = found[index]
            self._show_step()
        else:
            self.app.bell()

    def action_filter_steps(self) -> None:
        """Ask for a text that paths must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.files.set_filter(text)
                self._show_title()

        prompt = PromptScreen("Filter", "Only paths with:", value=self.files.filter_text)
        self.app.push_screen(prompt, answered)

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of, self.LEFT_OUT)
        self.app.push_screen(ReadingScreen("Keys", content))


def _has_files(step: BuildStep) -> bool:
    return step.state in MADE and not step.is_empty and step.instruction != "FROM"
