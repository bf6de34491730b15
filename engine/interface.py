"""The engine's face: what the application and the command line call.

`engine.api.Engine` is the real one; `tests/fakes.py` has one that answers from memory. Every
coroutine may raise `engine.errors.EngineError`. Where a docstring says nothing else, cancelling
a call leaves either the old state or the new one, never something between.

A `reference` is what a person types: a container's name, id or the beginning of its id; an
image's name with or without tag, its digest, its id or the beginning of its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.operations import ProgressListener, ignore_progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from engine.events import EventSubscription
    from engine.types import (
        ContainerDetails,
        ContainerId,
        ContainerRequest,
        ContainerStats,
        ContainerSummary,
        CreatedContainer,
        DiskUsage,
        ExitStatus,
        FileTree,
        HostReport,
        ImageDetails,
        ImageSummary,
        LayerChange,
        LoadedImage,
        LogLine,
        ProcessInfo,
        RemovedImage,
        WritableLayer,
    )


class EngineApi(Protocol):
    """Everything that can be asked of an engine."""

    @property
    def host(self) -> HostReport:
        """What the host gives, found out once at start."""

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """Subscribe to the events of this store, also those that other processes make."""

    # --- images -------------------------------------------------------------------------------

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """Every image, newest first."""

    async def inspect_image(self, reference: str) -> ImageDetails:
        """One image with its config and its layers."""

    async def load_images(
        self,
        archive: Path,
        *,
        progress: ProgressListener = ignore_progress,
    ) -> tuple[LoadedImage, ...]:
        """Load every image of a docker-archive, an OCI archive or an OCI layout directory.

        All of the archive or nothing. `archive` may also be a pipe (`/dev/stdin`).
        """

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        """Make the starter image `starter:latest` from the host's own programs."""

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        """Make the starter image, three layers on top (`demo:latest`), and start three containers.

        Doing it again gives the same: what is already there is kept or started again.
        """

    async def tag_image(self, source: str, target: str) -> None:
        """Give an image another name; the name moves if it was another image's."""

    async def remove_image(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        """Take a name away, and delete the image with its last name.

        By id: deletes the image if it has at most one name, or if forced. An image that a
        container needs is not deleted, forced or not, as long as a container is running.
        """

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it."""

    # --- containers ---------------------------------------------------------------------------

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        """Every container, newest first, also those that do not run."""

    async def inspect_container(self, reference: str) -> ContainerDetails:
        """One container."""

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        """Make a container without starting it."""

    async def start_container(self, reference: str) -> None:
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
        """Wait until a container does not run; at once when it does not."""

    def hold_container(self, reference: str) -> AbstractAsyncContextManager[None]:
        """Keep a container that is to be removed on exit until the block is left.

        For who needs the log and the exit status of one that may end at any moment: enter before
        starting it. When the holder is killed, whoever looks next removes the container.
        """

    async def remove_container(self, reference: str, *, is_forced: bool = False) -> None:
        """Remove a container with its writable layer and log; forced: kill it first."""

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

    def follow_stats(self, reference: str) -> AsyncIterator[ContainerStats]:
        """Yield a sample a second while the container runs."""

    async def sample_stats(self, container_id: ContainerId) -> ContainerStats | None:
        """Take one sample now; None if it does not run. CPU is counted since the sample before."""

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        """The processes of a running container."""

    async def list_changes(self, reference: str) -> tuple[LayerChange, ...]:
        """What the writable layer adds, changes and removes, sorted by path."""

    async def list_writable_files(self, reference: str) -> FileTree:
        """The writable layer as a file tree, marked against the image."""

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        """Size and number of entries of the writable layer now."""

    async def disk_usage(self) -> DiskUsage:
        """What the store occupies."""
