"""Container records in the store's database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.containers.record import decode_container, encode_container
from engine.errors import ContainerNotFoundError
from engine.store import container_records
from engine.types import ChainId

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.store.container_records import ContainerRecords
    from engine.store.volume_records import VolumeRecord


class DatabaseContainerTable:
    """`ContainerTable` over the database; the name is the database's, the rest is a document."""

    def __init__(self, records: ContainerRecords) -> None:
        self._records = records

    async def insert(
        self, record: ContainerRecord, *, new_volumes: tuple[VolumeRecord, ...] = ()
    ) -> None:
        """As ContainerTable."""
        await self._records.insert(
            container_records.ContainerRecord(
                container_id=record.container_id,
                name=record.name,
                image_id=record.image_id,
                image_name=record.image,
                chain_id=ChainId(record.layers[-1] if record.layers else ""),
                created_at=record.created_at_ns / 1e9,
                is_removed_on_exit=record.is_removed_on_exit,
                config=encode_container(record),
                volume_names=tuple(
                    mount.source for mount in record.mounts if mount.kind == "volume"
                ),
            ),
            new_volumes=new_volumes,
        )

    async def find(self, reference: str) -> ContainerRecord:
        """As ContainerTable."""
        return _decode(await self._records.find(reference))

    async def get(self, container_id: str) -> ContainerRecord | None:
        """As ContainerTable."""
        try:
            found = await self._records.find(container_id)
        except ContainerNotFoundError:
            return None
        return _decode(found) if found.container_id == container_id else None

    async def list(self) -> tuple[ContainerRecord, ...]:
        """As ContainerTable."""
        return tuple(_decode(row) for row in await self._records.list_containers())

    async def rename(self, container_id: str, name: str) -> None:
        """As ContainerTable."""
        await self._records.rename(container_id, name)

    async def replace(self, record: ContainerRecord) -> None:
        """As ContainerTable."""
        await self._records.replace_config(record.container_id, encode_container(record))

    async def delete(self, container_id: str) -> bool:
        """As ContainerTable."""
        return await self._records.delete(container_id)

    async def delete_with_volumes(
        self, container_id: str, volume_names: tuple[str, ...]
    ) -> tuple[str, ...]:
        """As ContainerTable."""
        return await self._records.delete_with_volumes(container_id, volume_names)


def _decode(row: container_records.ContainerRecord) -> ContainerRecord:
    return replace(decode_container(row.config), name=row.name)
