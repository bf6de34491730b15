"""The images of a store: list, inspect, load, make, tag, remove, and look into their layers.

What makes images is loaded when one is made: most commands only look.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from engine.errors import AmbiguousReferenceError, ImageInUseError, ImageNotFoundError
from engine.errors import InvalidReferenceError as BadReferenceError
from engine.images.catalog import StoreCatalog, append_image_event, layer_directory
from engine.images.documents import config_labels, container_config, history_steps, indented
from engine.oci.digests import is_digest
from engine.oci.documents import ConfigSection, decode_config
from engine.oci.platforms import host_platform
from engine.oci.reference import id_beginning, parse_reference
from engine.operations import Progress, ProgressListener, carry_through, ignore_progress
from engine.snapshots.writable import remove_tree
from engine.store.blobs import BlobStore
from engine.store.container_records import ContainerRecords
from engine.store.image_records import ImageRecord, ImageRecords
from engine.store.locks import LockFile, is_locked
from engine.types import (
    ImageDetails,
    ImageId,
    ImageSummary,
    RemovedImage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.archive import LoadResult
    from engine.images.commits import CommitMaker, ImageCommit
    from engine.images.usage import ImagesUsage
    from engine.snapshots.base import JobRunner
    from engine.store.database import Database
    from engine.store.staging import StagingArea
    from engine.types import ChainId, ContainerRequest, FileTree, LoadedImage, PruneFilter

_SHORT_ID_DIGITS = 12


class ImageLibrary:
    """Every operation on images; EngineApi says what each does."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        database: Database,
        staging: StagingArea,
        runner: JobRunner,
        is_rootless: bool,
    ) -> None:
        self._config = config
        self._records = ImageRecords(database)
        self._containers = ContainerRecords(database)
        self._blobs = BlobStore(config.blobs_directory)
        self._staging = staging
        self._runner = runner
        self._is_rootless = is_rootless
        self._labels: dict[ImageId, tuple[tuple[str, str], ...]] = {}
        """Of images that were listed: a config never changes, so it is read once."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layer-files")

    def close(self) -> None:
        """Let the thread go that reads indexes."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- look ---------------------------------------------------------------------------------

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """As EngineApi."""
        images = await self._records.list_images()
        unread = tuple(image.image_id for image in images if image.image_id not in self._labels)
        for image_id, config in (await self._records.configs_of(unread)).items():
            self._labels[image_id] = config_labels(config)
        return tuple(
            ImageSummary(
                image_id=image.image_id,
                names=image.names,
                created_at=image.created_at,
                size_bytes=image.size_bytes,
                layer_count=image.layer_count,
                container_count=image.container_count,
                digest=image.manifest_digest,
                labels=self._labels.get(image.image_id, ()),
            )
            for image in images
        )

    async def inspect(self, reference: str) -> ImageDetails:
        """As EngineApi.inspect_image."""
        record = await self._get(await self._resolve(reference), reference)
        document = decode_config(record.config, reference)
        chains = tuple(part.layer.chain_id for part in record.layers)
        counts = await self._records.image_counts_of_layers(chains)
        names = await self._records.names_of(record.image_id)
        return ImageDetails(
            summary=ImageSummary(
                image_id=record.image_id,
                names=names,
                created_at=record.created_at,
                size_bytes=sum(part.layer.size_bytes for part in record.layers),
                layer_count=len(record.layers),
                container_count=len(await self._containers.of_image(record.image_id)),
                digest=record.manifest_digest,
                labels=container_config(document).labels,
            ),
            digest=record.manifest_digest,
            operating_system=record.operating_system,
            architecture=record.architecture,
            author=document.author or "",
            config=container_config(document),
            layers=history_steps(document, record.layers, dict(zip(chains, counts, strict=True))),
            config_json=indented(record.config),
        )

    async def _resolve(self, reference: str) -> ImageId:
        """Find an image by name, digest, id or the beginning of its id; a name comes first."""
        if reference.startswith("sha256:"):
            by_manifest = await self._records.find_by_manifest(reference)
            if by_manifest is not None:
                return by_manifest
        else:
            found = await self._resolve_name(reference)
            if found is not None:
                return found
        digits = id_beginning(reference)
        matches = await self._records.find_by_id_beginning(digits) if digits else ()
        if len(matches) > 1:
            raise AmbiguousReferenceError(reference, len(matches))
        if not matches:
            raise ImageNotFoundError(reference)
        return matches[0]

    async def _resolve_name(self, reference: str) -> ImageId | None:
        try:
            parsed = parse_reference(reference)
        except BadReferenceError:
            # 64 hexadecimal digits are an id; anything else that is no name is a mistake.
            if id_beginning(reference) is None:
                raise
            return None
        if parsed.digest is not None:
            return await self._records.find_by_manifest(parsed.digest)
        return await self._records.find_by_name(parsed.familiar_name)

    async def _get(self, image_id: ImageId, reference: str) -> ImageRecord:
        record = await self._records.find(image_id)
        if record is None:
            raise ImageNotFoundError(reference)
        return record

    async def list_layer_files(self, reference: str, position: int) -> FileTree:
        """As EngineApi. Reads the indexes in a thread; the newest request waits for the last."""
        # Loaded by who looks at files.
        from engine.snapshots.index import MergedTree, read_index
        from engine.types import FileTree

        details = await self.inspect(reference)
        if not 0 <= position < len(details.layers):
            raise ImageNotFoundError(f"{reference} (step {position})")
        step = details.layers[position]
        if step.chain_id is None:
            return FileTree(title=step.created_by, entries=(), size_bytes=0)
        below = [
            str(layer_directory(self._config, layer.chain_id) / "index")
            for layer in details.layers[:position]
            if layer.chain_id is not None
        ]
        own = str(layer_directory(self._config, step.chain_id) / "index")

        def compare() -> FileTree:
            index = read_index(own)
            entries = MergedTree.of(read_index(path) for path in below).compare(index)
            return FileTree(title=step.created_by, entries=entries, size_bytes=step.size_bytes)

        return await asyncio.get_running_loop().run_in_executor(self._thread, compare)

    async def usage(self) -> tuple[int, int]:
        """Bytes of all layers, each counted once, and of all blobs."""
        blobs_bytes = await asyncio.to_thread(self._blobs.total_bytes)
        return await self._records.layers_total_bytes(), blobs_bytes

    async def usages(self) -> ImagesUsage:
        """What each image occupies, with the layers that it shares."""
        from engine.images.usage import usage_of_images

        return usage_of_images(
            await self.list_images(),
            await self._records.layer_uses(),
            layers_bytes=await self._records.layers_total_bytes(),
        )

    # --- add ----------------------------------------------------------------------------------

    async def load(
        self, archive: Path, *, progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        """As EngineApi.load_images."""
        async with self._staging.claim("load") as staging:
            return (await self._load(archive, staging, progress)).images

    async def _load(self, archive: Path, staging: Path, progress: ProgressListener) -> LoadResult:
        from engine.images.archive import load_archive

        unpacking = staging / "unpacking"
        unpacking.mkdir(mode=0o700)
        async with self.keep_layers():
            catalog = StoreCatalog(
                config=self._config, records=self._records, blobs=self._blobs, staging=staging
            )
            return await load_archive(
                archive,
                staging=unpacking,
                layers_directory=self._config.layers_directory,
                catalog=catalog,
                runner=self._runner,
                host_architecture=host_platform().architecture,
                uses_user_xattrs=self._is_rootless,
                limits=self._config.layer_limits,
                progress=progress,
            )

    @contextlib.asynccontextmanager
    async def committing(
        self, commit: ImageCommit, *, progress: ProgressListener = ignore_progress
    ) -> AsyncIterator[CommitMaker]:
        """Hold what a commit needs: the image below it, a place in staging, the image lock.

        Raises:
            EngineError: The image of the container was removed.
        """
        from engine.images.commits import CommitMaker, image_is_gone

        async with self._staging.claim("commit") as staging, self.keep_layers():
            base = await self._records.find(commit.image_id)
            if base is None:
                raise image_is_gone(commit.container_name)
            yield CommitMaker(
                commit,
                base,
                blobs=self._blobs,
                catalog=StoreCatalog(
                    config=self._config,
                    records=self._records,
                    blobs=self._blobs,
                    staging=staging,
                    action="create",
                ),
                runner=self._runner,
                staging=staging,
                uses_user_xattrs=self._is_rootless,
                progress=progress,
            )

    async def image_config(self, image_id: ImageId, container_name: str) -> ConfigSection:
        """What the image of a container says about its containers, as its document has it.

        Raises:
            EngineError: The image was removed.
        """
        record = await self._records.find(image_id)
        if record is None:
            from engine.images.commits import image_is_gone

            raise image_is_gone(container_name)
        return decode_config(record.config, container_name).config or ConfigSection()

    async def make_starter(self, *, progress: ProgressListener = ignore_progress) -> LoadedImage:
        """As EngineApi.make_starter_image."""
        from engine.images.starter import write_starter_layout

        progress(Progress(step="Collecting the host's programs"))
        async with self._staging.claim("starter") as staging:
            layout = staging / "layout"
            await asyncio.to_thread(write_starter_layout, layout)
            return (await self._load(layout, staging, progress)).images[0]

    async def make_demo(
        self, *, progress: ProgressListener = ignore_progress
    ) -> tuple[ContainerRequest, ...]:
        """Make the demo's image unless it is there; return the containers to start of it."""
        from engine.images.demo import DEMO_NAME, demo_requests, write_demo_layout
        from engine.images.starter import STARTER_NAME

        if await self._records.find_by_name(DEMO_NAME) is None:
            progress(Progress(step="Making the demo's layers"))
            async with self._staging.claim("demo") as staging:
                layout = staging / "layout"
                await asyncio.to_thread(write_demo_layout, layout)
                await self._load(layout, staging, progress)
        if await self._records.find_by_name(STARTER_NAME) is None:
            await self.make_starter(progress=progress)
        return demo_requests()

    async def tag(self, source: str, target: str) -> None:
        """As EngineApi.tag_image."""
        image_id = await self._resolve(source)
        parsed = parse_reference(target)
        if parsed.digest is not None:
            raise BadReferenceError(target, "a name that is given cannot have a digest")
        await self._records.tag(parsed.familiar_name, image_id)
        await self._tell("tag", image_id, parsed.familiar_name)

    # --- remove -------------------------------------------------------------------------------

    async def remove(self, reference: str, *, is_forced: bool = False) -> RemovedImage:
        """As EngineApi.remove_image; the rules and their order are Docker's."""
        async with self._locked(is_shared=False):
            image_id = await self._resolve(reference)
            names = await self._records.names_of(image_id)
            named = _meant_name(reference, names)
            if named is not None and len(names) > 1:
                return await self._untag(image_id, (named,))
            if named is None and len(names) > 1 and not is_forced:
                raise ImageInUseError(
                    reference,
                    users=names,
                    hint="The image has several names: remove them one by one, or force it",
                )
            if named is not None and is_forced and await self._users(image_id):
                return await self._untag(image_id, names)
            await self._require_unused(image_id, reference, is_forced=is_forced)
            return await carry_through(self._delete(image_id, names))

    async def prune(self, wanted: PruneFilter, *, includes_named: bool = False) -> RemovedImage:
        """As EngineApi.prune_images."""
        async with self._locked(is_shared=False):
            doomed = [
                image
                for image in await self.list_images()
                if not image.container_count
                and (includes_named or not image.names)
                and wanted.means(created_at=image.created_at or 0.0, labels=image.labels)
            ]
            return await carry_through(self._delete_all(doomed))

    async def _delete_all(self, images: Sequence[ImageSummary]) -> RemovedImage:
        for image in images:
            await self._untag(image.image_id, image.names)
            await self._records.delete(image.image_id)
        layers, freed_bytes = await self._collect()
        for image in images:
            await self._tell("delete", image.image_id, image.names[0] if image.names else "")
        return RemovedImage(
            untagged=tuple(name for image in images for name in image.names),
            deleted=(*(image.image_id for image in images), *layers),
            freed_bytes=freed_bytes,
        )

    async def _delete(self, image_id: ImageId, names: tuple[str, ...]) -> RemovedImage:
        untagged = await self._untag(image_id, names)
        await self._records.delete(image_id)
        deleted, freed_bytes = await self._collect()
        await self._tell("delete", image_id, names[0] if names else "")
        return RemovedImage(
            untagged=untagged.untagged, deleted=(image_id, *deleted), freed_bytes=freed_bytes
        )

    async def sweep(self) -> None:
        """Remove layers and documents that a killed load or removal left.

        While somebody loads or removes images nothing is done: the next start does it.
        """
        lock = self._lock()
        if not lock.try_acquire():
            return
        try:
            await carry_through(self._collect())
        finally:
            lock.release()

    async def _untag(self, image_id: ImageId, names: tuple[str, ...]) -> RemovedImage:
        for name in names:
            await self._records.untag(name)
            await self._tell("untag", image_id, name)
        return RemovedImage(untagged=names, deleted=(), freed_bytes=0)

    async def _users(self, image_id: ImageId) -> tuple[str, ...]:
        return tuple(container.name for container in await self._containers.of_image(image_id))

    async def _require_unused(self, image_id: ImageId, reference: str, *, is_forced: bool) -> None:
        containers = await self._containers.of_image(image_id)
        running = tuple(
            container.name
            for container in containers
            if is_locked(self._config.container_run_directory(container.container_id) / "lock")
        )
        if running:
            raise ImageInUseError(
                reference,
                users=running,
                hint=f"Stop and remove the container first: lamella rm -f {running[0]}",
            )
        if containers and not is_forced:
            users = tuple(container.name for container in containers)
            raise ImageInUseError(
                reference,
                users=users,
                hint=f"Remove the container first (lamella rm {users[0]}), or force it",
            )

    async def _collect(self) -> tuple[tuple[str, ...], int]:
        """Delete the layers that nobody needs any more, and the documents of no image.

        For the exclusive holder of the image lock: a load has layers in place before their records.
        """
        layers = await self._records.delete_unused_layers()
        known = await self._records.layer_chain_ids()
        for directory in await asyncio.to_thread(self._unknown_layers, known):
            async with self._staging.claim("remove") as trash:
                # Out of its name first: what is cut short is swept with the staging area.
                with contextlib.suppress(FileNotFoundError):
                    directory.rename(trash / "layer")
                    await remove_tree(self._runner, trash / "layer")
        needed = await self._records.blob_digests()
        freed_bytes = await asyncio.to_thread(self._remove_blobs, needed)
        freed_bytes += sum(layer.size_bytes for layer in layers)
        return tuple(layer.chain_id for layer in layers), freed_bytes

    def _unknown_layers(self, known: frozenset[ChainId]) -> tuple[Path, ...]:
        """Directories of layers without a record."""
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(self._config.layers_directory) as entries,
        ):
            return tuple(
                self._config.layers_directory / entry.name
                for entry in entries
                if is_digest(f"sha256:{entry.name}") and f"sha256:{entry.name}" not in known
            )
        return ()

    def _remove_blobs(self, needed: frozenset[str]) -> int:
        unneeded = [digest for digest in self._blobs.digests() if digest not in needed]
        return sum(self._blobs.remove(digest) for digest in unneeded)

    # --- common -------------------------------------------------------------------------------

    def keep_layers(self) -> AbstractAsyncContextManager[None]:
        """Keep every image and layer that is found in the block until it ends.

        For who makes something that needs them and is known only when it is made; waits for a
        removal that is under way, and removals wait for the block.
        """
        return self._locked(is_shared=True)

    @contextlib.asynccontextmanager
    async def _locked(self, *, is_shared: bool) -> AsyncIterator[None]:
        """Hold the store's image lock: shared to count on layers, exclusive to delete some."""
        lock = self._lock()
        await lock.acquire(is_shared=is_shared)
        try:
            yield
        finally:
            lock.release()

    def _lock(self) -> LockFile:
        return LockFile(self._config.root / "images.lock", what="Loading or removing images")

    async def _tell(self, action: str, image_id: ImageId, name: str) -> None:
        await asyncio.to_thread(append_image_event, self._config, action, image_id, name)


def _meant_name(reference: str, names: tuple[str, ...]) -> str | None:
    """Which of an image's names a reference is; None when it is an id or a digest."""
    try:
        name = parse_reference(reference).familiar_name
    except BadReferenceError:
        return None
    return name if name in names else None
