"""What container operations need of volumes; `engine.volumes.library` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.store.volume_records import VolumeRecord
    from engine.volumes.library import LiveCheck, WantedVolume


class ContainerVolumes(Protocol):
    """Makes volumes for containers, and keeps them while one starts."""

    def prepare(
        self,
        wanted: tuple[WantedVolume, ...],
        *,
        layer_paths: tuple[str, ...],
        is_any_live: LiveCheck,
    ) -> AbstractAsyncContextManager[tuple[VolumeRecord, ...]]:
        """Have volumes ready for a container that is made in the block, which adds the records.

        Raises:
            InvalidInputError: A volume cannot have this name.
        """

    def keep(self, names: tuple[str, ...], /) -> AbstractAsyncContextManager[None]:
        """Let nobody fill or remove these volumes while the block lasts."""

    async def discard(self, name: str, /) -> None:
        """Remove the files of a volume whose record has gone."""
