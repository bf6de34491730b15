"""Removing images: one by what names it, or all that nobody uses; the rules are Docker's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.errors import ImageInUseError
from engine.errors import InvalidReferenceError as BadReferenceError
from engine.images.catalog import append_image_event
from engine.oci.reference import parse_reference
from engine.operations import carry_through
from engine.store.locks import is_locked
from engine.types import RemovedImage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config import EngineConfig
    from engine.images.collector import Collected, Collection, StoreCollector
    from engine.store.container_records import ContainerRecords
    from engine.store.image_records import ImageRecords
    from engine.types import ImageId, ImageSummary, PruneFilter


class ImageRemoval:
    """Takes names from images, and deletes those that lose their last one."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: ImageRecords,
        containers: ContainerRecords,
        collector: StoreCollector,
    ) -> None:
        """Remove images of one store."""
        self._config = config
        self._records = records
        self._containers = containers
        self._collector = collector

    async def remove(
        self,
        reference: str,
        resolve: Callable[[str], Awaitable[ImageId]],
        *,
        is_forced: bool,
        keeps_parents: bool,
    ) -> RemovedImage:
        """As EngineApi.remove_image."""
        async with self._collector.collecting() as collection:
            image_id = await resolve(reference)
            names = await self._records.names_of(image_id)
            named = _meant_name(reference, names)
            if named is not None and len(names) > 1:
                return await carry_through(self._untag(image_id, (named,)))
            if named is None and len(names) > 1 and not is_forced:
                raise ImageInUseError(
                    reference,
                    users=names,
                    hint="The image has several names: remove them one by one, or force it",
                )
            if named is not None and is_forced and await self._users(image_id):
                return await carry_through(self._untag(image_id, names))
            await self._require_unused(image_id, reference, is_forced=is_forced)
            parents = () if keeps_parents else await self._records.untagged_parents(image_id)
            return await carry_through(self._delete((image_id, *parents), collection))

    async def prune(
        self,
        wanted: PruneFilter,
        list_images: Callable[[], Awaitable[tuple[ImageSummary, ...]]],
        *,
        includes_named: bool,
    ) -> RemovedImage:
        """As EngineApi.prune_images."""
        async with self._collector.collecting() as collection:
            doomed = tuple(
                image.image_id
                for image in await list_images()
                if not image.container_count
                and (includes_named or not image.names)
                and wanted.means(created_at=image.made_at, labels=image.labels)
            )
            return await carry_through(self._delete(doomed, collection))

    async def _delete(self, image_ids: tuple[ImageId, ...], collection: Collection) -> RemovedImage:
        collected = await collection.delete(image_ids)
        await asyncio.to_thread(self._tell_deleted, collected)
        return RemovedImage(
            untagged=tuple(name for names in collected.names.values() for name in names),
            deleted=(*image_ids, *collected.chain_ids),
            freed_bytes=collected.freed_bytes,
        )

    async def _untag(self, image_id: ImageId, names: tuple[str, ...]) -> RemovedImage:
        await self._records.untag(names)
        await asyncio.to_thread(self._tell_untagged, image_id, names)
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

    def _tell_untagged(self, image_id: ImageId, names: tuple[str, ...]) -> None:
        for name in names:
            append_image_event(self._config, "untag", image_id, name)

    def _tell_deleted(self, collected: Collected) -> None:
        for image_id, names in collected.names.items():
            self._tell_untagged(image_id, names)
            append_image_event(self._config, "delete", image_id, names[0] if names else "")


def _meant_name(reference: str, names: tuple[str, ...]) -> str | None:
    """Which of an image's names a reference is; None when it is an id or a digest."""
    try:
        name = parse_reference(reference).familiar_name
    except BadReferenceError:
        return None
    return name if name in names else None
