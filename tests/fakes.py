"""An engine that answers from memory: the whole EngineApi, with a lifecycle, logs and events."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    EngineError,
    ImageInUseError,
    ImageNotFoundError,
    NameInUseError,
)
from engine.events import Event, EventBus, EventSubject
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    ChainId,
    ChangeKind,
    ContainerDetails,
    ContainerId,
    ContainerRequest,
    ContainerStats,
    ContainerStatus,
    ContainerSummary,
    CreatedContainer,
    DiffId,
    Digest,
    DiskUsage,
    ExitStatus,
    FileEntry,
    FileKind,
    FileTree,
    HostFeature,
    HostReport,
    ImageConfig,
    ImageDetails,
    ImageId,
    ImageSummary,
    LayerChange,
    LayerSummary,
    LoadedImage,
    LogLine,
    OutputStream,
    ProcessInfo,
    RemovedImage,
    WritableLayer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from engine.events import EventSubscription
    from engine.interface import EngineApi

NOW = 1_800_000_000.0
_RUNNING = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


def file_entry(
    path: str,
    *,
    change: ChangeKind = ChangeKind.ADDED,
    kind: FileKind = FileKind.FILE,
    size_bytes: int = 0,
    mode: int = 0o644,
) -> FileEntry:
    return FileEntry(
        path=path, kind=kind, mode=mode, user_id=0, group_id=0, size_bytes=size_bytes,
        modified_at=NOW, link_target="", change=change,
    )  # fmt: skip


def _hexadecimal(number: int) -> str:
    return f"{number:064x}"


@dataclass
class FakeContainer:
    summary: ContainerSummary
    request: ContainerRequest
    log: list[LogLine] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    writable_bytes: int = 12_000


class FakeEngine:
    """Lives on the loop that calls it; tests change it through the bridge, or before it opens.

    Attributes:
        calls: What was asked for that changes something, as (operation, argument).
        failures: Errors to raise, by operation; taken out when raised.
        gates: Operations that wait for an event before they go on.
    """

    def __init__(self) -> None:
        self._bus = EventBus()
        self._numbers = itertools.count(1)
        self.images: dict[ImageId, ImageDetails] = {}
        self.trees: dict[tuple[ImageId, int], FileTree] = {}
        self.containers: dict[ContainerId, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, EngineError] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.opening_error: Exception | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[EngineApi]:
        """Open it as `open_engine` opens the real one."""
        if self.opening_error is not None:
            raise self.opening_error
        yield self
        self._bus.close()

    # --- what tests put in --------------------------------------------------------------------

    def add_image(
        self,
        name: str,
        *,
        steps: tuple[tuple[str, int], ...] = (("COPY rootfs /", 117_000_000),),
        files: tuple[FileEntry, ...] = (),
    ) -> ImageId:
        """Add an image; `files` are those of its topmost layer."""
        image_id = ImageId(f"sha256:{_hexadecimal(next(self._numbers))}")
        layers = tuple(
            LayerSummary(
                position=position,
                created_by=text,
                created_at=NOW,
                comment="",
                is_empty=size_bytes == 0,
                diff_id=DiffId(f"sha256:{_hexadecimal(100 + position)}") if size_bytes else None,
                chain_id=ChainId(f"sha256:{_hexadecimal(200 + position)}") if size_bytes else None,
                size_bytes=size_bytes,
                entry_count=len(files),
                shared_image_count=2 if position == 0 else 1,
            )
            for position, (text, size_bytes) in enumerate(steps)
        )
        summary = ImageSummary(
            image_id=image_id,
            names=(name,) if name else (),
            created_at=NOW,
            size_bytes=sum(layer.size_bytes for layer in layers),
            layer_count=len(layers),
            container_count=0,
        )
        self.images[image_id] = ImageDetails(
            summary=summary,
            digest=Digest(image_id),
            operating_system="linux",
            architecture="amd64",
            author="",
            config=ImageConfig(command=("sh",)),
            layers=layers,
            config_json='{\n  "os": "linux"\n}',
        )
        top = next((layer for layer in reversed(layers) if not layer.is_empty), None)
        if top is not None:
            self.trees[image_id, top.position] = FileTree(
                title=name, entries=files, size_bytes=top.size_bytes
            )
        return image_id

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
        container_id = ContainerId(_hexadecimal(0xC0FFEE0000 + next(self._numbers)))
        summary = ContainerSummary(
            container_id=container_id,
            name=name,
            image=image,
            image_id=self._find_image(image).summary.image_id,
            command="sh",
            created_at=NOW,
            status=status,
            started_at=NOW,
            finished_at=NOW if exit_code is not None else None,
            exit_code=exit_code,
            error="",
            is_out_of_memory_killed=False,
            is_removed_on_exit=False,
        )
        container = FakeContainer(summary=summary, request=ContainerRequest(image=image))
        self.containers[container_id] = container
        for text in log:
            self.write_log(name, text)
        return container_id

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
        container = self._find(reference)
        container.summary = replace(container.summary, status=status, exit_code=exit_code)
        container.grown.set()
        self._emit(EventSubject.CONTAINER, action, container.summary.container_id, reference)

    def _emit(self, subject: EventSubject, action: str, subject_id: str, name: str) -> None:
        self._bus.publish(
            Event(
                time_ns=time.time_ns(), subject=subject, action=action, subject_id=subject_id,
                name=name,
            )
        )  # fmt: skip

    def _find(self, reference: str) -> FakeContainer:
        for container in self.containers.values():
            summary = container.summary
            if summary.name == reference or summary.container_id.startswith(reference):
                return container
        raise ContainerNotFoundError(reference)

    def _find_image(self, reference: str) -> ImageDetails:
        for image in self.images.values():
            if reference in (*image.summary.names, image.summary.image_id):
                return image
        raise ImageNotFoundError(reference)

    async def _note(self, operation: str, argument: str) -> None:
        self.calls.append((operation, argument))
        if operation in self.gates:
            await self.gates[operation].wait()
        if operation in self.failures:
            raise self.failures.pop(operation)

    # --- EngineApi ----------------------------------------------------------------------------

    @property
    def host(self) -> HostReport:
        return HostReport(
            is_root=True,
            kernel_release="6.18.0",
            architecture="amd64",
            cgroup_mode="v2",
            snapshotter="overlay",
            user_namespace="host",
            features=(
                HostFeature(name="overlay", is_available=True, detail="native"),
                HostFeature(
                    name="limits", is_available=False, detail="no delegation", remedy="Use systemd"
                ),
            ),
        )

    def subscribe(self) -> AbstractContextManager[EventSubscription]:
        return self._bus.subscribe()

    async def list_images(self) -> tuple[ImageSummary, ...]:
        return tuple(image.summary for image in self.images.values())

    async def inspect_image(self, reference: str) -> ImageDetails:
        return self._find_image(reference)

    async def load_images(
        self, archive: Path, *, progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        progress(Progress(step="Unpacking layer 1 of 1", done=1, total=2, unit="bytes"))
        await self._note("load", str(archive))
        image_id = self.add_image("loaded:latest")
        self._emit(EventSubject.IMAGE, "load", image_id, "loaded:latest")
        return (LoadedImage(image_id=image_id, names=("loaded:latest",), was_present=False),)

    async def make_starter_image(
        self, *, progress: ProgressListener = ignore_progress
    ) -> LoadedImage:
        progress(Progress(step="Collecting programs"))
        await self._note("starter", "")
        image_id = self.add_image("starter:latest")
        self._emit(EventSubject.IMAGE, "load", image_id, "starter:latest")
        return LoadedImage(image_id=image_id, names=("starter:latest",), was_present=False)

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        await self.make_starter_image(progress=progress)
        self.add_container("demo-web", image="starter:latest", log=(b"listening",))
        self._emit(EventSubject.CONTAINER, "create", "demo", "demo-web")
        return await self.list_containers()

    async def tag_image(self, source: str, target: str) -> None:
        await self._note("tag", f"{source} {target}")
        image = self._find_image(source)
        summary = replace(image.summary, names=(*image.summary.names, target))
        self.images[summary.image_id] = replace(image, summary=summary)
        self._emit(EventSubject.IMAGE, "tag", summary.image_id, target)

    async def remove_image(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        await self._note("remove-image", reference)
        summary = self._find_image(reference).summary
        users = tuple(
            container.summary.name
            for container in self.containers.values()
            if container.summary.image_id == summary.image_id
        )
        if users and not is_forced:
            raise ImageInUseError(reference, users=users, hint="Remove the containers first")
        del self.images[summary.image_id]
        self._emit(EventSubject.IMAGE, "delete", summary.image_id, reference)
        return RemovedImage(untagged=summary.names, deleted=(summary.image_id,), freed_bytes=1000)

    async def list_layer_files(self, image_reference: str, position: int) -> FileTree:
        image_id = self._find_image(image_reference).summary.image_id
        empty = FileTree(title="", entries=(), size_bytes=0)
        return self.trees.get((image_id, position), empty)

    async def list_containers(self) -> tuple[ContainerSummary, ...]:
        return tuple(container.summary for container in self.containers.values())

    async def inspect_container(self, reference: str) -> ContainerDetails:
        container = self._find(reference)
        return ContainerDetails(
            summary=container.summary,
            process_id=4242 if container.summary.status in _RUNNING else None,
            arguments=("sh",),
            environment=container.request.environment,
            working_directory="/",
            user="0:0",
            hostname="host",
            labels=(),
            limits=container.request.limits,
            is_read_only=container.request.is_read_only,
            stop_signal="SIGTERM",
            stop_timeout_seconds=10,
            snapshotter="overlay",
            chain_id=ChainId(f"sha256:{_hexadecimal(200)}"),
            cgroup="/lamella",
            log_path="/log",
            writable_layer_path="/upper",
            warnings=(),
        )

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        name = request.name or "brave_lamport"
        await self._note("create", name)
        for other in self.containers.values():
            if other.summary.name == name:
                raise NameInUseError(name, other.summary.container_id)
        container_id = self.add_container(name, image=request.image, status=ContainerStatus.CREATED)
        self.containers[container_id].request = request
        self._emit(EventSubject.CONTAINER, "create", container_id, name)
        return CreatedContainer(container_id=container_id, name=name, warnings=())

    async def start_container(self, reference: str) -> None:
        name = self._find(reference).summary.name
        await self._note("start", name)
        self.change_status(name, ContainerStatus.RUNNING, "start")

    async def stop_container(
        self, reference: str, *, timeout_seconds: float | None = None, signal: str | None = None
    ) -> ExitStatus:
        del timeout_seconds, signal
        name = self._find(reference).summary.name
        await self._note("stop", name)
        self.change_status(name, ContainerStatus.EXITED, "die", exit_code=143)
        return ExitStatus(exit_code=143)

    async def kill_container(self, reference: str, *, signal: str = "SIGKILL") -> None:
        name = self._find(reference).summary.name
        await self._note("kill", f"{name} {signal}")
        if signal == "SIGKILL":
            self.change_status(name, ContainerStatus.EXITED, "die", exit_code=137)

    async def restart_container(
        self, reference: str, *, timeout_seconds: float | None = None
    ) -> None:
        del timeout_seconds
        name = self._find(reference).summary.name
        await self._note("restart", name)
        self.change_status(name, ContainerStatus.RUNNING, "restart")

    async def pause_container(self, reference: str) -> None:
        summary = self._find(reference).summary
        await self._note("pause", summary.name)
        if summary.status is not ContainerStatus.RUNNING:
            raise ContainerStateError(
                f"Container {summary.name} is not running",
                container_id=summary.container_id,
                status=summary.status.value,
                operation="pause",
                hint="Start it first",
            )
        self.change_status(summary.name, ContainerStatus.PAUSED, "pause")

    async def unpause_container(self, reference: str) -> None:
        name = self._find(reference).summary.name
        await self._note("unpause", name)
        self.change_status(name, ContainerStatus.RUNNING, "unpause")

    async def wait_container(self, reference: str) -> ExitStatus:
        container = self._find(reference)
        while container.summary.status in _RUNNING:
            container.grown.clear()
            await container.grown.wait()
        return ExitStatus(exit_code=container.summary.exit_code or 0)

    @contextlib.asynccontextmanager
    async def hold_container(self, reference: str) -> AsyncIterator[None]:
        self._find(reference)
        yield

    async def remove_container(self, reference: str, *, is_forced: bool = False) -> None:
        container = self._find(reference)
        await self._note("remove", f"{container.summary.name}{' forced' * is_forced}")
        del self.containers[container.summary.container_id]
        container.summary = replace(container.summary, status=ContainerStatus.DEAD)
        container.grown.set()
        identity = container.summary.container_id
        self._emit(EventSubject.CONTAINER, "destroy", identity, container.summary.name)

    async def rename_container(self, reference: str, name: str) -> None:
        container = self._find(reference)
        await self._note("rename", f"{container.summary.name} {name}")
        container.summary = replace(container.summary, name=name)
        self._emit(EventSubject.CONTAINER, "rename", container.summary.container_id, name)

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
            if not is_following or container.summary.status not in _RUNNING:
                return
            await container.grown.wait()

    async def follow_stats(self, reference: str) -> AsyncIterator[ContainerStats]:
        container = self._find(reference)
        sample = await self.sample_stats(container.summary.container_id)
        if sample is not None:
            yield sample

    async def sample_stats(self, container_id: ContainerId) -> ContainerStats | None:
        if self._find(container_id).summary.status not in _RUNNING:
            return None
        return ContainerStats(
            container_id=container_id, sampled_at=NOW, cpu_percent=0.3, memory_bytes=41_000_000,
            memory_limit_bytes=None, process_count=2, network_received_bytes=0,
            network_sent_bytes=0, block_read_bytes=0, block_written_bytes=0,
        )  # fmt: skip

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        self._find(reference)
        return (
            ProcessInfo(
                process_id=4242, parent_process_id=1, user="root", cpu_percent=0.3,
                started_at=NOW, cpu_seconds=1, resident_bytes=1_000_000, state="S",
                command="sh -c serve",
            ),
        )  # fmt: skip

    async def list_changes(self, reference: str) -> tuple[LayerChange, ...]:
        self._find(reference)
        return (LayerChange(path="tmp/new", change=ChangeKind.ADDED),)

    async def list_writable_files(self, reference: str) -> FileTree:
        self._find(reference)
        entries = (file_entry("tmp/new", size_bytes=12_000),)
        return FileTree(title=reference, entries=entries, size_bytes=12_000)

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        container = self._find(reference)
        return WritableLayer(
            container_id=container.summary.container_id,
            size_bytes=container.writable_bytes,
            entry_count=1,
        )

    async def disk_usage(self) -> DiskUsage:
        return DiskUsage(layers_bytes=4_100_000_000, containers_bytes=0, blobs_bytes=0)


def check_protocol(engine: FakeEngine) -> EngineApi:
    """Let the type checker compare the fake with the Protocol."""
    return engine
