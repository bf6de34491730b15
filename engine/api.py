"""The engine: `async with open_engine() as engine`.

It lives on one event loop. Containers outlive it: closing ends only its launcher and its tasks.
Any number of engines may be open over one store, in one process or in many.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Protocol

from engine.config import EngineConfig
from engine.containers.background import tend_containers
from engine.containers.demo import start_demo_containers
from engine.containers.image_finder import hold_container_image
from engine.containers.manager import ContainerManager
from engine.containers.removal import hold_container, sweep_containers
from engine.containers.rootfs import ContainerRootfs
from engine.containers.services import ContainerServices
from engine.containers.spec import LOG_FILE
from engine.containers.state_table import Operation, check
from engine.containers.states import status_of
from engine.containers.stats import StatsSampler
from engine.containers.surroundings import Surroundings, prepare_surroundings
from engine.containers.table import DatabaseContainerTable
from engine.errors import ContainerNotFoundError, EngineError
from engine.events import EventBus
from engine.images.library import ImageLibrary
from engine.interface import EngineApi
from engine.logs.reader import follow_log, read_log
from engine.operations import ProgressListener, ignore_progress
from engine.runtime.supervisor import Supervisor
from engine.snapshots.writable import remove_tree
from engine.store.container_records import ContainerRecords
from engine.store.database import Database
from engine.store.event_log import EventTail, trim_event_log
from engine.store.staging import StagingArea
from engine.types import DiskUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from engine.containers.record import ContainerRecord
    from engine.events import EventSubscription
    from engine.types import (
        ContainerDetails,
        ContainerId,
        ContainerRequest,
        ContainerStats,
        ContainerSummary,
        CreatedContainer,
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

__all__ = ["Engine", "EngineApi", "open_engine"]


class ImageOperations(Protocol):
    """What the engine needs of images; `EngineApi` says what each call does."""

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """Every image, newest first."""

    async def inspect(self, reference: str) -> ImageDetails:
        """One image with its config and its layers."""

    async def load(self, archive: Path, *, progress: ProgressListener) -> tuple[LoadedImage, ...]:
        """Load every image of an archive, or none."""

    async def make_starter(self, *, progress: ProgressListener) -> LoadedImage:
        """Make the starter image unless it is there."""

    async def make_demo(self, *, progress: ProgressListener) -> tuple[ContainerRequest, ...]:
        """Make the demo's image unless it is there; return the containers to start of it."""

    async def tag(self, source: str, target: str) -> None:
        """Give an image another name."""

    async def remove(self, reference: str, *, is_forced: bool) -> RemovedImage:
        """Take a name away, and delete the image with its last name."""

    async def list_layer_files(self, reference: str, position: int) -> FileTree:
        """The files of one history step, marked against the layers below it."""

    async def usage(self) -> tuple[int, int]:
        """Bytes of all layers and of all blobs."""

    async def sweep(self) -> None:
        """Remove what killed processes left."""

    def close(self) -> None:
        """Let go of threads."""


def open_engine(
    *, root: Path | None = None, run: Path | None = None
) -> AbstractAsyncContextManager[Engine]:
    """Open an engine over the store that arguments, environment or defaults name.

    Raises:
        StoreError: The store cannot be used; the hint says what to do.
        FeatureUnavailableError: The host lacks what nothing works without.
    """
    return Engine.open(EngineConfig.load(root=root, run=run))


class Engine:
    """The real `EngineApi`."""

    def __init__(
        self,
        *,
        report: HostReport,
        supervisor: Supervisor,
        services: ContainerServices,
        rootfs: ContainerRootfs,
        images: ImageOperations,
        events: EventBus,
    ) -> None:
        """For `open` only."""
        self._report = report
        self._supervisor = supervisor
        self._services = services
        self._rootfs = rootfs
        self._images = images
        self._events = events
        self._containers = ContainerManager(services, events)
        self._stats = StatsSampler(services)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, config: EngineConfig) -> AsyncIterator[Engine]:
        """Hold an engine. Leaving the block, in whatever way, leaves its containers running.

        Raises:
            StoreError: The store cannot be used.
            FeatureUnavailableError: The host lacks what nothing works without.
        """
        surroundings = await asyncio.to_thread(prepare_surroundings, config)
        async with contextlib.AsyncExitStack() as stack:
            supervisor = await stack.enter_async_context(Supervisor.open(surroundings.mapping))
            # It loads while the store is opened and looked through.
            launcher = asyncio.create_task(_start_launcher(supervisor))
            stack.push_async_callback(_cancel, launcher)
            database = await stack.enter_async_context(await Database.open(config.database_path))
            events = EventBus()
            stack.callback(events.close)
            engine = cls._assemble(config, surroundings, supervisor, database, events)
            stack.callback(engine._services.close)
            stack.callback(engine._stats.close)
            stack.callback(engine._images.close)
            await asyncio.to_thread(trim_event_log, config.events_path)
            await stack.enter_async_context(EventTail(config.events_path, events))
            await sweep_containers(engine._services)
            background = asyncio.create_task(engine._work_in_background())
            stack.push_async_callback(_cancel, background)
            yield engine

    @classmethod
    def _assemble(
        cls,
        config: EngineConfig,
        surroundings: Surroundings,
        supervisor: Supervisor,
        database: Database,
        events: EventBus,
    ) -> Engine:
        is_rootless = surroundings.mapping is not None

        async def remove(path: Path) -> None:
            await remove_tree(supervisor, path)

        staging = StagingArea(config.staging_directory, remove_tree=remove)
        images = ImageLibrary(
            config=config,
            database=database,
            staging=staging,
            runner=supervisor,
            is_rootless=is_rootless,
        )
        rootfs = ContainerRootfs(config=config, runner=supervisor, is_rootless=is_rootless)
        services = ContainerServices(
            config=config,
            table=DatabaseContainerTable(ContainerRecords(database)),
            runtime=supervisor,
            rootfs=rootfs,
            hold_image=functools.partial(hold_container_image, images),
            staging=staging,
            remove_tree=remove,
            cgroups=surroundings.cgroups,
            snapshotter=surroundings.report.snapshotter,
            is_rootless=is_rootless,
            has_seccomp=surroundings.has_seccomp,
        )
        return cls(
            report=surroundings.report,
            supervisor=supervisor,
            services=services,
            rootfs=rootfs,
            images=images,
            events=events,
        )

    async def _work_in_background(self) -> None:
        """Everything that the engine does without being asked; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            tasks.create_task(tend_containers(self._services, self._events))

    async def _sweep(self) -> None:
        """Remove what crashes left."""
        with contextlib.suppress(EngineError):
            await self._services.staging.sweep()
            await self._images.sweep()

    @property
    def host(self) -> HostReport:
        """As EngineApi."""
        return self._report

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        """As EngineApi."""
        return self._events.subscribe()

    # --- images -------------------------------------------------------------------------------

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """As EngineApi."""
        return await self._images.list_images()

    async def inspect_image(self, reference: str) -> ImageDetails:
        """As EngineApi."""
        return await self._images.inspect(reference)

    async def load_images(
        self, archive: Path, *, progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        """As EngineApi."""
        return await self._images.load(archive, progress=progress)

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        """As EngineApi."""
        return await self._images.make_starter(progress=progress)

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        """As EngineApi."""
        requests = await self._images.make_demo(progress=progress)
        return await start_demo_containers(self._containers, requests, progress=progress)

    async def tag_image(self, source: str, target: str) -> None:
        """As EngineApi."""
        await self._images.tag(source, target)

    async def remove_image(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        """As EngineApi."""
        return await self._images.remove(reference, is_forced=is_forced)

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        """As EngineApi."""
        return await self._images.list_layer_files(image_reference, position)

    # --- containers ---------------------------------------------------------------------------

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        """As EngineApi."""
        return await self._containers.list_summaries()

    async def inspect_container(self, reference: str) -> ContainerDetails:
        """As EngineApi."""
        return await self._containers.inspect(reference)

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        """As EngineApi."""
        return await self._containers.create(request)

    async def start_container(self, reference: str) -> None:
        """As EngineApi."""
        await self._containers.start(reference)

    async def stop_container(
        self, reference: str, *, timeout_seconds: float | None = None, signal: str | None = None
    ) -> ExitStatus:
        """As EngineApi."""
        return await self._containers.stop(
            reference, timeout_seconds=timeout_seconds, signal=signal
        )

    async def kill_container(self, reference: str, *, signal: str = "SIGKILL") -> None:
        """As EngineApi."""
        await self._containers.kill(reference, signal=signal)

    async def restart_container(
        self, reference: str, *, timeout_seconds: float | None = None
    ) -> None:
        """As EngineApi."""
        await self._containers.restart(reference, timeout_seconds=timeout_seconds)

    async def pause_container(self, reference: str) -> None:
        """As EngineApi."""
        await self._containers.pause(reference)

    async def unpause_container(self, reference: str) -> None:
        """As EngineApi."""
        await self._containers.unpause(reference)

    async def wait_container(self, reference: str) -> ExitStatus:
        """As EngineApi."""
        return await self._containers.wait(reference)

    @contextlib.asynccontextmanager
    async def hold_container(self, reference: str) -> AsyncIterator[None]:
        """As EngineApi."""
        async with hold_container(self._services, await self._containers.find(reference)):
            yield

    async def remove_container(self, reference: str, *, is_forced: bool = False) -> None:
        """As EngineApi."""
        await self._containers.remove(reference, is_forced=is_forced)

    async def rename_container(self, reference: str, name: str) -> None:
        """As EngineApi."""
        await self._containers.rename(reference, name)

    async def follow_logs(
        self,
        reference: str,
        *,
        is_following: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """As EngineApi."""
        record = await self._containers.find(reference)
        state = await self._containers.state(record)
        check(Operation.LOGS, status_of(state), container_id=record.container_id, name=record.name)
        path = str(self._services.config.container_directory(record.container_id) / LOG_FILE)
        if is_following:
            batches = follow_log(
                path,
                lambda: self._until_ended(record),
                tail=tail,
                since_ns=since_ns,
                until_ns=until_ns,
            )
        else:
            batches = read_log(path, tail=tail, since_ns=since_ns, until_ns=until_ns)
        async for batch in batches:
            yield batch

    async def _until_ended(self, record: ContainerRecord) -> None:
        # Waiting is given up when the engine is closed: then following ends too.
        with contextlib.suppress(ContainerNotFoundError):
            await self._containers.wait_for_end(record)

    async def follow_stats(self, reference: str) -> AsyncIterator[ContainerStats]:
        """As EngineApi."""
        record = await self._containers.find(reference)
        async for sample in self._stats.follow(record):
            yield sample

    async def sample_stats(self, container_id: ContainerId) -> ContainerStats | None:
        """As EngineApi."""
        return await self._stats.sample(container_id)

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        """As EngineApi."""
        return await self._containers.list_processes(reference)

    async def list_changes(self, reference: str) -> tuple[LayerChange, ...]:
        """As EngineApi."""
        return await self._rootfs.list_changes(await self._containers.find(reference))

    async def list_writable_files(self, reference: str) -> FileTree:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._rootfs.list_files(self._services, self._supervisor, record)

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        """As EngineApi."""
        return await self._rootfs.measure(await self._containers.find(reference))

    async def disk_usage(self) -> DiskUsage:
        """As EngineApi."""
        layers_bytes, blobs_bytes = await self._images.usage()
        containers_bytes = 0
        for record in await self._services.table.list():
            # One that is removed meanwhile occupies nothing.
            with contextlib.suppress(EngineError):
                containers_bytes += (await self._rootfs.measure(record)).size_bytes
        return DiskUsage(
            layers_bytes=layers_bytes, containers_bytes=containers_bytes, blobs_bytes=blobs_bytes
        )


async def _start_launcher(supervisor: Supervisor) -> None:
    """Start the launcher before it is needed; whoever needs it gets the error."""
    with contextlib.suppress(EngineError):
        await supervisor.ensure_launcher()


async def _cancel(task: asyncio.Task[None]) -> None:
    """End a task and wait for its end."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


if TYPE_CHECKING:

    def _engine_is_an_engine_api(engine: Engine) -> EngineApi:
        return engine
