"""How an engine is opened, and what it does without being asked."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from engine.containers.background import tend_containers
from engine.containers.commit_freeze import thaw_after_lost_commits
from engine.containers.image_finder import hold_container_image
from engine.containers.network_changes import reconcile_networks
from engine.containers.removal import sweep_containers
from engine.containers.resumption import resume_containers
from engine.containers.rootfs import ContainerRootfs
from engine.containers.services import ContainerServices
from engine.containers.surroundings import Surroundings, prepare_surroundings
from engine.containers.table import DatabaseContainerTable
from engine.errors import EngineError
from engine.events import EventBus
from engine.images.library import ImageLibrary
from engine.network.attaching import NetworkAttacher
from engine.network.library import NetworkLibrary
from engine.runtime.supervisor import Supervisor
from engine.snapshots.writable import remove_tree
from engine.store.container_records import ContainerRecords
from engine.store.database import Database
from engine.store.event_log import EventTail, trim_event_log
from engine.store.network_records import NetworkRecords
from engine.store.staging import StagingArea
from engine.store.volume_records import VolumeRecords
from engine.volumes.library import VolumeLibrary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.interface import EngineApi
    from engine.runtime.launcher_process import LauncherProcess


from engine.api.archives import ArchiveCalls
from engine.api.builds import BuildCalls
from engine.api.catalogs import CatalogCalls
from engine.api.containers import ContainerCalls
from engine.api.copies import CopyCalls
from engine.api.images import ImageCalls
from engine.api.lifecycle import LifecycleCalls
from engine.api.networks import NetworkCalls
from engine.api.registry import RegistryCalls
from engine.api.sessions import SessionCalls
from engine.api.system import SystemCalls
from engine.api.volumes import VolumeCalls


class Engine(
    ImageCalls,
    BuildCalls,
    RegistryCalls,
    CatalogCalls,
    ArchiveCalls,
    ContainerCalls,
    SessionCalls,
    CopyCalls,
    LifecycleCalls,
    VolumeCalls,
    NetworkCalls,
    SystemCalls,
):
    """The real `EngineApi`."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        config: EngineConfig,
        launcher: LauncherProcess | None = None,
        *,
        only_looks: bool = False,
    ) -> AsyncIterator[Engine]:
        """Hold an engine. Leaving the block, in whatever way, leaves its containers running.

        Args:
            config: Where its store is.
            launcher: One that was started already; it becomes the engine's.
            only_looks: A launcher is started when something needs it, and not ahead.

        Raises:
            StoreError: The store cannot be used.
            FeatureUnavailableError: The host lacks what nothing works without.
        """
        async with contextlib.AsyncExitStack() as stack:
            if launcher is not None:
                stack.push_async_callback(launcher.end)
            surroundings = await asyncio.to_thread(prepare_surroundings, config)
            supervisor = await stack.enter_async_context(
                Supervisor.open(surroundings.mapping, launcher)
            )
            if not only_looks:
                # It loads while the store is opened and looked through.
                starting = asyncio.create_task(_start_launcher(supervisor))
                stack.push_async_callback(_cancel, starting)
            database = await stack.enter_async_context(await Database.open(config.database_path))
            events = EventBus()
            stack.callback(events.close)
            engine = cls._assemble(config, surroundings, supervisor, database, events)
            stack.callback(engine._services.close)
            stack.push_async_callback(engine._services.staging.finish)
            stack.callback(engine._stats.close)
            stack.callback(engine._images.close)
            stack.push_async_callback(engine._close_builds)
            await asyncio.to_thread(trim_event_log, config.events_path)
            await stack.enter_async_context(EventTail(config.events_path, events))
            await sweep_containers(engine._services)
            with contextlib.suppress(EngineError):
                await engine._services.attacher.sweep()
            await resume_containers(engine._services)
            stack.callback(supervisor.dismiss_launcher)
            # It would start another one.
            stack.push_async_callback(engine._close_lanes)
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
        volumes = VolumeLibrary(
            config=config,
            records=VolumeRecords(database),
            staging=staging,
            runner=supervisor,
            remove_tree=remove,
        )
        network_records = NetworkRecords(database)
        networks = NetworkLibrary(config, network_records)
        rootfs = ContainerRootfs(config=config, runner=supervisor, is_rootless=is_rootless)
        services = ContainerServices(
            config=config,
            table=DatabaseContainerTable(ContainerRecords(database)),
            runtime=supervisor,
            rootfs=rootfs,
            volumes=volumes,
            networks=networks,
            attacher=NetworkAttacher(
                config=config, library=networks, records=network_records, is_rootless=is_rootless
            ),
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
            volumes=volumes,
            events=events,
            database=database,
            network_records=network_records,
        )

    async def _work_in_background(self) -> None:
        """Everything that the engine does without being asked; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep())
            tasks.create_task(tend_containers(self._services, self._events))

    async def _sweep(self) -> None:
        """Remove what crashes left."""
        with contextlib.suppress(EngineError):
            await thaw_after_lost_commits(self._services)
        with contextlib.suppress(EngineError):
            await reconcile_networks(self._services)
        with contextlib.suppress(EngineError):
            await self._services.staging.sweep()
            await self._images.sweep()
            await self._volumes.sweep()


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
