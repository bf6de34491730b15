"""One build as the interface knows it: what it was told, put together."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from engine.types import BuildStatus, BuildStepState
from tui.builds.compare import counterparts
from tui.builds.step_log import StepLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.errors import EngineError
    from engine.types import BuildProgress, BuildRequest, BuildStep
    from tui.builds.funnel import BuildNews


class Fold(Enum):
    """How much of a step's log is shown below it."""

    AUTOMATIC = "automatic"
    """The end of it while the step runs and when it has failed."""
    OPEN = "open"
    CLOSED = "closed"


class BuildModel:
    """A build that this application has asked for, or one that it has read about.

    Args:
        request: What was asked; None of a build that somebody else asked for.
        progress: What is known of it from the start.
    """

    def __init__(
        self, request: BuildRequest | None = None, *, progress: BuildProgress | None = None
    ) -> None:
        self.request = request
        self._progress = progress
        self._steps: list[BuildStep] = list(progress.steps) if progress else []
        self._logs: dict[int, StepLog] = {}
        self._folds: dict[int, Fold] = {}
        self._before: Mapping[int, BuildStep] = {}
        self._previous: BuildProgress | None = None
        self.error: EngineError | None = None
        """Why there is no image; also of a build that ended before it had a step."""
        self.was_cancelled = False

    # --- what is known ------------------------------------------------------------------------

    @property
    def progress(self) -> BuildProgress | None:
        """The build at this moment; None before it said anything."""
        progress = self._progress
        return None if progress is None else replace(progress, steps=tuple(self._steps))

    @property
    def build_id(self) -> str:
        """The engine's; empty before it said anything."""
        return "" if self._progress is None else self._progress.build_id

    @property
    def title(self) -> str:
        """What it is called: its first name, or what it is made from; unclean."""
        if self._progress is not None and self._progress.names:
            return self._progress.names[0]
        request = self.request
        if request is not None:
            return request.names[0] if request.names else f"{request.context}"
        return self._progress.dockerfile if self._progress is not None else ""

    @property
    def status(self) -> BuildStatus:
        """What has become of it."""
        if self.was_cancelled:
            return BuildStatus.CANCELLED
        if self.error is not None:
            return BuildStatus.FAILED
        return BuildStatus.RUNNING if self._progress is None else self._progress.status

    @property
    def is_running(self) -> bool:
        """Whether something more may come of it."""
        return self.status is BuildStatus.RUNNING

    @property
    def steps(self) -> tuple[BuildStep, ...]:
        """Every step at this moment."""
        return tuple(self._steps)

    def log(self, position: int) -> StepLog:
        """What a step has written, as far as it is kept here."""
        return self._logs.get(position) or StepLog()

    @property
    def failed_step(self) -> BuildStep | None:
        """The step for which there is no image."""
        return next((one for one in self._steps if one.state is BuildStepState.FAILED), None)

    @property
    def previous(self) -> BuildProgress | None:
        """The build that this one is compared with."""
        return self._previous

    @property
    def before(self) -> Mapping[int, BuildStep]:
        """By position: what each step was in the build before."""
        return self._before

    # --- what happens -------------------------------------------------------------------------

    def take(self, news: BuildNews) -> None:
        """Put in what was told."""
        if news.whole is not None:
            is_planned = len(news.whole.progress.steps) != len(self._steps)
            self._progress = news.whole.progress
            self._steps = list(news.whole.progress.steps)
            if is_planned:
                self._compare()
        for changed in news.steps:
            if 0 <= changed.step.position < len(self._steps):
                self._steps[changed.step.position] = changed.step
        for position, lost_bytes in news.lost_bytes.items():
            self._log(position).lost_bytes += lost_bytes
        for output in news.output:
            self._log(output.position).write(output.stream, output.data)

    def _log(self, position: int) -> StepLog:
        return self._logs.setdefault(position, StepLog())

    def compare_with(self, previous: BuildProgress | None) -> None:
        """Say which build was there before this one."""
        self._previous = previous
        self._compare()

    def _compare(self) -> None:
        progress, previous = self.progress, self._previous
        self._before = {}
        if progress is not None and previous is not None:
            self._before = counterparts(progress, previous)

    # --- folds --------------------------------------------------------------------------------

    def fold(self, position: int) -> Fold:
        """How much of the step's log is shown."""
        return self._folds.get(position, Fold.AUTOMATIC)

    def is_log_shown(self, position: int) -> bool:
        """Whether anything of it is shown."""
        fold = self.fold(position)
        if fold is Fold.AUTOMATIC:
            return self._steps[position].state in (BuildStepState.RUNNING, BuildStepState.FAILED)
        return fold is Fold.OPEN

    def toggle_fold(self, position: int) -> None:
        """Show the whole log of a step; or none of it."""
        is_open = self.fold(position) is Fold.OPEN
        self._folds[position] = Fold.CLOSED if is_open else Fold.OPEN

    def fold_all(self) -> None:
        """Close every log; if none is open, open them all."""
        shown = any(self.is_log_shown(step.position) for step in self._steps)
        wanted = Fold.CLOSED if shown else Fold.OPEN
        self._folds = {step.position: wanted for step in self._steps}
