"""A catalog in memory and a runner in a thread: what loading needs of the rest of the engine."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

from engine.config import LayerLimits
from engine.images.archive import LoadResult, StagedLayer, load_archive
from engine.oci.documents import Platform
from engine.runtime.worker import find_job
from engine.types import ChainId, LoadedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.images.archive_documents import ArchiveImage

HOST = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


class ThreadRunner:
    """Runs jobs in a thread of this process."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def run_job(
        self,
        job: str,
        arguments: bytes,
        *,
        descriptors: tuple[int, ...] = (),
        on_progress: Callable[[bytes], None] | None = None,
    ) -> bytes:
        self.calls.append(job)
        loop = asyncio.get_running_loop()

        def report(progress: bytes) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, progress)

        return await asyncio.to_thread(find_job(job), arguments, list(descriptors), report)


class MemoryCatalog:
    """Puts layers into place and remembers images."""

    def __init__(self, layers_directory: Path) -> None:
        self.layers_directory = layers_directory
        self.images: dict[str, ArchiveImage] = {}
        self.layers: dict[ChainId, StagedLayer] = {}

    async def find_layers(self, chain_ids: Sequence[ChainId]) -> frozenset[ChainId]:
        return frozenset(chain for chain in chain_ids if chain in self.layers)

    async def publish(
        self, images: Sequence[ArchiveImage], layers: Sequence[StagedLayer]
    ) -> tuple[LoadedImage, ...]:
        for layer in layers:
            layer.directory.rename(self.layers_directory / layer.chain_id[7:])
            self.layers[layer.chain_id] = layer
        loaded = tuple(
            LoadedImage(
                image_id=image.image_id,
                names=image.names,
                was_present=image.image_id in self.images,
            )
            for image in images
        )
        self.images.update((image.image_id, image) for image in images)
        return loaded


class Store:
    """A store of a test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self.layers.mkdir(parents=True)
        self.catalog = MemoryCatalog(self.layers)
        self.runner = ThreadRunner()
        self.count = 0

    async def load(self, archive: Path, *, architecture: str = HOST) -> LoadResult:
        self.count += 1
        staging = self.root / f"staging-{self.count}"
        staging.mkdir()
        return await load_archive(
            archive,
            staging=staging,
            layers_directory=self.layers,
            catalog=self.catalog,
            runner=self.runner,
            platform=Platform(os="linux", architecture=architecture),
            limits=LayerLimits(),
            uses_user_xattrs=os.geteuid() != 0,
        )

    def left_in_staging(self) -> list[str]:
        return [
            str(path) for staging in self.root.glob("staging-*") for path in staging.glob("*/*")
        ]

    def chain(self, result: LoadResult, number: int = 0) -> list[ChainId]:
        image = self.catalog.images[result.images[number].image_id]
        return [layer.chain_id for layer in image.layers]


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every path of a tree that must survive packing and unpacking."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(os.fsencode(root)):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = status.st_rdev if kind in {stat.S_IFCHR, stat.S_IFBLK} else None
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    content = file.read()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            attributes = tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in sorted(os.listxattr(path, follow_symlinks=False))
                if not key.startswith(
                    ("trusted.overlay", "user.overlay", "user.rootlesscontainers")
                )
            )
            links = status.st_nlink if kind == stat.S_IFREG else 0
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                content,
                attributes,
                links,
                status.st_mtime_ns // 1_000_000_000 if kind == stat.S_IFREG else 0,
            )
    return found
