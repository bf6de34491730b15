"""All that a step has written, to search and to save; live as long as the step runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content

from engine.errors import EngineError
from engine.types import BuildOutput, BuildStepState, LogLine, OutputStream
from tui.builds.texts import step_name
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.paths import PathQuestion, PathWanted
from tui.screens.registry import failure_text, keys_text
from tui.widgets.logs import LogView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from textual.app import ComposeResult

    from engine.api import EngineApi
    from engine.operations import ProgressListener
    from tui.builds.jobs import BuildJob
    from tui.screens.tools import ToolScreen

_OF_A_BUILD = ("build.filter", "build.help", "build.palette", "build.close")
_NOT_RUN = "It was not run: the cache had it\n\nThe build that ran it has its log; 6 lists builds"
_TIMES = "logs.timestamps"
"""The log of a step that has ended says nothing of when."""
_LEFT_OUT = frozenset(
    (
        _TIMES,
        *(one.id for one in bindings_of(Context.BUILD) if one.id and one.id not in _OF_A_BUILD),
    )
)


class StepLogView(LogView, inherit_bindings=False):
    """Lines as a step wrote them."""

    BINDINGS = [
        *bindings_of(Context.LISTS),
        *(binding for binding in bindings_of(Context.LOGS) if binding.id != _TIMES),
    ]


class StepLogScreen(Dialog[None]):
    """The log of one step as a whole, which the fold below the step has only the end of."""

    CONTEXTS: tuple[Context, ...] = (Context.LOGS, Context.BUILD, Context.LISTS)
    LEFT_OUT = _LEFT_OUT
    BINDINGS = [binding for binding in bindings_of(Context.BUILD) if binding.id in _OF_A_BUILD]

    def __init__(self, operations: ToolScreen, job: BuildJob, position: int) -> None:
        """Show the log of a step.

        Args:
            operations: Asks the engine, and for paths.
            job: The build.
            position: Of the step.
        """
        super().__init__("Log of a step")
        self._operations = operations
        self._job = job
        self._position = position
        self.log_view = StepLogView(id="step-log")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        keys = keys_text(self._operations, Context.LOGS, left_out=self.LEFT_OUT)
        box = self.frame(keys=keys)
        box.add_class("-list")
        with box:
            yield self.log_view

    def on_mount(self) -> None:
        """Read it, and what comes as long as the step runs."""
        self.log_view.set_empty_text("Reading the log ...")
        self.log_view.focus()
        self._show_title()
        self.run_worker(self._load(), group="follow", exclusive=True, exit_on_error=False)

    @property
    def context_view(self) -> LogView:
        """The log."""
        return self.log_view

    async def _load(self) -> None:
        build_id, position = self._job.model.build_id, self._position
        try:
            if self._job.is_running:
                self.log_view.set_empty_text("No output yet; it appears here as it comes")
                batches = self._operations.bridge.stream(
                    lambda engine: step_output(engine, build_id, position)
                )
                async for parts in batches:
                    self._show(tuple(part for outputs in parts for part in outputs))
            else:
                data = await self._operations.bridge.call(
                    lambda engine: engine.read_step_log(build_id, position)
                )
                whole = BuildOutput(
                    position=position, stream=OutputStream.STDOUT, data=data, time=time.time()
                )
                self._show((whole,))
        except EngineError as error:
            self.log_view.set_empty_text(failure_text(error))
        else:
            is_cached = self._job.model.steps[position].state is BuildStepState.CACHED
            self.log_view.set_empty_text(_NOT_RUN if is_cached else "It has written nothing")

    def _show(self, outputs: tuple[BuildOutput, ...]) -> None:
        records = [record for output in outputs for record in log_records(output)]
        if records:
            self.log_view.append(tuple(records))

    @on(LogView.ModeChanged)
    def _show_title(self) -> None:
        progress = self._job.model.progress
        if progress is None:
            return
        step = progress.steps[self._position]
        words = self.log_view.mode_words
        if step.state is not BuildStepState.RUNNING:
            words = tuple(word for word in words if word != "following")
        name = step_name(step, progress.stages)
        title = f"Log of step {name}  {clean(step.text, limit=60)}  " + " · ".join(
            clean(word, limit=60) for word in words
        )
        self.query_one(".dialog-box").border_title = Content(title.rstrip()).markup

    # --- keys ---------------------------------------------------------------------------------

    def action_filter_steps(self) -> None:
        """Ask for a text to look for."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.log_view.set_search(text)

        prompt = PromptScreen("Search", "Look for:", value=self.log_view.search_text)
        self.app.push_screen(prompt, answered)

    def action_filter_log(self) -> None:
        """Ask for a text that lines must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.log_view.set_only(text)

        prompt = PromptScreen("Only", "Only lines with:", value=self.log_view.only_text)
        self.app.push_screen(prompt, answered)

    def action_save_log(self) -> None:
        """Ask for a file and write the log to it, as the step wrote it."""
        step = self._job.model.steps[self._position]
        question = PathQuestion(
            title="Save the log",
            explanation="Save the whole log of the step as it was written, to:",
            wanted=PathWanted.NEW_FILE,
            verb="save",
            file_name=f"build-step-{step.position + 1}-{time.strftime('%Y%m%d-%H%M%S')}.log",
        )

        def answered(path: Path) -> None:
            self._operations.run_task(lambda: self._save(path), group="operation")

        self._operations.ask_path(question, answered)

    async def _save(self, path: Path) -> None:
        build_id, position = self._job.model.build_id, self._position
        count = await self._operations.operate(
            f"Saving the log to {path}",
            lambda engine, listen: _save_step_log(
                engine, build_id, position, path=path, progress=listen
            ),
        )
        if count is not None:
            self._operations.tell(f"Saved {count} lines to {path}")

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of, self.LEFT_OUT)
        self.app.push_screen(ReadingScreen("Keys", content))


async def step_output(
    engine: EngineApi, build_id: str, position: int
) -> AsyncIterator[tuple[BuildOutput, ...]]:
    """What one step has written, and writes until it ends; runs on the engine's loop."""
    async for events in engine.follow_build(build_id):
        outputs = tuple(
            event
            for event in events
            if isinstance(event, BuildOutput) and event.position == position
        )
        if outputs:
            yield outputs


def log_records(output: BuildOutput) -> tuple[LogLine, ...]:
    """Lines as the log view takes them: the last one may go on."""
    *whole, rest = output.data.split(b"\n")
    timestamp_ns = int(output.time * 1e9)
    records = [
        LogLine(stream=output.stream, timestamp_ns=timestamp_ns, text=text, is_partial=False)
        for text in whole
    ]
    if rest:
        records.append(
            LogLine(stream=output.stream, timestamp_ns=timestamp_ns, text=rest, is_partial=True)
        )
    return tuple(records)


async def _save_step_log(
    engine: EngineApi, build_id: str, position: int, *, path: Path, progress: ProgressListener
) -> int:
    from tui.log_file import write_whole

    data = await engine.read_step_log(build_id, position)

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    return await write_whole(path, pieces(), progress=progress)
