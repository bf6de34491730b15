"""How a screen asks the engine for something: progress, cancel, and an answer in every case."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, TypeVar

from textual.screen import Screen

from engine.errors import EngineError
from tui.messages import OperationProgress
from tui.sanitise import clean

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from textual.worker import Worker

    from engine.api import EngineApi
    from engine.operations import Progress, ProgressListener
    from tui.bridge import Bridge
    from tui.screens.dialogs import ProgressScreen

Result = TypeVar("Result")

PROGRESS_AFTER_SECONDS = 0.5
WORKING = "Working ..."


class OperationScreen(Screen[None]):
    """A screen that runs operations of the engine."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge
        self._operation_ids = itertools.count(1)
        self._progress_screens: dict[int, ProgressScreen] = {}
        self._newest_progress: dict[int, Progress] = {}
        self._running_operations: set[int] = set()
        self._background: dict[int, Callable[[], None]] = {}
        """Operations that go on behind no dialog: what shows the dialog of each again."""

    def run_task(
        self,
        task: Callable[[], Coroutine[object, object, None]],
        *,
        group: str,
        is_exclusive: bool = False,
    ) -> None:
        """Run a coroutine as a worker; one that fails is told, and never ends the application.

        `task` makes the coroutine: a worker that is replaced before it began makes none.
        """

        async def work() -> None:
            try:
                await task()
            except EngineError as error:
                self.tell_error(error)

        _worker: Worker[None] = self.run_worker(
            work, group=group, exclusive=is_exclusive, exit_on_error=False
        )

    def tell_error(self, error: EngineError) -> None:
        """Say what failed and what can be done about it."""
        message = clean(error.message, limit=600)
        if error.hint:
            message += "\n" + clean(error.hint, limit=400)
        self.app.notify(message, title="Failed", severity="error", timeout=10, markup=False)

    def tell(self, message: str, *, is_warning: bool = False) -> None:
        """Say what was done."""
        self.app.notify(
            clean(message, limit=600),
            severity="warning" if is_warning else "information",
            timeout=4,
            markup=False,
        )

    async def operate(
        self,
        title: str,
        call: Callable[[EngineApi, ProgressListener], Awaitable[Result]],
        *,
        waits_for: str = WORKING,
    ) -> Result | None:
        """Run a call; after half a second show its progress with a cancel.

        Args:
            title: What is done.
            call: Does it.
            waits_for: What to say as long as it tells no progress.

        Returns:
            The result, or None when it was cancelled.

        Raises:
            EngineError: The call failed.
        """
        operation_id = next(self._operation_ids)
        self._running_operations.add(operation_id)

        def listen(progress: Progress) -> None:
            self.bridge.publish(
                f"progress:{operation_id}",
                OperationProgress(operation_id=operation_id, progress=progress),
            )

        task = asyncio.ensure_future(self.bridge.call(lambda engine: call(engine, listen)))
        try:
            done, _ = await asyncio.wait({task}, timeout=PROGRESS_AFTER_SECONDS)
            if not done:
                self._open_progress(operation_id, title, task, waits_for)
                await asyncio.wait({task})
            if task.cancelled():
                self.tell(f"Cancelled: {title}", is_warning=True)
                return None
            return task.result()
        finally:
            task.cancel()
            screen = self._progress_screens.pop(operation_id, None)
            if screen is not None:
                screen.finish()
            if self._background.pop(operation_id, None) is not None:
                self.background_changed()
            self._newest_progress.pop(operation_id, None)
            self._running_operations.discard(operation_id)

    def _open_progress(
        self, operation_id: int, title: str, task: asyncio.Future[Result], waits_for: str
    ) -> None:
        from tui.screens.dialogs import ProgressScreen

        screen = ProgressScreen(title, self._newest_progress.get(operation_id), waits_for=waits_for)
        self._progress_screens[operation_id] = screen

        def answered(answer: str | None) -> None:
            self._progress_screens.pop(operation_id, None)
            if answer == "cancel":
                task.cancel()
            elif not task.done():
                self._background[operation_id] = lambda: self._open_progress(
                    operation_id, title, task, waits_for
                )
                self.background_changed()

        self.app.push_screen(screen, answered)

    @property
    def background_count(self) -> int:
        """How many operations go on behind no dialog."""
        return len(self._background)

    def background_changed(self) -> None:
        """Say how many operations go on in the background."""
        raise NotImplementedError

    def action_background(self) -> None:
        """Show the newest operation of the background again, with its cancel."""
        if not self._background:
            self.tell("Nothing goes on in the background")
            return
        _, show_again = self._background.popitem()
        self.background_changed()
        show_again()

    def show_progress(self, state: OperationProgress) -> None:
        """Hand progress to the dialog of its operation, if there is one."""
        if state.operation_id in self._running_operations:
            self._newest_progress[state.operation_id] = state.progress
        screen = self._progress_screens.get(state.operation_id)
        if screen is not None:
            screen.show_progress(state.progress)
