"""From a build to what it has left: a shell in a step, and the image in the Images pane."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import StartError
from engine.types import BuildStepState, ContainerRequest, TerminalSize
from tui.builds.texts import MADE, step_name
from tui.sanitise import clean
from tui.screens.build_actions import BuildActions
from tui.screens.terminals import SHELLS, TERMINAL_TYPE, TerminalActions, run_attached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from engine.api import EngineApi, Session
    from engine.types import BuildProgress, BuildStep, CreatedContainer, ImageId
    from tui.builds.jobs import BuildJob

_COMMAND_NOT_FOUND = 127


@contextlib.asynccontextmanager
async def shell_of_image(
    engine: EngineApi,
    size: TerminalSize,
    *,
    image_id: ImageId,
    created: Callable[[CreatedContainer], None],
) -> AsyncIterator[Session]:
    """Run the first shell that the image has in a container that goes with it.

    `created` is told, on the engine's loop, what was made.
    """
    async with contextlib.AsyncExitStack() as stack:
        for shell in SHELLS:
            request = ContainerRequest(
                image=image_id,
                entrypoint=shell,
                environment=(TERMINAL_TYPE,),
                has_terminal=True,
                is_stdin_open=True,
                is_removed_on_exit=True,
            )
            try:
                session = await stack.enter_async_context(
                    run_attached(engine, size, request=request, created=created)
                )
            except StartError as error:
                if error.exit_code != _COMMAND_NOT_FOUND or shell is SHELLS[-1]:
                    raise
            else:
                break
        yield session


class BuildShellActions(BuildActions, TerminalActions):
    """Shells in steps, and the way to the image."""

    def open_step_shell(self, job: BuildJob, step: BuildStep) -> None:
        """Open a shell in what a step has left, whether it ended well or failed."""
        progress = job.model.progress
        if progress is None:
            return
        if step.state in MADE:
            self.run_task(lambda: self._shell_after(progress, step), group="terminal")
        elif step.state is BuildStepState.FAILED and progress.failed_image_id is not None:
            image_id = progress.failed_image_id
            self.run_task(lambda: self._shell(image_id, progress, step), group="terminal")
        elif step.state is BuildStepState.FAILED:
            others = "other steps are being ended" if job.is_running else "it had begun nothing"
            self.tell(f"What it has left is not there to look into: {others}", is_warning=True)
        else:
            self.tell(f"It is {step.state.value}: a shell needs a step that has ended")

    async def _shell_after(self, progress: BuildProgress, step: BuildStep) -> None:
        image_id = await self.operate(
            "Making an image of the step",
            lambda engine, _listen: engine.make_step_image(progress.build_id, step.position),
        )
        if image_id is not None:
            await self._shell(image_id, progress, step)

    async def _shell(self, image_id: ImageId, progress: BuildProgress, step: BuildStep) -> None:
        made: list[CreatedContainer] = []
        opener = partial(shell_of_image, image_id=image_id, created=made.append)
        name = f"step {step_name(step, progress.stages)}"
        if step.state is BuildStepState.FAILED:
            name = f"failed {name}"
        await self._run_terminal(self._new_terminal(opener, name, "shell"))

    def show_built_image(self, progress: BuildProgress) -> None:
        """Close what is above the dashboard and go to the image."""
        name = next(iter(progress.names), "")
        for _screen in self.app.screen_stack[1:]:
            self.app.pop_screen()
        self.images.set_filter("")
        self.select_row(self.images, f"{progress.image_id} {name}")
        self.action_pane("images")
        self.tell(f"{clean(name, limit=80) or 'The image'}: enter walks its layers", seconds=3)
