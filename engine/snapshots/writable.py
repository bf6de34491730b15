"""The writable layers of containers: overlay, and a full copy where overlay cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.operations import carry_through
from engine.snapshots.base import DIFF_NAME, UPPER_NAME, WORK_NAME, LayerUsage, Rootfs
from engine.snapshots.job_parts import CopyArguments, PrepareArguments, TreeSize
from engine.snapshots.removal import engine_error
from engine.snapshots.stubs import make_stubs, stubs_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from engine.snapshots.base import JobRunner
    from engine.snapshots.writable_jobs import CompareArguments
    from engine.types import ChainId, LayerChange


@contextlib.asynccontextmanager
async def open_directory(path: Path) -> AsyncIterator[int]:
    """Open a directory of the store for a job's use; closed at the end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise engine_error(error, str(path)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def remove_tree(runner: JobRunner, path: Path) -> None:
    """Remove a tree of the store whose files may belong to a container's ids.

    Finishes also when the caller is cancelled, and raises the cancellation then.
    """
    if not path.parent.is_dir():
        return
    async with open_directory(path.parent) as parent:
        name = os.fsencode(path.name)
        await carry_through(runner.run_job("remove-tree", name, descriptors=(parent,)))


class _WritableLayers:
    """What both snapshotters share."""

    kind = ""
    _is_whole_tree = False

    def __init__(self, *, root: Path, layers_directory: Path, runner: JobRunner) -> None:
        """Use a store.

        Args:
            root: Of the store; `stubs/` is made in it.
            layers_directory: Holds `<chain id's hex>/diff` and `/index`.
            runner: Where jobs run.
        """
        self._root = root
        self._layers_directory = layers_directory
        self._runner = runner

    def _layer(self, chain_id: ChainId) -> Path:
        return self._layers_directory / chain_id.removeprefix("sha256:")

    async def remove(self, container_directory: Path) -> None:
        """As Snapshotter."""
        for name in (UPPER_NAME, WORK_NAME):
            await remove_tree(self._runner, container_directory / name)

    async def usage(self, container_directory: Path) -> LayerUsage:
        """As Snapshotter."""
        async with open_directory(container_directory / UPPER_NAME) as upper:
            result = await self._runner.run_job(
                "measure-writable-layer", b"null", descriptors=(upper,)
            )
        size = msgspec.json.decode(result, type=TreeSize)
        return LayerUsage(size_bytes=size.size_bytes, entry_count=size.entry_count)

    async def changes(
        self,
        container_directory: Path,
        chain_ids: Sequence[ChainId],
        mount_points: Sequence[str] = (),
    ) -> tuple[LayerChange, ...]:
        """As Snapshotter."""
        arguments = msgspec.json.encode(self.comparison(chain_ids, mount_points))
        async with open_directory(container_directory / UPPER_NAME) as upper:
            result = await self._runner.run_job("list-changes", arguments, descriptors=(upper,))
        from engine.snapshots.writable_jobs import decode_changes

        return decode_changes(result)

    def comparison(
        self, chain_ids: Sequence[ChainId], mount_points: Sequence[str]
    ) -> CompareArguments:
        """What a job needs to compare a writable layer with the layers below it."""
        from engine.snapshots.writable_jobs import CompareArguments

        return CompareArguments(
            layer_paths=tuple(str(self._layer(chain)) for chain in chain_ids),
            is_whole_tree=self._is_whole_tree,
            mount_points_hex=tuple(os.fsencode(path).hex() for path in mount_points),
        )

    async def _make(self, container_directory: Path, job: str, arguments: bytes) -> None:
        """Make `upper` and `work`, and run the job that fills `upper`; undo both on failure."""
        try:
            for name in (UPPER_NAME, WORK_NAME):
                try:
                    (container_directory / name).mkdir(mode=0o755)
                except OSError as error:
                    raise engine_error(error, name) from error
            async with open_directory(container_directory / UPPER_NAME) as upper:
                os.fchmod(upper, 0o755)
                if arguments:
                    await self._runner.run_job(job, arguments, descriptors=(upper,))
        except BaseException:
            await self.remove(container_directory)
            raise


class OverlaySnapshotter(_WritableLayers):
    """Layers stay where they are; overlayfs puts them together inside the container."""

    kind = "overlay"

    def rootfs(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """As Snapshotter."""
        layers = [str(self._layer(chain) / DIFF_NAME) for chain in reversed(chain_ids)]
        return Rootfs(
            kind=self.kind,
            lowers=(*layers, str(stubs_path(self._root))),
            upper=str(container_directory / UPPER_NAME),
            work=str(container_directory / WORK_NAME),
        )

    async def prepare(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """As Snapshotter."""
        await asyncio.to_thread(make_stubs, self._root)
        rootfs = self.rootfs(container_directory, chain_ids)
        arguments = b""
        if chain_ids:
            # The root's look is that of the upper directory, so it must be as the image has it.
            top = rootfs.lowers[0]
            status = os.stat(top)
            is_plain = (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (
                0o755,
                os.geteuid(),
                os.getegid(),
            )
            if not is_plain or os.listxattr(top):
                arguments = msgspec.json.encode(PrepareArguments(lower_path=top))
        await self._make(container_directory, "prepare-upper", arguments)
        return rootfs


class CopySnapshotter(_WritableLayers):
    """Every container has a full copy; blocks are shared where the file system can."""

    kind = "copy"
    _is_whole_tree = True

    def rootfs(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """As Snapshotter."""
        return Rootfs(
            kind=self.kind,
            lowers=(),
            upper=str(container_directory / UPPER_NAME),
            work=str(container_directory / WORK_NAME),
        )

    async def prepare(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """As Snapshotter."""
        paths = tuple(str(self._layer(chain)) for chain in chain_ids)
        arguments = msgspec.json.encode(CopyArguments(layer_paths=paths)) if paths else b""
        await self._make(container_directory, "copy-tree", arguments)
        return self.rootfs(container_directory, chain_ids)
