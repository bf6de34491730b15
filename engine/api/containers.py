"""Calls about containers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.containers.removal import hold_container
from engine.containers.spec import LOG_FILE
from engine.containers.state_table import Operation, check
from engine.containers.states import status_of
from engine.errors import ContainerNotFoundError
from engine.logs.reader import follow_log, read_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from engine.containers.record import ContainerRecord
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

from engine.api.parts import EngineParts


class ContainerCalls(EngineParts):
    """`ContainerApi` over the container manager."""

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        """As EngineApi."""
        return await self._containers.list_summaries()

    async def inspect_container(self, reference: str) -> ContainerDetails:
        """As EngineApi."""
        return await self._containers.inspect(reference)

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        """As EngineApi."""
        return await self._containers.create(request)

    async def start_container(
        self, reference: str, *, terminal_size: TerminalSize | None = None
    ) -> None:
        """As EngineApi."""
        await self._containers.start(reference, terminal_size=terminal_size)

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

    async def remove_container(
        self, reference: str, *, is_forced: bool = False, removes_volumes: bool = False
    ) -> None:
        """As EngineApi."""
        await self._containers.remove(
            reference, is_forced=is_forced, removes_volumes=removes_volumes
        )

    async def prune_containers(self, wanted: PruneFilter) -> PrunedContainers:
        """As EngineApi."""
        from engine.containers.prune import prune_containers

        return await prune_containers(
            self._services, self._containers, wanted, measure=self._rootfs.measure
        )

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
            await self._containers.wait_for_end(record, is_over_restarts=True)

    async def sample_stats(
        self, container_ids: Collection[ContainerId]
    ) -> tuple[ContainerStats, ...]:
        """As EngineApi."""
        return await self._stats.sample(container_ids)

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

    async def read_writable_file(self, reference: str, path: str) -> FileContent:
        """As EngineApi."""
        record = await self._containers.find(reference)
        return await self._rootfs.read_file(self._supervisor, record, path)

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        """As EngineApi."""
        return await self._rootfs.measure(await self._containers.find(reference))
