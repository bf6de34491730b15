"""Volumes of one store: made, filled, listed, removed.

The lock of a volume is held by whoever makes, fills or removes it, and shared by those who start a
container with it. The directory is complete before its record comes; the record goes before the
directory. So a crash leaves directories without a record, which `sweep` removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError, VolumeInUseError, VolumeNotFoundError
from engine.events import Event, EventSubject
from engine.late_dataclasses import dataclass
from engine.operations import carry_through
from engine.snapshots.job_parts import DATA_NAME, FillArguments
from engine.snapshots.writable import open_directory
from engine.store.durability import make_directory, raise_store_error, sync_directory
from engine.store.event_log import append_event
from engine.store.locks import LockFile
from engine.store.volume_records import VolumeRecord
from engine.types import matches_labels
from engine.volumes.names import check_volume_name, draw_volume_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.snapshots.base import JobRunner
    from engine.store.staging import StagingArea, TreeRemover
    from engine.store.volume_records import VolumeRecords, VolumeUser
    from engine.types import PrunedVolumes, VolumeSummary

    LiveCheck = Callable[[tuple[str, ...]], Awaitable[bool]]

DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedVolume:
    """A volume that a new container is to have.

    Attributes:
        filled_from: Path in the image that an empty volume gets its first files from; empty for
            none.
    """

    name: str
    is_anonymous: bool
    labels: tuple[tuple[str, str], ...]
    filled_from: str


class VolumeLibrary:
    """The volumes of one store."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        records: VolumeRecords,
        staging: StagingArea,
        runner: JobRunner,
        remove_tree: TreeRemover,
    ) -> None:
        """Use a store.

        Args:
            runner: Runs jobs on files with a container's ids.
            remove_tree: Removes directories with such files.
        """
        self._config = config
        self._records = records
        self._staging = staging
        self._runner = runner
        self._remove_tree = remove_tree

    # --- what people ask ----------------------------------------------------------------------

    async def list(self) -> tuple[VolumeSummary, ...]:
        """Every volume, by name."""
        users = await self._records.users()
        return tuple(self._summary(record, users) for record in await self._records.list_volumes())

    async def inspect(self, name: str) -> VolumeSummary:
        """One volume.

        Raises:
            VolumeNotFoundError: There is none.
        """
        record = await self._records.get(name)
        if record is None:
            raise VolumeNotFoundError(name)
        return self._summary(record, await self._records.users(name))

    async def measure(self, name: str) -> int:
        """Bytes of a volume's files now.

        Raises:
            VolumeNotFoundError: There is none.
        """
        if await self._records.get(name) is None:
            raise VolumeNotFoundError(name)
        async with open_directory(self._config.volume_directory(name)) as volume:
            result = await self._runner.run_job("measure-volume", b"null", descriptors=(volume,))
        return msgspec.json.decode(result, type=int)

    async def create(
        self, name: str | None, *, labels: tuple[tuple[str, str], ...]
    ) -> VolumeSummary:
        """Make an empty volume, unless it is there.

        Raises:
            InvalidInputError: It cannot have this name.
        """
        record = _new_record(name or draw_volume_name(), is_anonymous=not name, labels=labels)
        check_volume_name(record.name)
        async with self._locked((record.name,)):
            if await self._records.get(record.name) is None:
                await carry_through(self._create(record))
        return await self.inspect(record.name)

    async def _create(self, record: VolumeRecord) -> None:
        await self._make(record.name)
        try:
            await self._records.insert(record)
        except BaseException:
            await self._discard(record.name)
            raise
        await self._tell("create", record.name)

    async def remove(self, name: str, *, is_forced: bool = False) -> None:
        """Remove a volume with its files.

        Raises:
            VolumeNotFoundError: There is none, and it is not forced.
            VolumeInUseError: Containers have it.
        """
        if await self._records.get(name) is None:
            if is_forced:
                return
            raise VolumeNotFoundError(name)
        async with self._locked((name,)):
            await carry_through(self._remove(name))

    async def _remove(self, name: str) -> None:
        await self._records.delete(name)
        await self._discard(name)
        await self._tell("destroy", name)

    async def prune(self, *, includes_named: bool, label_filters: tuple[str, ...]) -> PrunedVolumes:
        """Remove volumes that no container has; anonymous ones only, unless told otherwise."""
        from engine.types import PrunedVolumes

        in_use = {user.volume_name for user in await self._records.users()}
        removed: list[str] = []
        freed_bytes = 0
        for record in await self._records.list_volumes():
            if record.name in in_use or not (includes_named or record.is_anonymous):
                continue
            if not matches_labels(record.labels, label_filters):
                continue
            # Somebody may use or remove it meanwhile: then it is not ours.
            with contextlib.suppress(VolumeInUseError, VolumeNotFoundError):
                size_bytes = await self.measure(record.name)
                await self.remove(record.name)
                removed.append(record.name)
                freed_bytes += size_bytes
        await self._tell("prune", "", reclaimed=str(freed_bytes))
        return PrunedVolumes(names=tuple(removed), freed_bytes=freed_bytes)

    # --- what containers need -----------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def prepare(
        self,
        wanted: tuple[WantedVolume, ...],
        *,
        layer_paths: tuple[str, ...],
        is_any_live: LiveCheck,
    ) -> AsyncIterator[tuple[VolumeRecord, ...]]:
        """Have volumes ready for a container that is made in the block.

        New ones exist as directories only: the block writes their records together with the
        container's. If it fails they go again. An empty volume is filled, unless a container
        that runs has it mounted: its mount would not see the new files.

        Args:
            layer_paths: The image's layer directories, bottom first.
            is_any_live: Whether one of these containers may have its mounts.

        Yields:
            Records of the volumes that are not in the database yet.
        """
        async with self._locked(tuple(volume.name for volume in wanted)):
            made: list[VolumeRecord] = []
            try:
                for volume in wanted:
                    if await self._records.get(volume.name) is None:
                        await self._make(volume.name)
                        made.append(
                            _new_record(
                                volume.name,
                                is_anonymous=volume.is_anonymous,
                                labels=volume.labels,
                            )
                        )
                    elif volume.filled_from:
                        users = await self._records.users(volume.name)
                        if await is_any_live(tuple(user.container_id for user in users)):
                            continue
                    if volume.filled_from:
                        await self._fill(volume, layer_paths)
                yield tuple(made)
            except BaseException:
                for record in made:
                    await self._discard(record.name)
                raise
            for record in made:
                await self._tell("create", record.name)

    @contextlib.asynccontextmanager
    async def keep(self, names: tuple[str, ...]) -> AsyncIterator[None]:
        """Let nobody fill or remove these volumes while the block lasts."""
        async with self._locked(names, is_shared=True):
            yield

    async def discard(self, name: str) -> None:
        """Remove the files of a volume whose record went with its container's.

        Raises:
            EngineError: They cannot be removed; the next start tries again.
        """
        async with self._locked((name,)):
            if await self._records.get(name) is None:
                await self._discard(name)
                await self._tell("destroy", name)

    async def sweep(self) -> None:
        """Remove directories that have no record: what killed processes left."""
        known = {record.name for record in await self._records.list_volumes()}
        for parent in (self._config.volumes_directory, self._config.run / "volumes"):
            for name in await asyncio.to_thread(_list_names, parent):
                if name in known:
                    continue
                lock = self._lock(name)
                if not lock.try_acquire():
                    continue  # It is being made or removed by somebody who lives.
                try:
                    # Under the lock: it may have been finished since the records were read.
                    if await self._records.get(name) is None:
                        with contextlib.suppress(EngineError):
                            await self._discard(name)
                finally:
                    lock.release()

    # --- files --------------------------------------------------------------------------------

    async def _make(self, name: str) -> None:
        directory = self._config.volume_directory(name)
        async with self._staging.claim("volume") as staged:
            # Nobody else makes it: what has its name is left over from a crash.
            if directory.exists():
                await self._remove_tree(directory)
            await asyncio.to_thread(_make_files, staged, directory)

    async def _fill(self, volume: WantedVolume, layer_paths: tuple[str, ...]) -> None:
        arguments = msgspec.json.encode(
            FillArguments(layer_paths=layer_paths, path_hex=os.fsencode(volume.filled_from).hex())
        )
        directory = self._config.volume_directory(volume.name)
        async with (
            self._staging.claim("fill") as staged,
            open_directory(directory) as place,
            open_directory(staged) as work,
        ):
            await self._runner.run_job("fill-volume", arguments, descriptors=(place, work))

    async def _discard(self, name: str) -> None:
        directory = self._config.volume_directory(name)
        async with self._staging.claim("remove") as trash:
            with contextlib.suppress(FileNotFoundError):
                os.rename(directory, trash / "volume")
            await self._remove_tree(trash / "volume")
        await asyncio.to_thread(_remove_run_directory, self._config.volume_run_directory(name))

    # --- common -------------------------------------------------------------------------------

    def _lock(self, name: str) -> LockFile:
        return LockFile(
            self._config.volume_run_directory(name) / _LOCK_FILE,
            what=f"An operation on volume {name}",
            is_removed_with_directory=True,
        )

    @contextlib.asynccontextmanager
    async def _locked(
        self, names: tuple[str, ...], *, is_shared: bool = False
    ) -> AsyncIterator[None]:
        # In one order for all, so that two who want the same two do not wait for each other.
        locks = [self._lock(name) for name in sorted(set(names))]
        try:
            for lock in locks:
                await lock.acquire(is_shared=is_shared)
            yield
        finally:
            for lock in locks:
                lock.release()

    def _summary(self, record: VolumeRecord, users: tuple[VolumeUser, ...]) -> VolumeSummary:
        from engine.types import VolumeSummary

        return VolumeSummary(
            name=record.name,
            created_at=record.created_at,
            labels=record.labels,
            mount_point=str(self._config.volume_directory(record.name) / DATA_NAME),
            is_anonymous=record.is_anonymous,
            container_names=tuple(
                user.container_name for user in users if user.volume_name == record.name
            ),
        )

    async def _tell(self, action: str, name: str, **attributes: str) -> None:
        facts = attributes or {"driver": DRIVER}
        event = Event(
            time_ns=time.time_ns(),
            subject=EventSubject.VOLUME,
            action=action,
            subject_id=name,
            name=name,
            attributes=tuple(facts.items()),
        )
        await asyncio.to_thread(append_event, self._config.events_path, event)


def _new_record(
    name: str, *, is_anonymous: bool, labels: tuple[tuple[str, str], ...]
) -> VolumeRecord:
    if is_anonymous:
        labels = (*labels, (ANONYMOUS_LABEL, ""))
    return VolumeRecord(name=name, created_at=time.time(), is_anonymous=is_anonymous, labels=labels)


def _make_files(staged: Path, directory: Path) -> None:
    """Make the directory of an empty volume in staging and give it its name; durable."""
    try:
        make_directory(directory.parent)
        volume = staged / "volume"
        volume.mkdir(mode=0o700)
        (volume / DATA_NAME).mkdir()
        # Whatever the umask: what is mounted looks as Docker's.
        (volume / DATA_NAME).chmod(0o755)
        sync_directory(volume / DATA_NAME)
        sync_directory(volume)
        os.rename(volume, directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise_store_error(error, directory)


def _list_names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _remove_run_directory(directory: Path) -> None:
    with contextlib.suppress(OSError):
        (directory / _LOCK_FILE).unlink(missing_ok=True)
        directory.rmdir()
