"""How steps of a build fail: said with their place in the Dockerfile, and what would help."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from engine.errors import BuildStepError, NoSpaceError

if TYPE_CHECKING:
    from pathlib import Path

    from engine.build.progress import BuildState
    from engine.build.solver import PreparedStep, StepResult
    from engine.errors import EngineError

_LITTLE_BYTES = 1 << 20
_FEW_INODES = 16
_LONGEST_SHOWN_COMMAND = 4000


class StepFailures:
    """Makes errors of steps, and tells a build's state of them."""

    def __init__(self, state: BuildState, *, dockerfile: str, root: Path) -> None:
        """For one build, whose layers are written below a root."""
        self._state = state
        self._dockerfile = dockerfile
        self._root = root

    def of_error(self, position: int, error: EngineError) -> BuildStepError:
        """Something went wrong in a step; what failed in a step below it stays that one's."""
        if isinstance(error, BuildStepError):
            return error
        step = self._state.step(position)
        self._state.fail(position, error=error.message)
        return BuildStepError(
            error.message,
            step_text=step.text,
            dockerfile=self._dockerfile,
            line=step.line,
            position=position,
            hint=error.hint,
        )

    async def of_exit(
        self, position: int, prepared: PreparedStep, result: StepResult
    ) -> BuildStepError:
        """The program of a step has failed."""
        step, exit_code = self._state.step(position), result.exit_code
        command = " ".join(prepared.inputs.arguments)
        if len(command) > _LONGEST_SHOWN_COMMAND:
            command = f"{command[:_LONGEST_SHOWN_COMMAND]}…"
        message = f'process "{command}" did not complete successfully: exit code: {exit_code}'
        self._state.fail(position, error=message, exit_code=exit_code, warnings=result.warnings)
        return BuildStepError(
            message,
            step_text=step.text,
            dockerfile=self._dockerfile,
            line=step.line,
            position=position,
            step_exit_code=exit_code,
            hint=await asyncio.to_thread(_full_disk_hint, self._root),
        )


def _full_disk_hint(root: Path) -> str:
    """What may have been the matter, if there is no room left; blocking."""
    disk = os.statvfs(root)
    is_full = disk.f_bavail * disk.f_frsize < _LITTLE_BYTES
    # A file system that makes inodes as it needs them says that it has none.
    has_no_inodes = disk.f_files > 0 and disk.f_favail < _FEW_INODES
    return f"The disk is full. {NoSpaceError(str(root)).hint}" if is_full or has_no_inodes else ""
