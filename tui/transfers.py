"""How far the layers of one pull or push have come, how fast they go and how long it will take.

Pure: who asks says what time it is.
"""

from __future__ import annotations

from collections import deque

from engine.late_dataclasses import dataclass
from engine.types import LayerTransfer, TransferStatus
from tui import format as formatting

RATE_SECONDS = 5.0
"""A speed is that of the last seconds."""
_FIRST_PIECE_BYTES = 1 << 20
"""What a layer has at its first report is not more than this, unless it was begun earlier."""
_SHORTEST_RATE_SECONDS = 0.5

IN_NUMBERS = frozenset(
    {TransferStatus.DOWNLOADING, TransferStatus.EXTRACTING, TransferStatus.PUSHING}
)
AT_THE_END = frozenset(
    {
        TransferStatus.DONE,
        TransferStatus.EXISTS,
        TransferStatus.PUSHED,
        TransferStatus.MOUNTED,
        TransferStatus.PRESENT,
    }
)
_MOVING = frozenset({TransferStatus.DOWNLOADING, TransferStatus.PUSHING})
_NOTHING_TO_MOVE = frozenset(
    {TransferStatus.EXISTS, TransferStatus.MOUNTED, TransferStatus.PRESENT}
)
_MOVED = frozenset(
    {
        TransferStatus.VERIFYING,
        TransferStatus.DOWNLOADED,
        TransferStatus.EXTRACTING,
        TransferStatus.DONE,
        TransferStatus.PUSHED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerState:
    """One layer as it is shown."""

    transfer: LayerTransfer
    bytes_per_second: int
    """Over the connection; 0 while nothing comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTotal:
    """All layers together."""

    layer_count: int
    finished_count: int
    moved_bytes: int
    """Over the connection, what an earlier try has left included."""
    total_bytes: int | None
    """None as long as the size of a layer is not known."""
    bytes_per_second: int
    seconds_left: float | None


class _Rate:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._began_at: float | None = None

    def add(self, count: int, *, now: float) -> None:
        if self._began_at is None:
            self._began_at = now
        self._samples.append((now, count))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] < now - RATE_SECONDS:
            self._samples.popleft()

    def per_second(self, now: float) -> int:
        self._forget(now)
        if not self._samples or self._began_at is None:
            return 0
        seconds = min(RATE_SECONDS, max(_SHORTEST_RATE_SECONDS, now - self._began_at))
        return int(sum(count for _, count in self._samples) / seconds)


class _Layer:
    """What is known of one layer."""

    def __init__(self, transfer: LayerTransfer) -> None:
        self.transfer = transfer
        self.moved_bytes = 0
        self.size_bytes: int | None = None
        self.rate = _Rate()


class TransferMeter:
    """Takes note of layers, each at its position."""

    def __init__(self) -> None:
        self._layers: dict[int, _Layer] = {}
        self._rate = _Rate()

    @property
    def has_moved(self) -> bool:
        """Whether anything went over the connection."""
        return any(layer.moved_bytes for layer in self._layers.values())

    def take(self, transfer: LayerTransfer, *, position: int, now: float) -> None:
        """Take note of the newest state of a layer.

        News of layers overtake each other on their way here: what says where it belongs is its
        position.
        """
        layer = self._layers.get(position)
        if layer is None:
            layer = self._layers[position] = _Layer(transfer)
            self._layers = dict(sorted(self._layers.items()))
        layer.transfer = transfer
        status = transfer.status
        if status in _NOTHING_TO_MOVE:
            layer.size_bytes = layer.moved_bytes = 0
            return
        # While a layer is made for a push its size is that of the tar, not of what is sent.
        if transfer.total_bytes is not None and status is not TransferStatus.PREPARING:
            layer.size_bytes = transfer.total_bytes
        moved = layer.moved_bytes
        if status in _MOVING:
            moved = transfer.done_bytes
        elif status in _MOVED and layer.size_bytes is not None:
            moved = layer.size_bytes
        self._move(layer, moved, now)

    def _move(self, layer: _Layer, moved_bytes: int, now: float) -> None:
        new = moved_bytes - layer.moved_bytes
        if not layer.moved_bytes and new > _FIRST_PIECE_BYTES:
            new = 0  # an earlier try has left it
        layer.moved_bytes = moved_bytes
        if new > 0:
            layer.rate.add(new, now=now)
            self._rate.add(new, now=now)

    def layers(self, *, now: float) -> tuple[LayerState, ...]:
        """Every layer."""
        return tuple(
            LayerState(
                transfer=layer.transfer,
                bytes_per_second=(
                    layer.rate.per_second(now) if layer.transfer.status in _MOVING else 0
                ),
            )
            for layer in self._layers.values()
        )

    def total(self, *, now: float) -> TransferTotal:
        """All of them together."""
        layers = self._layers.values()
        moved = sum(layer.moved_bytes for layer in layers)
        sizes = [layer.size_bytes for layer in layers]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        rate = self._rate.per_second(now)
        left = None
        if total is not None and rate and moved < total:
            left = (total - moved) / rate
        return TransferTotal(
            layer_count=len(layers),
            finished_count=sum(layer.transfer.status in AT_THE_END for layer in layers),
            moved_bytes=moved,
            total_bytes=total,
            bytes_per_second=rate if total is None or moved < total else 0,
            seconds_left=left,
        )


def total_text(total: TransferTotal) -> str:
    """Write how far all layers are together: `2 of 5 layers  12.3 MB of 45.6 MB  3.2 MB/s  9 s`."""
    if not total.layer_count:
        return ""
    pieces = [f"{total.finished_count} of {total.layer_count} layers"]
    if total.total_bytes is None:
        if total.moved_bytes:
            pieces.append(formatting.size(total.moved_bytes))
    elif total.total_bytes:
        moved = min(total.moved_bytes, total.total_bytes)
        pieces.append(f"{formatting.size(moved)} of {formatting.size(total.total_bytes)}")
    if total.bytes_per_second:
        pieces.append(f"{formatting.size(total.bytes_per_second)}/s")
    if total.seconds_left is not None:
        pieces.append(f"{formatting.duration(total.seconds_left + 1)} left")
    return "  ".join(pieces)
