"""What becomes of the layers of one pull, told in an order that makes sense."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.images.transfer_board import TransferBoard
from engine.types import Digest, TransferStatus

if TYPE_CHECKING:
    from engine.types import LayerTransfer

DIGEST = Digest(f"sha256:{'a' * 64}")


async def test_a_finished_layer_is_not_on_its_way_again_because_its_thread_is_late() -> None:
    told: list[LayerTransfer] = []
    board = TransferBoard(told.append)
    for status in (
        TransferStatus.WAITING,
        TransferStatus.DOWNLOADING,
        TransferStatus.DONE,
        TransferStatus.DOWNLOADING,
        TransferStatus.DOWNLOADED,
    ):
        board.tell(DIGEST, status)
    await asyncio.sleep(0)
    assert [one.status for one in told][-1] is TransferStatus.DONE
    # It came damaged, and is brought once more.
    for status in (TransferStatus.WAITING, TransferStatus.DOWNLOADED):
        board.tell(DIGEST, status)
    await asyncio.sleep(0)
    assert [one.status for one in told][-1] is TransferStatus.DOWNLOADED
