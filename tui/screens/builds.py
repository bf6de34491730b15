"""All builds: those that run, those of this application, and those that the store remembers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content

from engine.errors import EngineError
from tui.builds.jobs import BuildJob, written_job
from tui.builds.texts import added_bytes, build_seconds
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.build_actions import changed_text, made_and_cached
from tui.screens.dialogs import Dialog, PromptScreen, ReadingScreen
from tui.screens.help import help_content
from tui.screens.registry import failure_text, keys_text
from tui.widgets.builds import BuildList, BuildSummaryRow
from tui.widgets.rows import RowList

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.worker import Worker

    from engine.types import BuildProgress
    from tui.screens.tools import ToolScreen

_CLOCK_SECONDS = 1.0
_NOTHING = "No builds yet\n\nb  builds an image from a Dockerfile"


class BuildsScreen(Dialog[None]):
    """A row for each build; what goes on shows at once."""

    CONTEXTS: tuple[Context, ...] = (Context.BUILDS, Context.LISTS)
    LEFT_OUT: frozenset[str] = frozenset()
    BINDINGS = [*bindings_of(Context.BUILDS)]

    def __init__(self, operations: ToolScreen) -> None:
        """Show the builds.

        Args:
            operations: Runs and keeps them.
        """
        super().__init__("Builds")
        self._operations = operations
        self._written: tuple[BuildProgress, ...] = ()
        self._loading: Worker[None] | None = None
        self._opened: dict[str, BuildJob] = {}
        """Of the store, and looked at here: their folds stay."""
        self.list = BuildList(id="builds")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=keys_text(self._operations, Context.BUILDS))
        box.add_class("-list")
        with box:
            yield self.list

    def on_mount(self) -> None:
        """Show what runs here, and read what there is besides."""
        self.list.set_empty_text("Reading the builds ...")
        self.list.focus()
        self._show()
        self.action_refresh_builds()
        self.set_interval(_CLOCK_SECONDS, self._tick)

    @property
    def context_view(self) -> BuildList:
        """The builds."""
        return self.list

    # --- what is shown ------------------------------------------------------------------------

    def shows_build(self, job: BuildJob) -> bool:
        """Whether the person sees now how a build ends: only that it has."""
        del job
        return False

    def follow_build(self, before: BuildJob, job: BuildJob) -> bool:
        """Both have rows of their own."""
        del before, job
        return False

    def build_changed(self, _job: BuildJob) -> None:
        """Show the newest state."""
        if self.is_mounted:
            self._show()

    def action_refresh_builds(self) -> None:
        """Read the builds of the store afresh."""
        self._loading = self.run_worker(
            self._load(), group="builds", exclusive=True, exit_on_error=False
        )

    async def _load(self) -> None:
        try:
            self._written = await self._operations.bridge.call(lambda engine: engine.list_builds())
        except EngineError as error:
            self.list.set_empty_text(failure_text(error))
            return
        for progress in self._written:
            opened = self._opened.setdefault(progress.build_id, written_job(progress))
            opened.renew(progress)
        self.list.set_empty_text(_NOTHING)
        self._show()

    def _jobs(self) -> list[BuildJob]:
        """Every build once: those of this application have more to say of themselves."""
        own = self._operations.build_jobs
        known = {job.model.build_id for job in own}
        others = [
            self._opened[progress.build_id]
            for progress in self._written
            if progress.build_id not in known
        ]
        jobs = sorted((*own, *others), key=lambda job: -_started_at(job))
        return sorted(jobs, key=lambda job: not job.model.is_running)

    def _show(self) -> None:
        now = time.time()
        self.list.set_rows(tuple(_row(job, now) for job in self._jobs()))
        self._show_title()

    def _show_title(self) -> None:
        text = self.list.filter_text
        count = f"{len(self.list.rows)} of " if text else ""
        title = f"Builds  {count}{self.list.total_count}"
        if text:
            title += f"  filter: {clean(text, limit=40)}"
        markup = Content(title).markup
        box = self.query_one(".dialog-box")
        if box.border_title != markup:
            box.border_title = markup

    def _tick(self) -> None:
        if not self.is_active:
            return
        if self._operations.running_builds:
            self._show()
        # Other applications tell of theirs as often.
        if self._loading is None or self._loading.is_finished:
            self.action_refresh_builds()

    @on(RowList.Highlighted, "#builds")
    def _build_highlighted(self) -> None:
        self._show_title()

    # --- keys ---------------------------------------------------------------------------------

    def _current(self) -> BuildJob | None:
        row = self.list.current
        job = next((job for job in self._jobs() if row is not None and job.key == row.key), None)
        if job is None:
            self.app.bell()
        return job

    def action_open_build(self) -> None:
        """Show the steps of the build."""
        if (job := self._current()) is not None:
            self._operations.show_build(job)

    def action_build(self) -> None:
        """Ask what to build, beginning with the build under the cursor."""
        row = self.list.current
        job = next((job for job in self._jobs() if row is not None and job.key == row.key), None)
        self._operations.ask_build(None if job is None else job.model.request)

    def action_build_again(self) -> None:
        """Build the same again, and show that."""
        if (job := self._current()) is not None:
            again = self._operations.build_again(job)
            if again is not None:
                self._operations.show_build(again)

    def action_watch_build(self) -> None:
        """Build again whenever the context changes, or stop that."""
        if (job := self._current()) is not None:
            self._operations.watch_build(job)
            self._show()

    def action_cancel_build(self) -> None:
        """Cancel the build, after asking."""
        if (job := self._current()) is not None:
            self._operations.cancel_build(job)

    def action_filter_builds(self) -> None:
        """Ask for a text that rows must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.list.set_filter(text)
                self.list.set_empty_text(
                    "Nothing passes the filter; / then enter clears it" if text else _NOTHING
                )
                self._show_title()

        prompt = PromptScreen("Filter", "Only builds with:", value=self.list.filter_text)
        self.app.push_screen(prompt, answered)

    def action_help(self) -> None:
        """Show the keys of this screen."""
        content = help_content(self.CONTEXTS, self._operations.keys_of)
        self.app.push_screen(ReadingScreen("Keys", content))


def _started_at(job: BuildJob) -> float:
    progress = job.model.progress
    return time.time() if progress is None else progress.started_at


def _row(job: BuildJob, now: float) -> BuildSummaryRow:
    model, progress = job.model, job.model.progress
    made, cached = made_and_cached(model)
    remark = changed_text(job)
    if model.error is not None:
        remark = model.error.message
    elif progress is not None and progress.error:
        remark = progress.error
    elif model.failed_step is not None:
        remark = model.failed_step.text
    return BuildSummaryRow(
        key=job.key,
        title=model.title or "no name",
        status=model.status,
        started_at=_started_at(job),
        seconds=0.0 if progress is None else round(build_seconds(progress, now=now), 1),
        step_count=len(model.steps),
        made_count=made,
        cached_count=cached,
        added_bytes=added_bytes(model.steps),
        remark=remark,
        is_watched=job.watch is not None,
    )
