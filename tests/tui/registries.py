"""What the tests of registries in the application share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import Digest, LayerTransfer, TransferStatus
from tests.tui.conftest import paste, settled, wait_until
from tui.screens.registry import RegistryScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot


NAME = "localhost:5000/web:1"
SIZES = [(120, 40), (80, 24), (60, 16)]


def moving(*, done_bytes: int, count: int = 1) -> tuple[LayerTransfer, ...]:
    """The state of so many layers, the first of which is here and the second on its way."""
    return tuple(
        LayerTransfer(
            digest=Digest(f"sha256:{number:012x}{'0' * 52}"),
            status=(TransferStatus.EXISTS, TransferStatus.DOWNLOADING, TransferStatus.WAITING)[
                min(number, 2)
            ],
            done_bytes=done_bytes if number == 1 else 0,
            total_bytes=40_000_000,
        )
        for number in range(count)
    )


async def search(pilot: Pilot[None], term: str) -> None:
    await settled(pilot)
    await pilot.press("P")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, RegistryScreen))
    await paste(pilot, term)
    await pilot.press("enter")
    await settled(pilot)


async def settled_screen(pilot: Pilot[None]) -> None:
    """The operation goes on: only what was pressed is waited for."""
    for _ in range(3):
        await pilot.pause()
