"""What container operations need of the runtime; `engine.runtime.supervisor` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from engine.runtime.protocol import MonitorCall
    from engine.runtime.session_client import MonitorSession
    from engine.runtime.spec import ContainerSpec, StateRecord


class ContainerRuntime(Protocol):
    """Starts monitors and talks to those that run."""

    async def start(self, spec: ContainerSpec, *, reservation: int = -1) -> StateRecord:
        """Start a container; returns when its program runs.

        Raises:
            StartError: The program could not be started; the monitor has written down why.
            OperationInProgressError: A monitor holds the container's lock.
            LauncherError: The launcher is gone and could not be started again.
        """

    async def call(self, run_directory: Path, container_id: str, call: MonitorCall) -> StateRecord:
        """Ask a container's monitor; `stop` and SIGKILL answer when the container has ended.

        Raises:
            ContainerStateError: Nobody listens: the container does not run (any more).
            MonitorLostError: The monitor ended before it answered.
        """

    async def open_session(
        self, run_directory: Path, container_id: str, call: MonitorCall, *, has_terminal: bool
    ) -> tuple[MonitorSession, int]:
        """Connect to a program: the session, and the time that divides the log.

        Raises:
            ContainerStateError: Nobody listens, or the container is paused.
            StartError: The program could not be started.
            MonitorLostError: The monitor ended before it answered.
        """
