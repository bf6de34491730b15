"""Builds of this application: begun, followed, cancelled, watched; they go on behind any screen."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engine.errors import EngineError
from engine.types import BuildStatus
from tui.builds.compare import previous_build
from tui.builds.funnel import BuildFunnel
from tui.builds.jobs import BuildJob, ContextWatch
from tui.builds.model import BuildModel
from tui.builds.texts import MADE, build_seconds, seconds_text
from tui.messages import BuildTold
from tui.sanitise import clean
from tui.screens.paths import PathScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.types import BuildRequest, BuiltImage
    from tui.bridge import Bridge

SECONDS_BETWEEN_LOOKS = 0.1
"""What builds tell is taken in this often: a step that floods the screen does not hold up keys."""
_MOST_JOBS = 50
_MOST_PATHS_NAMED = 2


@runtime_checkable
class FollowsBuilds(Protocol):
    """A screen that shows something of builds."""

    def build_changed(self, job: BuildJob) -> None:
        """Show the newest state of a build, if it is shown here."""

    def shows_build(self, job: BuildJob) -> bool:
        """Whether the person sees this build now, and how it ends."""

    def follow_build(self, before: BuildJob, job: BuildJob) -> bool:
        """Show a build in place of the one before it, if that is shown here; whether it is."""


class BuildActions(PathScreen):
    """Runs builds and keeps them."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self.build_jobs: list[BuildJob] = []
        """Newest first."""
        self._build_numbers = itertools.count(1)
        self._told: set[str] = set()
        self._looked_at = 0.0
        self._is_look_due = False

    # --- what keys do -------------------------------------------------------------------------

    def action_build(self) -> None:
        """Ask what is to be built; the form begins with what was asked last."""
        last = next((job.model.request for job in self.build_jobs if job.model.request), None)
        self.ask_build(last)

    def ask_build(
        self, request: BuildRequest | None, *, shown: Callable[[BuildJob], None] | None = None
    ) -> None:
        """Ask what is to be built, then build it and show that.

        Args:
            request: What the form begins with.
            shown: Shows the build; None opens a screen for it.
        """
        from tui.screens.build_form import BuildFormScreen

        def answered(answer: tuple[BuildRequest, bool] | None) -> None:
            if answer is None:
                return
            wanted, is_watched = answer
            job = self.start_build(wanted)
            if is_watched:
                self.watch_build(job)
            (shown or self.show_build)(job)

        self.app.push_screen(BuildFormScreen(self, request), answered)

    def show_build(self, job: BuildJob) -> None:
        """Show a build; the screen with all the tools does."""
        raise NotImplementedError

    # --- running ------------------------------------------------------------------------------

    @property
    def running_builds(self) -> tuple[BuildJob, ...]:
        """Those that go on."""
        return tuple(job for job in self.build_jobs if job.is_running)

    @property
    def background_titles(self) -> tuple[str, ...]:
        """What ends with the application."""
        building = (f"Building {clean(job.model.title, limit=80)}" for job in self.running_builds)
        return (*super().background_titles, *building)

    def start_build(
        self, request: BuildRequest, *, changed_paths: tuple[str, ...] = ()
    ) -> BuildJob:
        """Begin a build; it goes on whatever is shown."""
        key = f"build-{next(self._build_numbers)}"
        funnel = BuildFunnel(lambda: self.bridge.publish(f"build:{key}", BuildTold(key=key)))
        job = BuildJob(key, BuildModel(request), funnel)
        job.changed_paths = changed_paths
        job.task = asyncio.ensure_future(
            self.bridge.call(lambda engine: engine.build_image(request, listener=funnel))
        )
        self.build_jobs.insert(0, job)
        for old in [one for one in self.build_jobs[_MOST_JOBS:] if not one.is_running]:
            self.build_jobs.remove(old)
        self.run_task(lambda: self._wait_for(job), group="build")
        self._show_job(job)
        return job

    async def _wait_for(self, job: BuildJob) -> None:
        task = job.task
        if task is None:
            return
        error: EngineError | None = None
        built: BuiltImage | None = None
        try:
            built = await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            job.model.was_cancelled = True
        except EngineError as failure:
            error = failure
        finally:
            task.cancel()
        job.take_news()
        job.model.error = error
        self._show_job(job)
        self._tell_end(job, built)
        if job.watch is not None:
            self._build_what_changed(job.watch)

    def take_build_news(self, key: str) -> None:
        """A build has told something; take it in now, or as soon as it is time again."""
        self._told.add(key)
        if self._is_look_due:
            return
        wait = self._looked_at + SECONDS_BETWEEN_LOOKS - time.monotonic()
        if wait <= 0:
            self._look()
        else:
            self._is_look_due = True
            self.set_timer(wait, self._look)

    def _look(self) -> None:
        self._is_look_due = False
        self._looked_at = time.monotonic()
        told, self._told = self._told, set()
        for job in self.build_jobs:
            if job.key in told:
                job.take_news()
                self._show_job(job)

    def _show_job(self, job: BuildJob) -> None:
        progress = job.model.progress
        if progress is not None and progress.names and not job.has_history:
            job.has_history = True
            self.run_task(lambda: self._compare(job), group="build-history")
        for screen in self.app.screen_stack:
            if isinstance(screen, FollowsBuilds):
                screen.build_changed(job)
        self.background_changed()

    async def _compare(self, job: BuildJob) -> None:
        progress = job.model.progress
        if progress is None:
            return
        name = progress.names[0]
        builds = await self.bridge.call(lambda engine: engine.list_builds(name))
        previous = previous_build(builds, progress)
        if previous is not None:
            job.model.compare_with(previous)
            for screen in self.app.screen_stack:
                if isinstance(screen, FollowsBuilds):
                    screen.build_changed(job)

    def renew_build(self, job: BuildJob) -> None:
        """Read of the store how far a build of another application is, and show that."""
        self.run_task(lambda: self._renew(job), group="build-elsewhere", is_exclusive=True)

    async def _renew(self, job: BuildJob) -> None:
        builds = await self.bridge.call(lambda engine: engine.list_builds())
        for progress in builds:
            if progress.build_id == job.model.build_id:
                job.renew(progress)
                self._show_job(job)

    def cancel_build(self, job: BuildJob) -> None:
        """End a build, after asking."""
        from tui.screens.dialogs import ConfirmScreen

        if not job.is_running:
            self.tell(
                "It runs in another application: cancel it there"
                if job.runs_elsewhere
                else "It has ended already"
            )
            return

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                job.cancel()

        running = sum(step.state.value == "running" for step in job.model.steps)
        text = (
            f"{running or 'No'} {'step' if running == 1 else 'steps'} running: what that has "
            "made is lost.\nSteps that are done stay in the cache and serve the next build."
        )
        title = f"Cancel building {clean(job.model.title, limit=80)}?"
        self.app.push_screen(ConfirmScreen(title, text, verb="cancel the build"), answered)

    def _tell_end(self, job: BuildJob, built: BuiltImage | None) -> None:
        """Say how it ended, unless that is on the screen."""
        screen = self.app.screen
        if isinstance(screen, FollowsBuilds) and screen.shows_build(job):
            return
        title = clean(job.model.title, limit=80)
        progress = job.model.progress
        took = ""
        if progress is not None:
            took = f" in {seconds_text(build_seconds(progress, now=time.time()))}"
        if built is not None:
            remark = f"{built.cached_count} of {built.step_count} steps were in the cache"
            self.tell(f"Built {title}{took}", remark=remark, seconds=6)
        elif job.model.status is BuildStatus.CANCELLED:
            self.tell(f"Cancelled: building {title}", is_warning=True, seconds=6)
        elif job.model.error is not None:
            self.tell_error(job.model.error, remark=f"Building {title} failed; 6 shows it")

    # --- watching -----------------------------------------------------------------------------

    def watch_build(self, job: BuildJob) -> None:
        """Build again whenever the context changes; or stop that."""
        request = job.model.request
        if job.watch is not None:
            self._stop_watching(job.watch)
            self.tell("Changes of the context do not begin a build any more")
            return
        if request is None:
            self.tell("Where its context is, is not known here; b asks for it", is_warning=True)
            return
        stopped = asyncio.Event()
        watch = ContextWatch(request, job, stop=stopped.set)
        job.watch = watch
        self.run_task(lambda: self._follow_context(watch, stopped), group="follow")
        self._show_job(job)

    async def _follow_context(self, watch: ContextWatch, stopped: asyncio.Event) -> None:
        following = asyncio.ensure_future(self._note_changes(watch))
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await following
        finally:
            following.cancel()
            stopping.cancel()
            self._stop_watching(watch)

    async def _note_changes(self, watch: ContextWatch) -> None:
        # What was changed since it was built is built now.
        progress = watch.latest.model.progress
        since = time.time() if progress is None else progress.started_at
        batches = self.bridge.stream(
            lambda engine: engine.watch_context(watch.request, since=since)
        )
        async for parts in batches:
            watch.note(tuple(path for part in parts for path in part))
            self._build_what_changed(watch)

    def _stop_watching(self, watch: ContextWatch) -> None:
        watch.stop()
        if watch.latest.watch is watch:
            watch.latest.watch = None
            self._show_job(watch.latest)

    def _build_what_changed(self, watch: ContextWatch) -> None:
        """Begin the next build, unless one runs: its end asks again."""
        before = watch.latest
        if before.watch is not watch or before.is_running:
            return
        paths = watch.take()
        if not paths:
            return
        before.watch = None
        job = self.start_build(watch.request, changed_paths=paths)
        watch.latest, job.watch = job, watch
        self._replace_shown(before, job)

    def _replace_shown(self, before: BuildJob, job: BuildJob) -> None:
        """Where the build before is shown, show the one that follows it."""
        for screen in self.app.screen_stack:
            if isinstance(screen, FollowsBuilds) and screen.follow_build(before, job):
                return
        self.tell(f"Building {clean(job.model.title, limit=80)} again: {changed_text(job)}")

    def build_again(self, job: BuildJob) -> BuildJob | None:
        """Begin the same build once more."""
        request = job.model.request
        if job.is_running:
            self.tell("It is being built")
            return None
        if request is None:
            self.tell("Where its context is, is not known here; b asks for it", is_warning=True)
            return None
        again = self.start_build(request)
        if job.watch is not None:
            again.watch, job.watch = job.watch, None
            again.watch.latest = again
        return again


def changed_text(job: BuildJob) -> str:
    """For what changes of the context a build was begun; clean."""
    paths = job.changed_paths
    named = ", ".join(clean(path, limit=80) for path in paths[:_MOST_PATHS_NAMED])
    left = len(paths) - _MOST_PATHS_NAMED
    verb = "changed" if paths else ""
    return f"{named}{f' and {left} more' if left > 0 else ''} {verb}".strip()


def made_and_cached(model: BuildModel) -> tuple[int, int]:
    """How many steps are there, and how many of them the cache had."""
    made = [step for step in model.steps if step.state in MADE]
    return len(made), sum(step.state.value == "cached" for step in made)
