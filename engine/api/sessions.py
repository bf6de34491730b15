"""Calls about programs in containers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.api.parts import EngineParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.interface.sessions import Session
    from engine.types import ExecRequest, TerminalSize


class SessionCalls(EngineParts):
    """`SessionApi` over the monitors."""

    @contextlib.asynccontextmanager
    async def attach_container(
        self,
        reference: str,
        *,
        size: TerminalSize | None = None,
        has_replay: bool = True,
        is_from_start: bool = False,
    ) -> AsyncIterator[Session]:
        """As EngineApi."""
        from engine.containers import sessions

        record = await self._containers.find(reference)
        async with sessions.attach(
            self._services, record, size=size, has_replay=has_replay, is_from_start=is_from_start
        ) as session:
            yield session

    @contextlib.asynccontextmanager
    async def exec_container(
        self, reference: str, request: ExecRequest, *, size: TerminalSize | None = None
    ) -> AsyncIterator[Session]:
        """As EngineApi."""
        from engine.containers import sessions

        record = await self._containers.find(reference)
        async with sessions.run_in_container(self._services, record, request, size=size) as session:
            yield session

    async def exec_detached(self, reference: str, request: ExecRequest) -> str:
        """As EngineApi."""
        from engine.containers import sessions

        record = await self._containers.find(reference)
        return await sessions.run_detached(self._services, record, request)
