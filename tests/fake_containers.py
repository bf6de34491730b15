"""The containers of the fake engine: the real rules of states and requests, without processes."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal as signal_numbers
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.containers.names import check_container_name
from engine.containers.policies import merge_health
from engine.containers.request import ContainerProcess, check_request, merge_process
from engine.containers.state_table import Operation, Transition, check
from engine.errors import ContainerNotFoundError, InvalidInputError, NameInUseError
from engine.events import EventSubject
from engine.runtime.isolation import parse_signal
from engine.types import (
    ChainId,
    ContainerDetails,
    ContainerId,
    ContainerRequest,
    ContainerStatus,
    ContainerSummary,
    CreatedContainer,
    ExitStatus,
    LogLine,
    OutputStream,
    TerminalSize,
)
from tests.fake_archives import FakeArchives
from tests.fake_world import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.types import ContainerHealth, HealthCheck, ImageId

RUNNING = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


@dataclass
class FakeContainer:
    summary: ContainerSummary
    request: ContainerRequest
    process: ContainerProcess
    log: list[LogLine] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    writable_bytes: int = 12_000
    holders: int = 0
    health_check: HealthCheck | None = None
    health: ContainerHealth | None = None


class FakeContainers(FakeArchives):
    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[ContainerId, FakeContainer] = {}

    # --- what tests put in --------------------------------------------------------------------

    def add_container(
        self,
        name: str,
        *,
        image: str,
        status: ContainerStatus = ContainerStatus.RUNNING,
        exit_code: int | None = None,
        log: tuple[bytes, ...] = (),
    ) -> ContainerId:
        """Add a container in a state."""
        container = self._add(ContainerRequest(image=image, name=name), name)
        container.summary = replace(
            container.summary,
            status=status,
            started_at=None if status is ContainerStatus.CREATED else NOW,
            finished_at=NOW if exit_code is not None else None,
            exit_code=exit_code,
        )
        for text in log:
            self.write_log(name, text)
        return container.summary.container_id

    def write_log(self, reference: str, text: bytes, *, is_error: bool = False) -> None:
        """Let a container write a line."""
        container = self._find(reference)
        container.log.append(
            LogLine(
                stream=OutputStream.STDERR if is_error else OutputStream.STDOUT,
                timestamp_ns=int(NOW * 1e9) + len(container.log),
                text=text,
                is_partial=False,
            )
        )
        container.grown.set()

    def change_status(
        self, reference: str, status: ContainerStatus, action: str, *, exit_code: int | None = None
    ) -> None:
        """Put a container into a state and tell the subscribers."""
        self._change(
            self._find(reference),
            Transition(target=status, events=(action,)),
            exit_code=exit_code,
        )

    # --- the rules ----------------------------------------------------------------------------

    def _add(self, request: ContainerRequest, name: str) -> FakeContainer:
        image = self._find_image(request.image)
        container_id = ContainerId(self._new_hexadecimal())
        process = merge_process(image.config, request, container_id=container_id)
        summary = ContainerSummary(
            container_id=container_id,
            name=name,
            image=request.image,
            image_id=image.summary.image_id,
            command=shlex.join(process.arguments),
            created_at=NOW,
            status=ContainerStatus.CREATED,
            started_at=None,
            finished_at=None,
            exit_code=None,
            error="",
            is_out_of_memory_killed=False,
            is_removed_on_exit=request.is_removed_on_exit,
            labels=request.labels,
            mounts=request.mounts,
            has_terminal=request.has_terminal,
        )
        health_check = merge_health(image.config, request)
        container = FakeContainer(
            summary=summary, request=request, process=process, health_check=health_check
        )
        self.containers[container_id] = container
        return container

    def _find(self, reference: str) -> FakeContainer:
        for container in self.containers.values():
            summary = container.summary
            if summary.name == reference or summary.container_id.startswith(reference):
                return container
        raise ContainerNotFoundError(reference)

    def _users_of(self, image_id: ImageId) -> tuple[str, ...]:
        return tuple(
            container.summary.name
            for container in self.containers.values()
            if container.summary.image_id == image_id
        )

    def _check(self, operation: Operation, container: FakeContainer) -> Transition:
        summary = container.summary
        return check(
            operation, summary.status, container_id=summary.container_id, name=summary.name
        )

    def _apply(
        self, operation: Operation, container: FakeContainer, *, exit_code: int | None = None
    ) -> None:
        self._change(container, self._check(operation, container), exit_code=exit_code)

    def _change(
        self, container: FakeContainer, transition: Transition, *, exit_code: int | None
    ) -> None:
        """Go into a state; every event on the way is told, with the times that belong to it."""
        summary = container.summary
        for action in transition.events:
            if action == "start":
                summary = replace(summary, started_at=self._tick(), finished_at=None)
            if action == "die":
                summary = replace(summary, finished_at=self._tick())
        if transition.target is not None:
            summary = replace(summary, status=transition.target, exit_code=exit_code)
        else:
            del self.containers[summary.container_id]
            summary = replace(summary, status=ContainerStatus.DEAD)
            if exit_code is not None:
                summary = replace(summary, exit_code=exit_code)
        container.summary = summary
        container.grown.set()
        for action in transition.events:
            attributes = {"exitCode": str(exit_code)} if action == "die" else {}
            self._tell(container, action, **attributes)

    def _tell(self, container: FakeContainer, action: str, **attributes: str) -> None:
        summary = container.summary
        facts = {**dict(summary.labels), "image": summary.image, **attributes}
        self._emit(EventSubject.CONTAINER, action, summary.container_id, summary.name, **facts)

    def _remove_after_exit(self, container: FakeContainer) -> None:
        summary = container.summary
        is_wanted = summary.is_removed_on_exit and not container.holders
        if is_wanted and summary.status is ContainerStatus.EXITED:
            self._apply(Operation.REMOVE, container, exit_code=summary.exit_code)

    def _require_free(self, name: str) -> None:
        for other in self.containers.values():
            if other.summary.name == name:
                raise NameInUseError(name, other.summary.container_id)

    # --- EngineApi ----------------------------------------------------------------------------

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        return tuple(container.summary for container in self.containers.values())

    async def inspect_container(self, reference: str) -> ContainerDetails:
        container = self._find(reference)
        process = container.process
        return ContainerDetails(
            summary=container.summary,
            process_id=4242 if container.summary.status in RUNNING else None,
            arguments=process.arguments,
            environment=process.environment,
            working_directory=process.working_directory,
            user=process.user,
            hostname=process.hostname,
            labels=container.request.labels,
            limits=container.request.limits,
            is_read_only=container.request.is_read_only,
            has_terminal=container.request.has_terminal,
            is_stdin_open=container.request.is_stdin_open,
            stop_signal=process.stop_signal,
            stop_timeout_seconds=process.stop_timeout_seconds,
            snapshotter="overlay",
            chain_id=ChainId(f"sha256:{200:064x}"),
            cgroup="/lamella",
            log_path="/log",
            writable_layer_path="/upper",
            warnings=(),
            has_init=container.request.has_init,
            restart_policy=container.request.restart_policy,
            health_check=container.health_check,
            health=container.health,
            options=container.request.options,
            network=container.request.network,
        )

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        check_request(request)
        name = request.name or f"brave_lamport{len(self.containers) or ''}"
        await self._note("create", name)
        self._find_image(request.image)
        self._require_free(name)
        container = self._add(request, name)
        self._tell(container, "create")
        container_id = container.summary.container_id
        return CreatedContainer(container_id=container_id, name=name, warnings=())

    async def start_container(
        self, reference: str, *, terminal_size: TerminalSize | None = None
    ) -> None:
        container = self._find(reference)
        await self._note("start", container.summary.name)
        self._apply(Operation.START, container)

    async def stop_container(
        self, reference: str, *, timeout_seconds: float | None = None, signal: str | None = None
    ) -> ExitStatus:
        container = self._find(reference)
        await self._note("stop", container.summary.name)
        number = parse_signal(signal or container.process.stop_signal)
        exit_code = 128 + (signal_numbers.SIGKILL if timeout_seconds == 0 else number)
        self._apply(Operation.STOP, container, exit_code=exit_code)
        self._remove_after_exit(container)
        return ExitStatus(exit_code=exit_code)

    async def kill_container(self, reference: str, *, signal: str = "SIGKILL") -> None:
        container = self._find(reference)
        await self._note("kill", f"{container.summary.name} {signal}")
        number = parse_signal(signal)
        if number == signal_numbers.SIGKILL:
            self._apply(Operation.KILL, container, exit_code=128 + number)
            self._remove_after_exit(container)
        else:
            self._check(Operation.KILL, container)
            self._tell(container, "kill")

    async def restart_container(
        self, reference: str, *, timeout_seconds: float | None = None
    ) -> None:
        del timeout_seconds
        container = self._find(reference)
        await self._note("restart", container.summary.name)
        self._apply(Operation.RESTART, container)

    async def pause_container(self, reference: str) -> None:
        container = self._find(reference)
        await self._note("pause", container.summary.name)
        self._apply(Operation.PAUSE, container)

    async def unpause_container(self, reference: str) -> None:
        container = self._find(reference)
        await self._note("unpause", container.summary.name)
        self._apply(Operation.UNPAUSE, container)

    async def wait_container(self, reference: str) -> ExitStatus:
        container = self._find(reference)
        while container.summary.status in RUNNING:
            container.grown.clear()
            await container.grown.wait()
        self._remove_after_exit(container)
        return ExitStatus(exit_code=container.summary.exit_code or 0)

    @contextlib.asynccontextmanager
    async def hold_container(self, reference: str) -> AsyncIterator[None]:
        container = self._find(reference)
        container.holders += 1
        try:
            yield
        finally:
            container.holders -= 1
            self._remove_after_exit(container)

    async def remove_container(
        self, reference: str, *, is_forced: bool = False, removes_volumes: bool = False
    ) -> None:
        container = self._find(reference)
        await self._note("remove", f"{container.summary.name}{' forced' * is_forced}")
        operation = Operation.FORCE_REMOVE if is_forced else Operation.REMOVE
        is_running = container.summary.status in RUNNING
        exit_code = 128 + signal_numbers.SIGKILL if is_running else container.summary.exit_code
        self._apply(operation, container, exit_code=exit_code)

    async def rename_container(self, reference: str, name: str) -> None:
        container = self._find(reference)
        await self._note("rename", f"{container.summary.name} {name}")
        check_container_name(name)
        if container.summary.name == name:
            raise InvalidInputError("Renaming a container with the same name as its current name")
        self._require_free(name)
        self._check(Operation.RENAME, container)
        container.summary = replace(container.summary, name=name)
        self._tell(container, "rename")

    async def follow_logs(
        self,
        reference: str,
        *,
        is_following: bool = False,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        container = self._find(reference)
        self._check(Operation.LOGS, container)
        position = max(0, len(container.log) - tail) if tail is not None else 0
        while True:
            container.grown.clear()
            lines = tuple(
                line
                for line in container.log[position : position + 1000]
                if (since_ns is None or line.timestamp_ns >= since_ns)
                and (until_ns is None or line.timestamp_ns <= until_ns)
            )
            position = min(len(container.log), position + 1000)
            if lines:
                yield lines
            if position < len(container.log):
                continue
            if not is_following or container.summary.status not in RUNNING:
                return
            await container.grown.wait()
