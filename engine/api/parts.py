"""What the calls of an engine share: its parts, each behind one attribute."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from engine.containers.manager import ContainerManager
from engine.containers.stats import StatsSampler

if TYPE_CHECKING:
    from engine.api.image_operations import ImageOperations
    from engine.containers.copying import ContainerCopies
    from engine.containers.rootfs import ContainerRootfs
    from engine.containers.services import ContainerServices
    from engine.events import EventBus
    from engine.runtime.supervisor import Supervisor
    from engine.store.database import Database
    from engine.store.network_records import NetworkRecords
    from engine.types import HostReport
    from engine.volumes.library import VolumeLibrary


class EngineParts:
    """The parts of an open engine."""

    def __init__(
        self,
        *,
        report: HostReport,
        supervisor: Supervisor,
        services: ContainerServices,
        rootfs: ContainerRootfs,
        images: ImageOperations,
        volumes: VolumeLibrary,
        events: EventBus,
        database: Database,
        network_records: NetworkRecords,
    ) -> None:
        """For `Engine.open` only."""
        self._report = report
        self._supervisor = supervisor
        self._services = services
        self._rootfs = rootfs
        self._images = images
        self._volumes = volumes
        self._events = events
        self._database = database
        self._network_records = network_records
        self._containers = ContainerManager(services, events)
        self._stats = StatsSampler(services)

    @functools.cached_property
    def _copies(self) -> ContainerCopies:
        # Loaded with the first copy: it brings tar and everything about paths, and most never copy.
        from engine.containers.copying import ContainerCopies

        return ContainerCopies(self._services, self._supervisor, self._rootfs)
