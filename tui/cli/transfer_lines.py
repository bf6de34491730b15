"""Layers on their way, as Docker shows them: bars on a terminal, else a line for each step."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from engine.types import LayerTransfer, TransferStatus
from tui.cli import docker_texts, output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.types import TransferListener

_SECONDS_BETWEEN = 0.1
_BAR_CELLS = 50
_NARROWEST_WITH_BAR = 100
_IN_NUMBERS = frozenset(
    {TransferStatus.DOWNLOADING, TransferStatus.EXTRACTING, TransferStatus.PUSHING}
)
_AT_THE_END = frozenset(
    {
        TransferStatus.DONE,
        TransferStatus.EXISTS,
        TransferStatus.PUSHED,
        TransferStatus.MOUNTED,
        TransferStatus.PRESENT,
    }
)


@contextlib.contextmanager
def transfer_lines(descriptor: int = 1) -> Iterator[TransferListener]:
    """Show layers on a descriptor until the block ends; the last state of each stays."""
    if os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb":
        bars = _Bars(descriptor)
        try:
            yield bars
        finally:
            bars.finish()
    else:
        yield _Lines(descriptor)


def _write(descriptor: int, text: str) -> None:
    output.write_all(descriptor, text.encode("utf-8", "replace"))


def _words(transfer: LayerTransfer) -> str:
    detail = f" {transfer.detail}" if transfer.detail else ""
    return f"{output.short_id(transfer.digest)}: {transfer.status}{detail}"


class _Lines:
    """For a pipe: one line for each new status of a layer, without the numbers."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._said: dict[str, str] = {}

    def __call__(self, transfer: LayerTransfer, /) -> None:
        if transfer.status in _IN_NUMBERS:
            return
        words = _words(transfer)
        if self._said.get(transfer.digest) != words:
            self._said[transfer.digest] = words
            _write(self._descriptor, words + "\n")


class _Bars:
    """For a terminal: one line for each layer, drawn again in place."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._layers: dict[str, LayerTransfer] = {}
        self._drawn_lines = 0
        self._drawn_at = 0.0
        self._is_stale = False

    def __call__(self, transfer: LayerTransfer, /) -> None:
        self._layers[transfer.digest] = transfer
        now = time.monotonic()
        self._is_stale = now - self._drawn_at < _SECONDS_BETWEEN
        if not self._is_stale:
            self._drawn_at = now
            self._draw()

    def finish(self) -> None:
        """Draw what was not drawn yet."""
        if self._is_stale:
            self._draw()

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        lines = [_bar(layer, columns)[: columns - 1] for layer in self._shown(rows - 2)]
        hidden = len(self._layers) - len(lines)
        if hidden:
            lines.append(f"… and {hidden} more"[: columns - 1])
        up = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        self._drawn_lines = len(lines)
        _write(self._descriptor, up + "".join(f"\r{line}\x1b[K\n" for line in lines) + "\x1b[J")

    def _shown(self, room: int) -> list[LayerTransfer]:
        """As many as the screen has room for; what goes on comes before what is done."""
        layers = list(self._layers.values())
        if len(layers) <= room:
            return layers
        active = [layer for layer in layers if layer.status not in _AT_THE_END]
        active.sort(key=lambda layer: layer.status not in _IN_NUMBERS)
        done = [layer for layer in layers if layer.status in _AT_THE_END]
        return [*active, *done][: max(1, room - 1)]


def _bar(transfer: LayerTransfer, columns: int) -> str:
    words = _words(transfer)
    if transfer.status not in _IN_NUMBERS or not transfer.total_bytes:
        return words
    share = min(1.0, transfer.done_bytes / transfer.total_bytes)
    numbers = f"{docker_texts.size(transfer.done_bytes)}/{docker_texts.size(transfer.total_bytes)}"
    if columns < _NARROWEST_WITH_BAR:
        return f"{words} {share:4.0%} {numbers}"
    filled = int(share * _BAR_CELLS)
    bar = ("=" * filled + ">")[:_BAR_CELLS].ljust(_BAR_CELLS)
    return f"{words:<25} [{bar}] {numbers}"
