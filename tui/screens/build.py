"""One build: its steps with what they write, the graph of its stages, and why what was run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content

from engine.types import BuildStatus, BuildStepState
from tui import format as formatting
from tui.builds.about import step_lines, warning_lines, whole_step
from tui.builds.compare import growths
from tui.builds.graph import seconds_left, slowest_way
from tui.builds.rows import StepRow, build_rows, position_of
from tui.builds.texts import MADE, change_text, seconds_text, step_name, step_text, totals_cells
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.build_actions import changed_text
from tui.screens.dialogs import Choice, ChoiceScreen, Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.registry import failure_text, keys_text
from tui.widgets.build_graph import BuildGraphView
from tui.widgets.build_steps import BuildStepList
from tui.widgets.lines import Lines
from tui.widgets.rows import Cell, RowList
from tui.widgets.status import OneLine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events
    from textual.app import ComposeResult

    from engine.types import BuildStep
    from tui.builds.jobs import BuildJob
    from tui.screens.tools import ToolScreen
    from tui.widgets.rows import LineView

_CLOCK_SECONDS = 0.5
_LOW_ROWS = 30
_WIDE_FROM_COLUMNS = 100
_TAIL_LINES, _TAIL_LINES_LOW = 8, 4
_MOST_LANES = 8
_MOST_GROWN, _MOST_SLOW = 3, 2
_SHORTEST_SECONDS = 0.1


class BuildScreen(Dialog[None]):
    """Shows a build as it goes on; closing it leaves the build alone."""

    CONTEXTS: tuple[Context, ...] = (Context.BUILD, Context.LISTS)
    LEFT_OUT: frozenset[str] = frozenset()
    BINDINGS = [*bindings_of(Context.BUILD)]
    AUTO_FOCUS = "#build-steps"

    def __init__(self, operations: ToolScreen, job: BuildJob) -> None:
        """Show a build.

        Args:
            operations: Runs builds, and what changes something.
            job: The build.
        """
        super().__init__("Build")
        self._operations = operations
        self.job = job
        self.totals = OneLine(id="build-totals")
        self.graph = BuildGraphView(id="build-graph")
        self.steps = BuildStepList(id="build-steps")
        self.about = Lines(id="build-about")
        self._is_low = False

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        box = self.frame(keys="")
        box.add_class("-full")
        with box:
            yield self.totals
            yield self.graph
            yield self.steps
            yield self.about

    def on_mount(self) -> None:
        """Show what is known, and go with the clock while something runs."""
        self.steps.focus()
        self._show()
        self.set_interval(_CLOCK_SECONDS, self._tick)

    @property
    def context_view(self) -> LineView:
        """The steps, or the graph."""
        return self.graph if self.graph.has_focus else self.steps

    # --- what is shown ------------------------------------------------------------------------

    def shows_build(self, job: BuildJob) -> bool:
        """Whether the person sees this build now."""
        return job is self.job and self.is_active

    def build_changed(self, job: BuildJob) -> None:
        """Show the newest state, if it is that of this build."""
        if job is self.job and self.is_mounted:
            self._show()

    def follow_build(self, before: BuildJob, job: BuildJob) -> bool:
        """Show the build that follows the shown one."""
        if before is not self.job:
            return False
        self.show_job(job)
        return True

    def show_job(self, job: BuildJob) -> None:
        """Show another build in place of this one."""
        self.job = job
        self.steps.is_followed = True
        self.steps.set_filter("")
        self._show()

    def _show(self) -> None:
        self._show_title()
        self._show_totals()
        progress = self.job.model.progress
        if progress is not None:
            self.graph.show_build(progress)
        lane_count = 0 if progress is None else len(progress.stages)
        self.set_class(lane_count < 2, "-one-stage")
        self.graph.styles.height = "1fr" if self._is_low else min(lane_count, _MOST_LANES)
        self.steps.set_empty_text(self._empty_text())
        tail = _TAIL_LINES_LOW if self._is_low else _TAIL_LINES
        width = self.steps.size.width or self.app.size.width
        self.steps.show_rows(build_rows(self.job.model, tail=tail, width=width))
        self._show_about()

    def _empty_text(self) -> str:
        model = self.job.model
        if self.steps.filter_text:
            return "No step and no line contains this; / then enter clears it"
        if model.error is not None:
            return failure_text(model.error) + "\n\nb  asks again"
        if model.status is BuildStatus.CANCELLED:
            return "It was cancelled before it began\n\nr  builds it again"
        return "Reading the Dockerfile ..."

    def _show_title(self) -> None:
        job = self.job
        title = f"Build  {clean(job.model.title, limit=80)}"
        if job.watch is not None:
            title += "  watching (w)"
        if job.changed_paths:
            title += f"  {changed_text(job)}"
        if self.steps.filter_text:
            title += f"  filter: {clean(self.steps.filter_text, limit=40)}"
        box = self.query_one(".dialog-box")
        markup = Content(title).markup
        if box.border_title != markup:
            box.border_title = markup

    def _show_totals(self) -> None:
        model, now = self.job.model, time.time()
        right: list[Cell] = []
        progress = model.progress
        if progress is not None and model.before and model.status is BuildStatus.DONE:
            grown = growths(progress, model.before)
            total = sum(one.size_bytes for one in grown)
            text = (
                f"{change_text(total)} against the build before" if total else "as large as before"
            )
            right.append(Cell(f"{text} ", "warn" if total > 0 else "good"))
        width = self.totals.size.width
        left = totals_cells(model, now=now, is_short=width < _WIDE_FROM_COLUMNS)
        if progress is not None and model.is_running and model.before:
            seconds = seconds_left(progress.stages, progress.steps, model.before, now=now)
            if seconds is not None and seconds >= 1:
                right.append(Cell(f"about {formatting.duration(seconds)} left ", "strong"))
        if sum(len(cell.text) for cell in (*left, *right)) + 2 > width:
            right = []
        self.totals.show_cells(left, tuple(right))

    def _show_about(self) -> None:
        model = self.job.model
        position = self._position()
        lines = [] if position is None else list(step_lines(model, position))
        if not model.is_running:
            lines += self._grown_lines()
        self.about.show_lines(lines)

    def _grown_lines(self) -> Iterable[tuple[Cell, ...]]:
        """Which steps grew, and what took longest: of a build that has ended."""
        progress = self.job.model.progress
        if progress is None:
            return
        way, seconds = slowest_way(progress.stages, progress.steps, now=time.time())
        slowest = sorted(
            (one for one in way if (progress.steps[one].seconds or 0.0) >= _SHORTEST_SECONDS),
            key=lambda one: -(progress.steps[one].seconds or 0.0),
        )[:_MOST_SLOW]
        if len(way) > 1 and slowest:
            names = ", ".join(
                f"{step_name(progress.steps[one], progress.stages)} "
                f"{seconds_text(progress.steps[one].seconds)}"
                for one in slowest
            )
            yield (Cell("slowest   ", "dim"), Cell(f"{seconds_text(seconds)} in a row: {names}"))
        for one in growths(progress, self.job.model.before)[:_MOST_GROWN]:
            step = progress.steps[one.position]
            verb = "grew" if one.size_bytes > 0 else "shrank"
            yield (
                Cell(f"{verb:<10}", "dim"),
                Cell(change_text(one.size_bytes), "bad" if one.size_bytes > 0 else "good"),
                Cell(f"  {step_name(step, progress.stages)}  {step_text(step)}"),
            )

    def _position(self) -> int | None:
        """Of the step under the cursor: of the steps, or what a lane of the graph is at."""
        if self.graph.has_focus and (lane := self.graph.current) is not None:
            unfinished = (step.position for step in lane.steps if step.state not in MADE)
            return next(unfinished, lane.steps[-1].position if lane.steps else None)
        row = self.steps.current
        return None if row is None else position_of(row)

    @on(RowList.Highlighted, "#build-steps")
    @on(RowList.Highlighted, "#build-graph")
    def _step_highlighted(self) -> None:
        self._show_about()

    def on_descendant_focus(self) -> None:
        """What is said below is about the view that has the focus."""
        self._show_about()

    def _tick(self) -> None:
        if self.job.model.is_running and self.is_active:
            self._show_totals()
            self.steps.tick()
            if self.job.runs_elsewhere:
                self._operations.renew_build(self.job)

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout that fits."""
        self._is_low = event.size.height < _LOW_ROWS
        self.set_class(self._is_low, "-low")
        self._show()
        self.call_after_refresh(self._show_keys)

    def _show_keys(self) -> None:
        keys = keys_text(self._operations, Context.BUILD)
        self.query_one(".dialog-box").border_subtitle = Content(keys).markup

    # --- steps --------------------------------------------------------------------------------

    def _current_step(self) -> BuildStep | None:
        """The step under the cursor; without one the bell rings."""
        progress, position = self.job.model.progress, self._position()
        if progress is None or position is None:
            self.app.bell()
            return None
        return progress.steps[position]

    def action_open_step(self) -> None:
        """Show the files of a finished step; of another one its log. From the graph: go to it."""
        step = self._current_step()
        if step is None:
            return
        row = self.steps.current
        if self.graph.has_focus:
            self.steps.focus()
            self._leave_graph()
            self.steps.go_to_step(step.position)
        elif step.state not in MADE or not isinstance(row, StepRow):
            self.action_open_log()
        elif step.is_empty or step.instruction == "FROM":
            nothing = "the files of its base are in the Images pane"
            text = nothing if step.instruction == "FROM" else "it has changed no files"
            self._operations.tell(f"{step.instruction}: {text}")
        else:
            from tui.screens.build_files import StepFilesScreen

            self.app.push_screen(StepFilesScreen(self._operations, self.job, step.position))

    def action_fold_step(self) -> None:
        """Show or hide what the step has written."""
        step = self._current_step()
        if step is None:
            return
        if not self.job.model.log(step.position).line_count:
            has_begun = step.state is not BuildStepState.QUEUED
            self._operations.tell("It has written nothing" if has_begun else "It has not begun yet")
            return
        self.job.model.toggle_fold(step.position)
        self.steps.go_to_step(step.position)
        self._show()

    def action_fold_steps(self) -> None:
        """Hide what all steps have written, or show it."""
        step = self._current_step()
        self.job.model.fold_all()
        if step is not None:
            self.steps.go_to_step(step.position)
        self._show()

    def action_open_log(self) -> None:
        """Show the whole log of the step."""
        step = self._current_step()
        if step is not None:
            from tui.screens.build_log import StepLogScreen

            self.app.push_screen(StepLogScreen(self._operations, self.job, step.position))

    def action_open_shell(self) -> None:
        """Open a shell in what the step has left."""
        step = self._current_step()
        if step is not None:
            self._operations.open_step_shell(self.job, step)

    def action_explain_step(self) -> None:
        """Say everything about the step."""
        progress, step = self.job.model.progress, self._current_step()
        if progress is not None and step is not None:
            lines = whole_step(self.job.model, step.position)
            title = f"Step {step_name(step, progress.stages)}"
            self.app.push_screen(ReadingScreen(title, _readable(lines)))

    def action_show_checks(self) -> None:
        """Show the warnings about the Dockerfile."""
        progress = self.job.model.progress
        if progress is None or not progress.warnings:
            self._operations.tell("The checks of the Dockerfile found nothing")
            return
        title = f"{len(progress.warnings)} warnings about {progress.dockerfile}"
        self.app.push_screen(ReadingScreen(title, _readable(warning_lines(progress))))

    def action_toggle_graph(self) -> None:
        """Go to the graph, and back; where there is little room one takes the other's place."""
        if self.has_class("-one-stage"):
            self._operations.tell("It has one stage: there is no graph")
        elif self.graph.has_focus:
            self._leave_graph()
            self.steps.focus()
        else:
            self.add_class("-graph")
            self.app.stylesheet.update(self)  # what is not displayed cannot have the focus
            self.graph.focus()
            self.call_after_refresh(self._show_about)

    def _leave_graph(self) -> None:
        self.remove_class("-graph")
        self.app.stylesheet.update(self)

    def action_filter_steps(self) -> None:
        """Ask for a text that steps and lines must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.steps.is_followed = not text
                self.steps.set_filter(text)
                self._show()

        prompt = PromptScreen("Filter", "Only steps and lines with:", value=self.steps.filter_text)
        self.app.push_screen(prompt, answered)

    def action_yank_step(self) -> None:
        """Choose what to copy."""
        progress, step = self.job.model.progress, self._current_step()
        if progress is None or step is None:
            return
        values = (
            ("instruction", step.text),
            ("error", step.error),
            ("chain id", step.chain_id or ""),
            ("image id", progress.image_id or ""),
            ("build id", progress.build_id),
        )
        choices = tuple(
            Choice(label=f"{label:<12} {clean(value, limit=100)}", value=value)
            for label, value in values
            if value
        )

        def answered(text: str | None) -> None:
            if text is not None:
                self.app.copy_to_clipboard(clean(text))

        self.app.push_screen(ChoiceScreen("Copy", choices), answered)

    # --- the build ----------------------------------------------------------------------------

    def action_cancel_build(self) -> None:
        """Cancel it, after asking."""
        self._operations.cancel_build(self.job)

    def action_build_again(self) -> None:
        """Build the same again, and show that."""
        if (job := self._operations.build_again(self.job)) is not None:
            self.show_job(job)

    def action_watch_build(self) -> None:
        """Build again whenever the context changes, or stop that."""
        self._operations.watch_build(self.job)

    def action_build(self) -> None:
        """Ask what to build, beginning with this build, and show that."""
        self._operations.ask_build(self.job.model.request, shown=self.show_job)

    def action_show_image(self) -> None:
        """Go to the image that was built."""
        progress = self.job.model.progress
        if progress is None or progress.image_id is None:
            self._operations.tell("There is no image yet")
            return
        self._operations.show_built_image(progress)

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of)
        self.app.push_screen(ReadingScreen("Keys", content))


_COLOURS = {
    "dim": "$secondary",
    "strong": "bold",
    "accent": "bold $accent",
    "bar": "$primary",
    "good": "$success",
    "warn": "$warning",
    "bad": "$error",
}


def _readable(lines: Iterable[tuple[Cell, ...]]) -> Content:
    """Lines of cells as a text to read."""
    return Content("\n").join(
        Content.assemble(
            *(
                Content.styled(cell.text, _COLOURS[cell.style]) if cell.style else cell.text
                for cell in line
            )
        )
        for line in lines
    )
