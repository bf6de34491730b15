"""What can be asked about volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.types import PrunedVolumes, VolumeSummary


class VolumeApi(Protocol):
    """What can be asked about volumes. A volume has one name, which is also its id."""

    async def list_volumes(self) -> tuple[VolumeSummary, ...]:
        """Every volume, by name."""

    async def inspect_volume(self, name: str) -> VolumeSummary:
        """One volume.

        Raises:
            VolumeNotFoundError: There is none.
        """

    async def measure_volume(self, name: str) -> int:
        """Bytes that a volume's files have now; a walk over all of them.

        Raises:
            VolumeNotFoundError: There is none.
        """

    async def create_volume(
        self, name: str | None = None, *, labels: tuple[tuple[str, str], ...] = ()
    ) -> VolumeSummary:
        """Make an empty volume; without a name an anonymous one.

        One that is there already is left as it is, and returned.
        """

    async def remove_volume(self, name: str, *, is_forced: bool = False) -> None:
        """Remove a volume with its files; forced: one that is not there is no error.

        Raises:
            VolumeNotFoundError: There is none.
            VolumeInUseError: A container has it, forced or not.
        """

    async def prune_volumes(
        self, *, includes_named: bool = False, label_filters: tuple[str, ...] = ()
    ) -> PrunedVolumes:
        """Remove every volume that no container has; only anonymous ones unless told otherwise.

        A filter is `key` or `key=value`; with a `!` before it the label must be missing.
        """
