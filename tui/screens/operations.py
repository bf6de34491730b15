"""How a screen asks the engine for something: progress, cancel, and an answer in every case."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from textual.screen import Screen

from engine.errors import EngineError
from tui.messages import OperationProgress, TransferProgress
from tui.sanitise import clean
from tui.transfers import total_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from textual.worker import Worker

    from engine.api import EngineApi
    from engine.operations import Progress, ProgressListener
    from engine.types import Digest, LayerTransfer, TransferListener
    from tui.bridge import Bridge
    from tui.screens.dialogs import OperationDialog
    from tui.transfers import TransferMeter

Result = TypeVar("Result")

PROGRESS_AFTER_SECONDS = 0.5
WORKING = "Working ..."


@dataclass(slots=True, kw_only=True, eq=False)
class _Operation:
    """A call that goes on, and how far it is."""

    title: str
    waits_for: str = WORKING
    when_cancelled: str = ""
    """What to say besides of one that has moved something."""
    progress: Progress | None = None
    meter: TransferMeter | None = None
    dialog: OperationDialog | None = None
    show_again: Callable[[], None] | None = None
    """Set while it goes on behind no dialog."""

    def make_dialog(self) -> OperationDialog:
        """Make what shows it."""
        if self.meter is not None:
            from tui.screens.transfer_dialog import TransferScreen

            return TransferScreen(self.title, self.meter)
        from tui.screens.dialogs import ProgressScreen

        return ProgressScreen(self.title, self.progress, waits_for=self.waits_for)

    def describe(self) -> str:
        """How far it is, in few words."""
        if self.meter is not None:
            return total_text(self.meter.total(now=time.monotonic()))
        if self.progress is None:
            return ""
        if not self.progress.total:
            return self.progress.step
        return f"{self.progress.step}  {100 * self.progress.done // self.progress.total} %"


class OperationScreen(Screen[None]):
    """A screen that runs operations of the engine."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self.bridge = bridge
        self._operation_ids = itertools.count(1)
        self._operations: dict[int, _Operation] = {}

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

    def tell_error(self, error: EngineError, *, remark: str = "") -> None:
        """Say what failed and what can be done about it."""
        lines = (clean(error.message, limit=600), clean(error.hint, limit=400), remark)
        message = "\n".join(line for line in lines if line)
        self.app.notify(message, title="Failed", severity="error", timeout=10, markup=False)

    def tell(
        self, message: str, *, remark: str = "", is_warning: bool = False, seconds: float = 4
    ) -> None:
        """Say what was done."""
        self.app.notify(
            "\n".join(clean(line, limit=600) for line in (message, remark) if line),
            severity="warning" if is_warning else "information",
            timeout=seconds,
            markup=False,
        )

    async def choose_platform(self, title: str, platforms: tuple[str, ...]) -> str | None:
        """Have the person choose one of some platforms; None if they do not."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def answered(platform: str | None) -> None:
            if not answer.done():
                answer.set_result(platform)

        choices = tuple(Choice(label=clean(one, limit=80), value=one) for one in platforms)
        self.app.push_screen(ChoiceScreen(title, choices), answered)
        return await answer

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

        def listen(progress: Progress) -> None:
            self.bridge.publish(
                f"progress:{operation_id}",
                OperationProgress(operation_id=operation_id, progress=progress),
            )

        operation = _Operation(title=title, waits_for=waits_for)
        return await self._run_operation(
            operation_id, operation, lambda engine: call(engine, listen)
        )

    async def transfer(
        self,
        title: str,
        call: Callable[[EngineApi, TransferListener], Awaitable[Result]],
        *,
        meter: TransferMeter,
        when_cancelled: str,
    ) -> Result | None:
        """Run a pull or a push; after half a second show its layers with a cancel.

        Args:
            title: What is done.
            call: Does it.
            meter: Takes note of the layers.
            when_cancelled: What to say of one that has moved something.

        Returns:
            The result, or None when it was cancelled.

        Raises:
            EngineError: The call failed.
        """
        operation_id = next(self._operation_ids)
        positions: dict[Digest, int] = {}

        def listen(transfer: LayerTransfer) -> None:
            position = positions.setdefault(transfer.digest, len(positions))
            self.bridge.publish(
                f"transfer:{operation_id}:{position}",
                TransferProgress(operation_id=operation_id, position=position, transfer=transfer),
            )

        operation = _Operation(title=title, when_cancelled=when_cancelled, meter=meter)
        return await self._run_operation(
            operation_id, operation, lambda engine: call(engine, listen)
        )

    async def _run_operation(
        self,
        operation_id: int,
        operation: _Operation,
        call: Callable[[EngineApi], Awaitable[Result]],
    ) -> Result | None:
        self._operations[operation_id] = operation
        task = asyncio.ensure_future(self.bridge.call(call))
        try:
            done, _ = await asyncio.wait({task}, timeout=PROGRESS_AFTER_SECONDS)
            if not done:
                self._open_dialog(operation, task)
                await asyncio.wait({task})
            if task.cancelled():
                has_moved = operation.meter is not None and operation.meter.has_moved
                self.tell(
                    f"Cancelled: {operation.title}",
                    remark=operation.when_cancelled if has_moved else "",
                    is_warning=True,
                    seconds=6,
                )
                return None
            return task.result()
        finally:
            task.cancel()
            self._operations.pop(operation_id, None)
            if operation.dialog is not None:
                operation.dialog.finish()
            if operation.show_again is not None:
                operation.show_again = None
                self.background_changed()

    def _open_dialog(self, operation: _Operation, task: asyncio.Future[Result]) -> None:
        dialog = operation.dialog = operation.make_dialog()
        if operation.show_again is not None:
            operation.show_again = None
            self.background_changed()

        def answered(answer: str | None) -> None:
            operation.dialog = None
            if answer == "cancel":
                task.cancel()
            elif not task.done():
                operation.show_again = lambda: self._open_dialog(operation, task)
                self.background_changed()

        self.app.push_screen(dialog, answered)

    @property
    def background_count(self) -> int:
        """How many operations go on behind no dialog."""
        return sum(one.show_again is not None for one in self._operations.values())

    @property
    def background_titles(self) -> tuple[str, ...]:
        """What goes on behind no dialog."""
        running = self._operations.values()
        return tuple(one.title for one in running if one.show_again is not None)

    def background_changed(self) -> None:
        """Say how many operations go on in the background."""
        raise NotImplementedError

    def action_background(self) -> None:
        """Show an operation of the background again, with its cancel; of several, choose one."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        running = {
            str(operation_id): operation
            for operation_id, operation in self._operations.items()
            if operation.show_again is not None
        }

        def answered(operation_id: str | None) -> None:
            operation = running.get(operation_id or "")
            if operation is None:
                return
            if operation.show_again is None:
                self.tell("That has ended meanwhile")
            else:
                operation.show_again()

        if not running:
            self.tell("Nothing goes on in the background")
        elif len(running) == 1:
            answered(next(iter(running)))
        else:
            choices = tuple(
                Choice(label=f"{operation.title}  {operation.describe()}", value=operation_id)
                for operation_id, operation in running.items()
            )
            self.app.push_screen(ChoiceScreen("In the background", choices), answered)

    def show_progress(self, state: OperationProgress | TransferProgress) -> None:
        """Take note of how far an operation is; its dialog, if it has one, shows it."""
        operation = self._operations.get(state.operation_id)
        if operation is None:
            return
        if isinstance(state, OperationProgress):
            operation.progress = state.progress
        elif operation.meter is not None:
            operation.meter.take(state.transfer, position=state.position, now=time.monotonic())
        if operation.dialog is not None:
            operation.dialog.show_newest(operation.progress)
