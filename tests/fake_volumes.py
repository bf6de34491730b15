"""The volumes of the fake engine: the real rules of names and filters, without files."""

from __future__ import annotations

from dataclasses import replace

from engine.errors import VolumeInUseError, VolumeNotFoundError
from engine.events import EventSubject
from engine.types import (
    ContainerRequest,
    CreatedContainer,
    PrunedVolumes,
    VolumeSummary,
    matches_labels,
)
from engine.volumes.library import ANONYMOUS_LABEL
from engine.volumes.names import check_volume_name, draw_volume_name
from tests.fake_programs import FakePrograms


class FakeVolumes(FakePrograms):
    """Volumes by name; `volume_bytes` is what each measures."""

    def __init__(self) -> None:
        super().__init__()
        self.volumes: dict[str, VolumeSummary] = {}
        self.volume_bytes: dict[str, int] = {}

    def add_volume(self, name: str, *, size_bytes: int = 0, is_anonymous: bool = False) -> None:
        """Add a volume with files."""
        labels = ((ANONYMOUS_LABEL, ""),) if is_anonymous else ()
        self._add_volume(name, labels, is_anonymous=is_anonymous)
        self.volume_bytes[name] = size_bytes

    def _add_volume(
        self, name: str, labels: tuple[tuple[str, str], ...], *, is_anonymous: bool
    ) -> None:
        self.volumes[name] = VolumeSummary(
            name=name, created_at=self._tick(), labels=labels,
            mount_point=f"/var/lib/lamella/volumes/{name}/_data", is_anonymous=is_anonymous,
            container_names=(),
        )  # fmt: skip

    def _volume_users(self, name: str) -> dict[str, str]:
        return {
            str(container.summary.container_id): container.summary.name
            for container in self.containers.values()
            if any(
                mount.kind == "volume" and mount.source == name
                for mount in container.request.mounts
            )
        }

    def _volume(self, name: str) -> VolumeSummary:
        if name not in self.volumes:
            raise VolumeNotFoundError(name)
        found = self.volumes[name]
        return VolumeSummary(
            name=name, created_at=found.created_at, labels=found.labels,
            mount_point=found.mount_point, is_anonymous=found.is_anonymous,
            container_names=tuple(sorted(self._volume_users(name).values())),
        )  # fmt: skip

    async def create_container(self, request: ContainerRequest) -> CreatedContainer:
        mounts = tuple(
            replace(mount, source=draw_volume_name(), is_anonymous=True)
            if mount.kind == "volume" and not mount.source
            else mount
            for mount in request.mounts
        )
        created = await super().create_container(replace(request, mounts=mounts))
        for mount in mounts:
            if mount.kind == "volume" and mount.source not in self.volumes:
                labels = ((ANONYMOUS_LABEL, ""),) if mount.is_anonymous else ()
                self._add_volume(mount.source, labels, is_anonymous=mount.is_anonymous)
        return created

    async def remove_container(
        self, reference: str, *, is_forced: bool = False, removes_volumes: bool = False
    ) -> None:
        request = self._find(reference).request
        await super().remove_container(reference, is_forced=is_forced)
        if removes_volumes or request.is_removed_on_exit:
            for mount in request.mounts:
                if mount.is_anonymous and not self._volume_users(mount.source):
                    self.volumes.pop(mount.source, None)

    async def list_volumes(self) -> tuple[VolumeSummary, ...]:
        return tuple(self._volume(name) for name in sorted(self.volumes))

    async def inspect_volume(self, name: str) -> VolumeSummary:
        return self._volume(name)

    async def measure_volume(self, name: str) -> int:
        self._volume(name)
        return self.volume_bytes.get(name, 0)

    async def create_volume(
        self, name: str | None = None, *, labels: tuple[tuple[str, str], ...] = ()
    ) -> VolumeSummary:
        await self._note("create_volume", name or "")
        wanted = name or draw_volume_name()
        check_volume_name(wanted)
        if wanted not in self.volumes:
            anonymous = () if name else ((ANONYMOUS_LABEL, ""),)
            self._add_volume(wanted, (*labels, *anonymous), is_anonymous=not name)
            self._emit(EventSubject.VOLUME, "create", wanted, wanted, driver="local")
        return self._volume(wanted)

    async def remove_volume(self, name: str, *, is_forced: bool = False) -> None:
        await self._note("remove_volume", name)
        if is_forced and name not in self.volumes:
            return
        self._volume(name)
        if users := self._volume_users(name):
            raise VolumeInUseError(name, container_ids=tuple(users))
        del self.volumes[name]
        self._emit(EventSubject.VOLUME, "destroy", name, name, driver="local")

    async def prune_volumes(
        self, *, includes_named: bool = False, label_filters: tuple[str, ...] = ()
    ) -> PrunedVolumes:
        await self._note("prune_volumes", "all" if includes_named else "anonymous")
        names = [
            volume.name
            for volume in await self.list_volumes()
            if not volume.container_names
            and (includes_named or volume.is_anonymous)
            and matches_labels(volume.labels, label_filters)
        ]
        freed_bytes = 0
        for name in names:
            freed_bytes += await self.measure_volume(name)
            await self.remove_volume(name)
        self._emit(EventSubject.VOLUME, "prune", "", "", reclaimed=str(freed_bytes))
        return PrunedVolumes(names=tuple(names), freed_bytes=freed_bytes)
