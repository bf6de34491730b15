"""What can be asked about programs in containers: exec, attach, terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.types import ExecRequest, SessionOutput, TerminalSize


class Session(Protocol):
    """A connection to a program in a container, which ends with its block.

    The container's own program goes on. One that `exec` started cannot be reached again: its
    terminal is hung up, as when a window is closed, unless `detach` was called; without a terminal
    its stdin ends.
    """

    @property
    def has_terminal(self) -> bool:
        """Whether the program has a terminal: its output is then one stream, for an emulator."""

    @property
    def exit_code(self) -> int | None:
        """How the program ended; None while it runs, or when that is not known here."""

    async def read(self) -> SessionOutput | None:
        """Wait for output; None when there will be no more.

        What was written before the session began comes first, marked as replay. A reader that is
        slow slows the program down; one that stops reading is let go after a while and gets
        `SessionLostError`.
        """

    async def write(self, data: bytes) -> None:
        """Send input; returns when it is on its way, and waits while the program does not read."""

    async def end_input(self) -> None:
        """Close the program's stdin; without effect on a terminal."""

    async def resize(self, size: TerminalSize) -> None:
        """Tell the terminal its size."""

    async def detach(self) -> None:
        """Let the program go on as it is when the block is left."""


class SessionApi(Protocol):
    """What can be asked about programs in containers."""

    def attach_container(
        self,
        reference: str,
        *,
        size: TerminalSize | None = None,
        has_replay: bool = True,
        is_from_start: bool = False,
    ) -> AbstractAsyncContextManager[Session]:
        """Connect to the container's own program.

        With `has_replay` the newest of what it has written comes first. With `is_from_start`,
        for who has just started it, all of that counts as output.

        Raises:
            ContainerStateError: The container does not run, or is paused.
        """

    def exec_container(
        self, reference: str, request: ExecRequest, *, size: TerminalSize | None = None
    ) -> AbstractAsyncContextManager[Session]:
        """Run another program in a running container and connect to it.

        Raises:
            ContainerStateError: The container does not run, or is paused.
            StartError: The program cannot be started (126, 127).
        """

    async def exec_detached(self, reference: str, request: ExecRequest) -> str:
        """Run another program in a running container without a connection; returns its exec id.

        Raises:
            ContainerStateError: The container does not run, or is paused.
            StartError: The program cannot be started (126, 127).
        """
