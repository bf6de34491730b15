"""Containers of the starter image that say what they see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerRequest, ExitStatus, ProcessOptions

if TYPE_CHECKING:
    from engine.api import EngineApi


@dataclass(frozen=True)
class Said:
    """How a container ended and what it wrote, both streams in order."""

    status: ExitStatus
    text: str
    warnings: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Run = Callable[..., Awaitable[Said]]


@pytest.fixture
def run(engine: EngineApi, starter_image: object) -> Run:
    """Run a shell script; fields of the request, and `options` of the process by their names."""

    async def call(script: str, *, name: str = "one", **fields: object) -> Said:
        options = {
            field: fields.pop(field)
            for field in tuple(fields)
            if field in ProcessOptions.__dataclass_fields__
        }
        created = await engine.create_container(
            ContainerRequest(
                image="starter",
                name=name,
                command=("sh", "-c", script),
                options=ProcessOptions(**options),
                **fields,
            )
        )
        try:
            await engine.start_container(name)
            status = await engine.wait_container(name)
            text = ""
            async for lines in engine.follow_logs(name, is_following=False):
                text += "".join(
                    line.text.decode() + ("" if line.is_partial else "\n") for line in lines
                )
        finally:
            await engine.remove_container(name, is_forced=True)
        return Said(status, text, created.warnings)

    return call
