"""Replacing a damaged layer by a whole one, in one step, under whatever stands on it."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from engine.linux.files import exchange
from engine.store.durability import raise_store_error
from engine.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.store.check_records import CheckRecords
    from engine.store.image_records import LayerRecord
    from engine.types import ChainId

_IS_THERE = frozenset((errno.ENOTEMPTY, errno.EEXIST))


class LayerMender:
    """Puts layers into place, also where a damaged one is; hold the image lock meanwhile."""

    def __init__(self, *, config: EngineConfig, checks: CheckRecords) -> None:
        """Mend layers of one store."""
        self._config = config
        self._checks = checks

    async def replaceable(self, chain_ids: Iterable[ChainId]) -> frozenset[ChainId]:
        """Which of some layers are damaged, and under no container that runs."""
        damaged = await self._checks.damaged_of(chain_ids)
        return frozenset([chain_id for chain_id in damaged if not await self.runners(chain_id)])

    async def runners(self, chain_id: ChainId) -> tuple[str, ...]:
        """Names of the running containers that stand on a layer: its files are theirs."""
        users = await self._checks.users_of(chain_id)
        return await asyncio.to_thread(
            lambda: tuple(
                user.name
                for user in users
                if is_locked(self._config.container_run_directory(user.container_id) / "lock")
            )
        )

    def place(self, staged: Path, target: Path, *, is_replaced: bool) -> bool:
        """Rename a whole layer to its place; blocking.

        Args:
            staged: Where it is. If there was a layer before that is replaced, it is there then.
            target: Where it belongs.
            is_replaced: Replace a layer that is in its place; else that one stays.

        Returns:
            False if the one that was there has stayed.
        """
        try:
            os.rename(staged, target)
        except OSError as error:
            if error.errno not in _IS_THERE:
                raise_store_error(error, target)
        else:
            return True
        if not is_replaced:
            # Put there by somebody else: a directory under its name is whole.
            return False
        try:
            exchange(str(staged), str(target))
        except OSError as error:
            raise_store_error(error, target)
        return True

    async def mended(self, layers: Iterable[LayerRecord]) -> None:
        """Write down that layers are whole again."""
        await self._checks.mend(layers)
