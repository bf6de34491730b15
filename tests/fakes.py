"""An engine that answers from memory: the whole EngineApi, with a lifecycle, logs and events."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.state_table import Operation
from engine.events import EventSubject
from engine.operations import Progress, ProgressListener, ignore_progress
from engine.types import (
    ChangeKind,
    ContainerId,
    ContainerStats,
    ContainerSummary,
    ContainerUsage,
    DiskUsage,
    DiskUsageDetails,
    FileContent,
    FileTree,
    HostFeature,
    HostReport,
    ImageUsage,
    LayerChange,
    ProcessInfo,
    PrunedContainers,
    PruneFilter,
    RemovedImage,
    StoreCheck,
    StoreProblem,
    VolumeUsage,
    WritableLayer,
)
from tests.fake_builds import FakeBuilds
from tests.fake_catalogs import FakeCatalogs
from tests.fake_containers import RUNNING
from tests.fake_copies import FakeCopies
from tests.fake_images import STARTER
from tests.fake_lifecycle import FakeLifecycle
from tests.fake_networks import FakeNetworks
from tests.fake_registry import FakeRegistries
from tests.fake_world import NOW, file_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from engine.interface import EngineApi

__all__ = ["FakeEngine", "file_entry"]


class FakeEngine(FakeBuilds, FakeCatalogs, FakeCopies, FakeLifecycle, FakeNetworks, FakeRegistries):
    """The images, the containers, and what is read of the host and of running containers."""

    def __init__(self) -> None:
        super().__init__()
        self.opening_error: Exception | None = None
        self.store_problems: tuple[StoreProblem, ...] = ()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[EngineApi]:
        """Open it as `open_engine` opens the real one."""
        if self.opening_error is not None:
            raise self.opening_error
        yield self
        self._bus.close()

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
                HostFeature(name="pause", is_available=True, detail="freezes"),
                HostFeature(
                    name="limits", is_available=False, detail="no delegation", remedy="Use systemd"
                ),
            ),
        )

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerSummary, ...]:
        await self.make_starter_image(progress=progress)
        container_id = self.add_container("demo-web", image=STARTER, log=(b"listening",))
        self._emit(EventSubject.CONTAINER, "create", container_id, "demo-web")
        return await self.list_containers()

    async def sample_stats(
        self, container_ids: Collection[ContainerId]
    ) -> tuple[ContainerStats, ...]:
        return tuple(
            self._sample(container_id)
            for container_id in container_ids
            if container_id in self.containers
            and self.containers[container_id].summary.status in RUNNING
        )

    def _sample(self, container_id: ContainerId) -> ContainerStats:
        return ContainerStats(
            container_id=container_id, cpu_percent=0.3, memory_bytes=41_000_000,
            memory_limit_bytes=None, process_count=2, network_received_bytes=0,
            network_sent_bytes=0, block_read_bytes=0, block_written_bytes=0,
        )  # fmt: skip

    async def list_processes(self, reference: str) -> tuple[ProcessInfo, ...]:
        self._check(Operation.TOP, self._find(reference))
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

    async def read_writable_file(self, reference: str, path: str) -> FileContent:
        name = self._find(reference).summary.name
        await self._note("read-writable", f"{reference} {path}")
        tree = await self.list_writable_files(reference)
        return self._read(tree, path, f"the writable layer of {name}")

    async def measure_writable_layer(self, reference: str) -> WritableLayer:
        container = self._find(reference)
        return WritableLayer(
            container_id=container.summary.container_id,
            size_bytes=container.writable_bytes,
            entry_count=1,
        )

    async def prune_containers(self, wanted: PruneFilter) -> PrunedContainers:
        await self._note("prune", "containers")
        doomed = [
            container
            for container in self.containers.values()
            if container.summary.status not in RUNNING
            and wanted.means(
                created_at=container.summary.created_at, labels=container.summary.labels
            )
        ]
        for container in doomed:
            await self.remove_container(container.summary.container_id)
        return PrunedContainers(
            container_ids=tuple(container.summary.container_id for container in doomed),
            freed_bytes=sum(container.writable_bytes for container in doomed),
        )

    async def prune_images(
        self, wanted: PruneFilter, *, includes_named: bool = False
    ) -> RemovedImage:
        await self._note("prune", "all images" if includes_named else "images")
        used = {container.summary.image_id for container in self.containers.values()}
        doomed = [
            image
            for image in self.images.values()
            if image.summary.image_id not in used
            and (includes_named or not image.summary.names)
            and wanted.means(created_at=image.summary.created_at or 0, labels=image.config.labels)
        ]
        for image in doomed:
            del self.images[image.summary.image_id]
            name = next(iter(image.summary.names), "")
            self._emit(EventSubject.IMAGE, "delete", image.summary.image_id, name)
        return RemovedImage(
            untagged=tuple(name for image in doomed for name in image.summary.names),
            deleted=tuple(image.summary.image_id for image in doomed),
            freed_bytes=sum(image.summary.size_bytes for image in doomed),
        )

    async def check_store(
        self, *, repairs: bool = False, progress: ProgressListener = ignore_progress
    ) -> StoreCheck:
        await self._note("check", "repairs" if repairs else "")
        progress(Progress(step="Verifying layer 1 of 1", done=1, total=2, unit="bytes"))
        problems = tuple(
            replace(problem, is_repaired=repairs, remedy="made again" if repairs else "")
            for problem in self.store_problems
        )
        if repairs:
            self.store_problems = ()
        return StoreCheck(
            image_count=len(self.images),
            layer_count=sum(image.summary.layer_count for image in self.images.values()),
            blob_count=2 * len(self.images),
            read_bytes=sum(image.summary.size_bytes for image in self.images.values()),
            problems=problems,
        )

    async def disk_usage_details(self) -> DiskUsageDetails:
        users = Counter(container.summary.image_id for container in self.containers.values())
        images = tuple(
            replace(image.summary, container_count=users[image.summary.image_id])
            for image in self.images.values()
        )
        return DiskUsageDetails(
            images=tuple(
                ImageUsage(image=image, shared_bytes=0, own_bytes=image.size_bytes)
                for image in images
            ),
            containers=tuple(
                ContainerUsage(container=container.summary, size_bytes=container.writable_bytes)
                for container in self.containers.values()
            ),
            volumes=tuple(
                [
                    VolumeUsage(volume=volume, size_bytes=self.volume_bytes.get(volume.name, 0))
                    for volume in await self.list_volumes()
                ]
            ),
            layers_bytes=sum(image.size_bytes for image in images),
            unused_layers_bytes=sum(
                image.size_bytes for image in images if not image.container_count
            ),
            blobs_bytes=0,
        )

    async def disk_usage(self) -> DiskUsage:
        return DiskUsage(layers_bytes=4_100_000_000, containers_bytes=0, blobs_bytes=0)


def check_protocol(engine: FakeEngine) -> EngineApi:
    """Let the type checker compare the fake with the Protocol."""
    return engine
