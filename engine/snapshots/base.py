"""What a container's root filesystem is made of, whoever makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.snapshots.writable_jobs import CompareArguments
    from engine.types import ChainId, LayerChange

DIFF_NAME = "diff"
"""Of a layer's directory: its files."""
INDEX_NAME = "index"
"""Of a layer's directory: what `engine.snapshots.index` writes and reads."""
TAR_NAME = "tar"
"""Of a layer's directory: what `engine.snapshots.layer_tar` writes and reads."""
REPLACED_NAME = "replaced"
"""Of a layer's directory: contents that its tar has and `diff` has not; most layers have none."""
LAYER_PARTS = (DIFF_NAME, INDEX_NAME, TAR_NAME, REPLACED_NAME)
UPPER_NAME = "upper"
WORK_NAME = "work"


class JobRunner(Protocol):
    """Runs blocking jobs where files with a container's ids can be touched.

    The supervisor of the runtime is one; cancelling kills the process that does the job.
    """

    async def run_job(
        self,
        job: str,
        arguments: bytes,
        *,
        descriptors: tuple[int, ...] = (),
        on_progress: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Run a job that `engine.runtime.worker` knows and return its result.

        Raises:
            EngineError: What the job raised.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Rootfs:
    """How a root filesystem is put together; the fields are those of the runtime's spec.

    Attributes:
        kind: `overlay`, or `copy`: then `upper` is the whole tree.
        lowers: Directories, topmost first; the last one holds stubs for mount points.
        upper: The writable layer.
        work: Overlay's work directory; it exists for copies too, empty.
    """

    kind: str
    lowers: tuple[str, ...]
    upper: str
    work: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUsage:
    """What a writable layer holds."""

    size_bytes: int
    entry_count: int


class Snapshotter(Protocol):
    """Makes writable layers on top of read-only ones."""

    @property
    def kind(self) -> str:
        """`overlay` or `copy`."""

    def rootfs(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """What the container's root consists of; touches nothing on disk.

        Args:
            container_directory: Of the container.
            chain_ids: Of the image's layers, bottom first.
        """

    async def prepare(self, container_directory: Path, chain_ids: Sequence[ChainId]) -> Rootfs:
        """Make the writable layer in an existing container directory.

        Raises:
            NoSpaceError: The disk is full. What was made is removed again.
        """

    async def remove(self, container_directory: Path) -> None:
        """Remove the writable layer; one that is not there is no error."""

    async def usage(self, container_directory: Path) -> LayerUsage:
        """Measure the writable layer now."""

    async def changes(
        self,
        container_directory: Path,
        chain_ids: Sequence[ChainId],
        mount_points: Sequence[str] = (),
    ) -> tuple[LayerChange, ...]:
        """What the writable layer adds, changes and removes, sorted by path.

        Args:
            container_directory: Of the container.
            chain_ids: Of the image's layers, bottom first.
            mount_points: Paths in the container that volumes and binds are mounted on: what the
                engine made there for them is no change.
        """

    def comparison(
        self, chain_ids: Sequence[ChainId], mount_points: Sequence[str]
    ) -> CompareArguments:
        """What a job needs to compare a writable layer with the layers below it."""
