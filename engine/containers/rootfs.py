"""Writable layers of containers: made, described to the monitor, measured and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError
from engine.runtime.spec import RootfsSpec
from engine.snapshots.base import INDEX_NAME, UPPER_NAME
from engine.snapshots.writable import CopySnapshotter, OverlaySnapshotter, open_directory
from engine.types import ChainId

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.snapshots.base import JobRunner, Snapshotter
    from engine.snapshots.writable_jobs import CompareArguments
    from engine.types import FileContent, FileTree, LayerChange, WritableLayer

MOUNT_POINT_NAME = "rootfs"


class ContainerRootfs:
    """Each container keeps the kind of root that it was made with."""

    def __init__(self, *, config: EngineConfig, runner: JobRunner, is_rootless: bool) -> None:
        self._config = config
        self._is_rootless = is_rootless
        snapshotters: tuple[Snapshotter, ...] = tuple(
            kind(root=config.root, layers_directory=config.layers_directory, runner=runner)
            for kind in (OverlaySnapshotter, CopySnapshotter)
        )
        self._snapshotters = {snapshotter.kind: snapshotter for snapshotter in snapshotters}

    def snapshotter(self, record: ContainerRecord) -> Snapshotter:
        """What makes and reads the writable layer of a container.

        Raises:
            FeatureUnavailableError: A newer version made it in a way that is not known here.
        """
        found = self._snapshotters.get(record.snapshotter)
        if found is None:
            raise FeatureUnavailableError(
                f"the snapshotter {record.snapshotter}",
                "this version does not have it",
                remedy="Use the version of Lamella that made the container",
            )
        return found

    async def prepare(self, record: ContainerRecord, directory: Path) -> None:
        """Make the writable layer in the directory of a new container."""
        await self.snapshotter(record).prepare(directory, chain_ids(record))

    def describe(self, record: ContainerRecord) -> RootfsSpec:
        """How the root filesystem of a container is put together."""
        directory = self._config.container_directory(record.container_id)
        rootfs = self.snapshotter(record).rootfs(directory, chain_ids(record))
        return RootfsSpec(
            kind=rootfs.kind,
            lowers=rootfs.lowers,
            upper=rootfs.upper,
            work=rootfs.work,
            mount_point=str(directory / MOUNT_POINT_NAME),
            uses_user_xattrs=self._is_rootless,
            is_read_only=record.is_read_only,
        )

    async def measure(self, record: ContainerRecord) -> WritableLayer:
        """Size and number of entries of the writable layer now."""
        from engine.types import WritableLayer

        directory = self._config.container_directory(record.container_id)
        usage = await self.snapshotter(record).usage(directory)
        return WritableLayer(
            container_id=record.container_id,
            size_bytes=usage.size_bytes,
            entry_count=usage.entry_count,
        )

    async def list_changes(self, record: ContainerRecord) -> tuple[LayerChange, ...]:
        """What the writable layer adds, changes and removes, sorted by path."""
        directory = self._config.container_directory(record.container_id)
        return await self.snapshotter(record).changes(
            directory, chain_ids(record), _mount_points(record)
        )

    def comparison(self, record: ContainerRecord) -> CompareArguments:
        """What a job needs to compare a container's writable layer with its image."""
        return self.snapshotter(record).comparison(chain_ids(record), _mount_points(record))

    async def list_files(
        self, services: ContainerServices, runner: JobRunner, record: ContainerRecord
    ) -> FileTree:
        """The writable layer as a tree, marked against the image."""
        directory = self._config.container_directory(record.container_id)
        async with open_directory(directory / UPPER_NAME) as upper:
            document = await runner.run_job("list-writable-files", b"null", descriptors=(upper,))
        return await services.in_thread(self._compare, record, document)

    async def read_file(self, runner: JobRunner, record: ContainerRecord, path: str) -> FileContent:
        """The beginning of a file of the writable layer, as it is now.

        Raises:
            FileNotInLayerError: The writable layer does not have it.
            InvalidInputError: It is no file.
        """
        from engine.errors import FileNotInLayerError
        from engine.snapshots.viewing import view_in_tree

        missing = FileNotInLayerError(
            path,
            f"the writable layer of {record.name}",
            hint=f"`lamella diff {record.name}` lists what it has",
        )
        directory = self._config.container_directory(record.container_id)
        async with open_directory(directory / UPPER_NAME) as upper:
            return await view_in_tree(runner, upper, path, missing=missing)

    def _compare(self, record: ContainerRecord, document: bytes) -> FileTree:
        # Loaded by who looks at files.
        from engine.snapshots.index import MergedTree, decode_index, read_index
        from engine.types import FileTree

        title = f"writable layer of {record.name}"
        index = decode_index(document, title)
        tree = MergedTree.of(map(read_index, self._index_paths(record)))
        is_whole = record.snapshotter == CopySnapshotter.kind
        entries = tree.compare_whole(index) if is_whole else tree.compare(index)
        return FileTree(title=title, entries=entries, size_bytes=index.size_bytes)

    def _index_paths(self, record: ContainerRecord) -> list[str]:
        layers = self._config.layers_directory
        return [
            str(layers / chain.removeprefix("sha256:") / INDEX_NAME) for chain in chain_ids(record)
        ]


def _mount_points(record: ContainerRecord) -> tuple[str, ...]:
    """Where something is mounted in a container, so that a place may have been made for it."""
    return tuple(mount.target for mount in record.mounts)


def chain_ids(record: ContainerRecord) -> tuple[ChainId, ...]:
    """The layers below a container's writable one, bottom first."""
    return tuple(ChainId(chain) for chain in record.layers)
