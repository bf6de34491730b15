"""What every operation on containers works with, and the parts of the engine behind Protocols."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from engine.containers.states import read_watched_state
from engine.late_dataclasses import dataclass
from engine.runtime.state_file import append_container_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.cgroups.host import MissingFeature
    from engine.config import EngineConfig
    from engine.containers.network_port import ContainerNetworks, HostNetworks
    from engine.containers.record import ContainerRecord
    from engine.containers.runtime_port import ContainerRuntime
    from engine.containers.volume_port import ContainerVolumes
    from engine.runtime.spec import RootfsSpec, StateRecord
    from engine.store.staging import StagingArea
    from engine.store.volume_records import VolumeRecord
    from engine.types import ImageConfig, ImageId

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """What a new container needs to know of its image.

    Attributes:
        name: As people know it, or a short id.
        layers: Chain ids, bottom first.
    """

    image_id: ImageId
    name: str
    config: ImageConfig
    layers: tuple[str, ...]


class ImageHolder(Protocol):
    """Finds the image that a container is made of, and keeps its layers meanwhile."""

    def __call__(self, reference: str, /) -> AbstractAsyncContextManager[ContainerImage]:
        """Find it by name, digest, id or the beginning of its id; for a block.

        Its layers are not removed while the block lasts; from then on the container's record
        keeps them.

        Raises:
            ImageNotFoundError: There is none.
        """


class ContainerTable(Protocol):
    """The records of all containers, each with a name of its own."""

    async def insert(
        self, record: ContainerRecord, *, new_volumes: tuple[VolumeRecord, ...] = ()
    ) -> None:
        """Add a container, and in the same step the volumes that were made for it.

        Raises:
            NameInUseError: Another one has the name.
            VolumeNotFoundError: A volume that it mounts was removed meanwhile.
        """

    async def find(self, reference: str) -> ContainerRecord:
        """Find by id, name, or the beginning of an id.

        Raises:
            ContainerNotFoundError: None matches.
            AmbiguousReferenceError: Several do.
        """

    async def get(self, container_id: str) -> ContainerRecord | None:
        """Look up by the whole id."""

    async def list(self) -> tuple[ContainerRecord, ...]:
        """Every container, newest first."""

    async def rename(self, container_id: str, name: str) -> None:
        """Change a name.

        Raises:
            NameInUseError: Another one has it.
            ContainerNotFoundError: The container is gone.
        """

    async def replace(self, record: ContainerRecord) -> None:
        """Write a record again; its name stays what it is.

        Raises:
            ContainerNotFoundError: The container is gone.
        """

    async def delete(self, container_id: str) -> bool:
        """Delete a record; False if it was gone already."""

    async def delete_with_volumes(
        self, container_id: str, volume_names: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Delete a record and those of volumes that no other container has; returns these."""


class RootfsBuilder(Protocol):
    """Makes writable layers and says how a root filesystem is put together."""

    async def prepare(self, record: ContainerRecord, directory: Path) -> None:
        """Make what a new container needs in its directory."""

    def describe(self, record: ContainerRecord) -> RootfsSpec:
        """How the root filesystem of a container is put together."""


class TreeRemoval(Protocol):
    """Removes a tree whose files may belong to ids of a container."""

    async def __call__(self, path: Path, /) -> None:
        """Remove it with all it holds; a tree that is not there is no error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupPlan:
    """Where containers' control groups go on this host.

    Attributes:
        mode: `v2`, `v1`, `hybrid` or `none`.
        parent: The group that containers' groups are made in.
        directories: That group in every hierarchy that may be used.
        missing_limits: Why a limit cannot be set here, by the v1 name of its controller.
        missing_pause: Why containers cannot be paused here; None if they can.
    """

    mode: str
    parent: str
    directories: tuple[str, ...] = ()
    missing_limits: Mapping[str, str] = field(default_factory=dict)
    missing_pause: MissingFeature | None = None


class ContainerServices:
    """One engine's way to its containers' records, directories, processes and events."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        table: ContainerTable,
        runtime: ContainerRuntime,
        rootfs: RootfsBuilder,
        volumes: ContainerVolumes,
        networks: ContainerNetworks,
        attacher: HostNetworks,
        hold_image: ImageHolder,
        staging: StagingArea,
        remove_tree: TreeRemoval,
        cgroups: CgroupPlan,
        snapshotter: str,
        is_rootless: bool,
        has_seccomp: bool,
    ) -> None:
        self.config = config
        self.table = table
        self.runtime = runtime
        self.rootfs = rootfs
        self.volumes = volumes
        self.networks = networks
        self.attacher = attacher
        self.hold_image = hold_image
        self.staging = staging
        self.remove_tree = remove_tree
        self.cgroups = cgroups
        self.snapshotter = snapshotter
        self.is_rootless = is_rootless
        self.has_seccomp = has_seccomp
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="lamella-containers")

    async def in_thread(
        self,
        function: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **options: Parameters.kwargs,
    ) -> Result:
        """Run short blocking work off the loop; cancelling does not stop it."""
        work = functools.partial(function, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def read_states(
        self, container_ids: tuple[str, ...]
    ) -> tuple[tuple[StateRecord, bool], ...]:
        """Read many states in one go, each with whether its monitor is lost."""

        def read() -> tuple[tuple[StateRecord, bool], ...]:
            return tuple(read_watched_state(self.config, name) for name in container_ids)

        return await self.in_thread(read)

    def tell(self, action: str, record: ContainerRecord, **attributes: str) -> None:
        """Append an event about a container; one write to a local file."""
        append_container_event(
            str(self.config.events_path),
            action,
            container_id=record.container_id,
            name=record.name,
            attributes={"image": record.image, **attributes},
            labels=record.labels,
        )

    def close(self) -> None:
        """Let the threads go when they have done what they were given."""
        self._threads.shutdown(wait=True)
