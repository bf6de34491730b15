"""What can be asked about containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from contextlib import AbstractAsyncContextManager

    from engine.types import (
        ContainerDetails,
        ContainerId,
        ContainerRequest,
        ContainerStats,
        ContainerSummary,
        CreatedContainer,
        ExitStatus,
        FileContent,
        FileTree,
        LayerChange,
        LogLine,
        ProcessInfo,
        PrunedContainers,
        PruneFilter,
        TerminalSize,
        WritableLayer,
    )


class ContainerApi(Protocol):
    """What can be asked about containers."""

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        """Every container, newest first, also those that do not run."""

    async def inspect_container(self, reference: str) -> ContainerDetails:
        """One container."""

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        """Make a container without starting it."""

    async def start_container(
        self, reference: str, *, terminal_size: TerminalSize | None = None
    ) -> None:
        """Start a created or exited container; returns when its program runs.

        Raises:
            StartError: The program could not be started (126, 127).
            ContainerStateError: It runs already (`is_already_done`), or is paused or removed.
        """

    async def stop_container(
        self, reference: str, *, timeout_seconds: float | None = None, signal: str | None = None
    ) -> ExitStatus:
        """Send the stop signal, then SIGKILL after the timeout, and wait for the end.

        None is the container's own timeout; -1 waits for ever; 0 kills at once. Cancelling does
        not undo a signal that was sent.
        """

    async def kill_container(self, reference: str, *, signal: str = "SIGKILL") -> None:
        """Send a signal to the first process; SIGKILL also waits until it has ended."""

    async def restart_container(
        self, reference: str, *, timeout_seconds: float | None = None
    ) -> None:
        """Stop if it runs, then start."""

    async def pause_container(self, reference: str) -> None:
        """Freeze every process of a running container."""

    async def unpause_container(self, reference: str) -> None:
        """Let a paused container go on."""

    async def wait_container(self, reference: str) -> ExitStatus:
        """Wait until a container does not run; at once when it does not.

        The end of a run is waited for, also if its restart policy has another one follow.
        """

    def hold_container(self, reference: str) -> AbstractAsyncContextManager[None]:
        """Keep a container that is to be removed on exit until the block is left.

        For who needs the log and the exit status of one that may end at any moment: enter before
        starting it. When the holder is killed, whoever looks next removes the container.
        """

    async def remove_container(
        self, reference: str, *, is_forced: bool = False, removes_volumes: bool = False
    ) -> None:
        """Remove a container with its writable layer and log; forced: kill it first.

        With `removes_volumes` the anonymous volumes go that no other container has. They always
        go with a container that was to be removed on exit.
        """

    async def prune_containers(self, wanted: PruneFilter) -> PrunedContainers:
        """Remove the containers that do not run; one that is started meanwhile is left."""

    async def rename_container(self, reference: str, name: str) -> None:
        """Give a container another name."""

    def follow_logs(
        self,
        reference: str,
        *,
        is_following: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """Yield the log in batches of at most 1,000 lines, oldest first.

        `tail` is the number of lines to begin with (None: all). Following ends when the
        container has ended and everything was yielded.
        """

    async def sample_stats(
        self, container_ids: Collection[ContainerId]
    ) -> tuple[ContainerStats, ...]:
        """Take one sample now of each container that runs; the others have none.

        CPU is counted since the sample before of the same container, if that was not long ago.
        """

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        """The processes of a running container."""

    async def list_changes(self, reference: str) -> tuple[LayerChange, ...]:
        """What the writable layer adds, changes and removes, sorted by path."""

    async def list_writable_files(self, reference: str) -> FileTree:
        """The writable layer as a file tree, marked against the image."""

    async def read_writable_file(self, reference: str, path: str) -> FileContent:
        """Read the beginning of a file of the writable layer, as it is now.

        Raises:
            FileNotInLayerError: The writable layer does not have it.
            InvalidInputError: It is no file: a directory, a link, a device, or removed.
        """

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        """Size and number of entries of the writable layer now."""
