"""The images of a store: list, inspect, load, make, tag, remove, and look into their layers.

What makes images is loaded when one is made: most commands only look.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import AmbiguousReferenceError, ImageNotFoundError, StoreError
from engine.errors import InvalidReferenceError as BadReferenceError
from engine.images.catalog import StoreCatalog, append_image_event
from engine.images.collector import StoreCollector
from engine.images.documents import (
    ListedConfig,
    container_config,
    history_steps,
    indented,
    listed_config,
    summary_of,
)
from engine.images.layer_files import LayerFiles
from engine.oci.documents import ConfigSection, decode_config
from engine.oci.platforms import host_platform, wanted_platform
from engine.oci.reference import id_beginning, parse_reference
from engine.operations import Progress, ProgressListener, carry_through, ignore_progress
from engine.store.blobs import BlobStore
from engine.store.claims import ClaimRecords
from engine.store.container_records import ContainerRecords
from engine.store.downloads import DownloadArea
from engine.store.image_lock import ImageLock
from engine.store.image_records import ImageRecords
from engine.store.repository_digests import RepositoryDigest
from engine.types import ImageDetails, ImageId, ImageSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.archive import LoadResult
    from engine.images.archive_operations import ImageArchives
    from engine.images.building import BuildImages
    from engine.images.commits import CommitMaker, ImageCommit
    from engine.images.removal import ImageRemoval
    from engine.images.transfers import ImageTransfers, RegistryMaker
    from engine.images.usage import ImagesUsage
    from engine.oci.documents import Platform
    from engine.snapshots.base import JobRunner
    from engine.store.database import Database
    from engine.store.staging import StagingArea
    from engine.types import (
        ContainerRequest,
        FileContent,
        FileTree,
        LoadedImage,
        PruneFilter,
        RemovedImage,
        StoreCheck,
    )

_UNUSED_DOWNLOAD_SECONDS = 86_400


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
        self._database = database
        self._records = ImageRecords(database)
        self._containers = ContainerRecords(database)
        self._claims = ClaimRecords(database)
        self._lock = ImageLock(config.root)
        self._blobs = BlobStore(config.blobs_directory)
        self._downloads = DownloadArea(config.downloads_directory)
        self._staging = staging
        self._runner = runner
        self._is_rootless = is_rootless
        self._collector = StoreCollector(
            config=config,
            records=self._records,
            claims=self._claims,
            blobs=self._blobs,
            staging=staging,
            lock=self._lock,
        )
        self._listed: dict[ImageId, ListedConfig] = {}
        """Of images that were listed: a config never changes, so it is read once."""
        self._held = contextlib.ExitStack()
        self._files = LayerFiles(config=config, runner=runner, inspect=self.inspect)
        self._held.callback(self._files.close)

    def close(self) -> None:
        """Let go of threads, and of what was looked into."""
        self._held.close()

    # --- look ---------------------------------------------------------------------------------

    async def list_images(self) -> tuple[ImageSummary, ...]:
        """As EngineApi."""
        images = await self._records.list_images()
        unread = tuple(image.image_id for image in images if image.image_id not in self._listed)
        for image_id, config in (await self._records.configs_of(unread)).items():
            self._listed[image_id] = listed_config(config)
        gone = ListedConfig()
        return tuple(summary_of(one, self._listed.get(one.image_id, gone)) for one in images)

    async def inspect(self, reference: str) -> ImageDetails:
        """As EngineApi.inspect_image."""
        record = await self._records.find(await self._resolve(reference))
        if record is None:
            raise ImageNotFoundError(reference)
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
                platform=str(document.platform),
                kept_bytes=sum(part.blob_size_bytes for part in record.layers if part.blob_digest),
                added_at=record.added_at,
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
            known_as = RepositoryDigest(repository=parsed.familiar_repository, digest=parsed.digest)
            found = await self._records.find_by_repository_digest(known_as)
            return found or await self._records.find_by_manifest(parsed.digest)
        return await self._records.find_by_name(parsed.familiar_name)

    async def list_layer_files(self, reference: str, position: int) -> FileTree:
        """As EngineApi."""
        return await self._files.list(reference, position)

    async def read_layer_file(self, reference: str, position: int, path: str) -> FileContent:
        """As EngineApi."""
        return await self._files.read(reference, position, path)

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

    async def check(
        self, *, repairs: bool = False, progress: ProgressListener = ignore_progress
    ) -> StoreCheck:
        """As EngineApi.check_store."""
        from engine.images.check_operation import check_store

        return await check_store(
            config=self._config,
            database=self._database,
            records=self._records,
            claims=self._claims,
            blobs=self._blobs,
            lock=self._lock,
            collector=self._collector,
            runner=self._runner,
            staging_area=self._staging,
            uses_user_xattrs=self._is_rootless,
            repairs=repairs,
            progress=progress,
        )

    # --- add ----------------------------------------------------------------------------------

    async def load(
        self, archive: Path, *, platform: str = "", progress: ProgressListener = ignore_progress
    ) -> tuple[LoadedImage, ...]:
        """As EngineApi.load_images."""
        wanted = wanted_platform(platform)
        async with self._staging.claim("load") as staging:
            return (await self._load(archive, staging, progress, wanted)).images

    @contextlib.asynccontextmanager
    async def adding_images(self, staging: Path, *, action: str) -> AsyncIterator[StoreCatalog]:
        """Hold what images are added through; `action` is what the events call it.

        Args:
            staging: Of a claim of the staging area, which must outlast the block.
            action: `load`, `create`, `pull`.
        """
        from engine.images.mending import LayerMender
        from engine.store.check_records import CheckRecords

        catalog = StoreCatalog(
            config=self._config,
            records=self._records,
            claims=self._claims,
            lock=self._lock,
            mender=LayerMender(config=self._config, checks=CheckRecords(self._database)),
            blobs=self._blobs,
            staging=staging,
            action=action,
        )
        try:
            yield catalog
        finally:
            # What cannot be given up now dies with the claim of the staging area.
            with contextlib.suppress(StoreError):
                await carry_through(catalog.release())
                if catalog.has_replaced_documents:
                    await self._collector.sweep()

    async def _load(
        self,
        archive: Path,
        staging: Path,
        progress: ProgressListener,
        platform: Platform | None = None,
    ) -> LoadResult:
        from engine.images.archive import load_archive

        unpacking = staging / "unpacking"
        unpacking.mkdir(mode=0o700)
        async with self.adding_images(staging, action="load") as catalog:
            result = await load_archive(
                archive,
                staging=unpacking,
                layers_directory=self._config.layers_directory,
                catalog=catalog,
                runner=self._runner,
                platform=platform or host_platform(),
                uses_user_xattrs=self._is_rootless,
                limits=self._config.layer_limits,
                progress=progress,
            )
        # Empty by now, unless somebody else was faster: no work for another process.
        with contextlib.suppress(OSError):
            unpacking.rmdir()
        return result

    @functools.cached_property
    def archives(self) -> ImageArchives:
        """Saving and importing."""
        from engine.images.archive_operations import ImageArchives

        return ImageArchives(
            config=self._config,
            records=self._records,
            blobs=self._blobs,
            staging=self._staging,
            runner=self._runner,
            resolve=self._resolve,
            adding_images=self.adding_images,
            is_rootless=self._is_rootless,
        )

    @functools.cached_property
    def building(self) -> BuildImages:
        """What builds need."""
        from engine.images.building import BuildImages
        from engine.images.mending import LayerMender
        from engine.store.check_records import CheckRecords

        return BuildImages(
            config=self._config,
            records=self._records,
            lock=self._lock,
            blobs=self._blobs,
            mender=LayerMender(config=self._config, checks=CheckRecords(self._database)),
            collector=self._collector,
            staging=self._staging,
            runner=self._runner,
            resolve=self._resolve,
            adding_images=self.adding_images,
        )

    @contextlib.asynccontextmanager
    async def committing(
        self, commit: ImageCommit, *, progress: ProgressListener = ignore_progress
    ) -> AsyncIterator[CommitMaker]:
        """Hold what a commit needs: the image below it, and a place in staging.

        Raises:
            EngineError: The image of the container was removed.
        """
        from engine.images.commits import CommitMaker, image_is_gone

        async with (
            self._staging.claim("commit") as staging,
            self.adding_images(staging, action="create") as catalog,
        ):
            base = await self._records.find(commit.image_id)
            if base is not None:
                await catalog.keep(
                    (base.manifest_digest, *(part.layer.chain_id for part in base.layers))
                )
                # It may have gone before it was claimed; from now on it does not.
                base = await self._records.find(commit.image_id)
            if base is None:
                raise image_is_gone(commit.container_name)
            yield CommitMaker(
                commit,
                base,
                blobs=self._blobs,
                catalog=catalog,
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

    async def remove(
        self, reference: str, *, is_forced: bool = False, keeps_parents: bool = False
    ) -> RemovedImage:
        """As EngineApi.remove_image."""
        return await self._removal.remove(
            reference, self._resolve, is_forced=is_forced, keeps_parents=keeps_parents
        )

    async def prune(self, wanted: PruneFilter, *, includes_named: bool = False) -> RemovedImage:
        """As EngineApi.prune_images."""
        removed = await self._removal.prune(wanted, self.list_images, includes_named=includes_named)
        # What arrived for pulls that nobody goes on with.
        holders = await self._claims.holders()
        alive = await asyncio.to_thread(lambda: [*filter(self._staging.is_alive, holders)])
        kept = await self._claims.digests_of(alive)
        freed_bytes = await asyncio.to_thread(self._downloads.sweep, kept=kept)
        return replace(removed, freed_bytes=removed.freed_bytes + freed_bytes)

    @functools.cached_property
    def _removal(self) -> ImageRemoval:
        from engine.images.removal import ImageRemoval

        return ImageRemoval(
            config=self._config,
            records=self._records,
            containers=self._containers,
            collector=self._collector,
        )

    async def sweep(self) -> None:
        """Remove layers and blobs that a killed load or removal left, and old downloads."""
        await self._collector.sweep()
        await asyncio.to_thread(self._downloads.sweep, unused_seconds=_UNUSED_DOWNLOAD_SECONDS)

    def transfers(self, connect: RegistryMaker) -> ImageTransfers:
        """Make what pulls and pushes; `connect` makes clients for registries."""
        from engine.images.transfers import ImageTransfers
        from engine.store.transfer_records import TransferRecords

        transfers = ImageTransfers(
            config=self._config,
            records=self._records,
            transfers=TransferRecords(self._database),
            blobs=self._blobs,
            staging=self._staging,
            adding_images=self.adding_images,
            runner=self._runner,
            connect=connect,
            uses_user_xattrs=self._is_rootless,
        )
        self._held.callback(transfers.close)
        return transfers

    # --- common -------------------------------------------------------------------------------

    def keep_layers(self) -> AbstractAsyncContextManager[None]:
        """Keep every image and layer that is found in the block until it ends.

        For who makes something that needs them and is known only when it is made: containers.
        Removals wait for the block.
        """
        return self._lock.shared()

    async def _tell(self, action: str, image_id: ImageId, name: str) -> None:
        await asyncio.to_thread(append_image_event, self._config, action, image_id, name)
