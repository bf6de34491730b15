"""How far a pull or push is, how fast it goes, how long it will take."""

from __future__ import annotations

from engine.types import Digest, LayerTransfer, TransferStatus
from tui.image_names import repository_of, with_tag
from tui.transfers import TransferMeter, total_text

MIB = 1 << 20


def layer(
    letter: str,
    status: TransferStatus,
    done_bytes: int = 0,
    total_bytes: int | None = 100 * MIB,
    detail: str = "",
) -> LayerTransfer:
    return LayerTransfer(
        digest=Digest(f"sha256:{letter * 64}"),
        status=status,
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        detail=detail,
    )


def test_speed_and_time_left_are_those_of_the_last_seconds() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.WAITING), position=0, now=0)
    for second in range(1, 6):
        meter.take(
            layer("a", TransferStatus.DOWNLOADING, second * MIB), position=0, now=float(second)
        )
    total = meter.total(now=5)
    assert total.moved_bytes == 5 * MIB
    assert total.total_bytes == 100 * MIB
    # The first came at second 1: five pieces in four seconds.
    assert total.bytes_per_second == 5 * MIB // 4
    assert total.seconds_left == 95 * MIB / total.bytes_per_second
    assert total_text(total) == "0 of 1 layers  5.2 MB of 105 MB  1.3 MB/s  77 s left".replace(
        "77 s", "1 m"
    )


def test_nothing_is_said_of_a_speed_when_nothing_comes_any_more() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.DOWNLOADING, MIB), position=0, now=0)
    assert meter.layers(now=1)[0].bytes_per_second
    assert not meter.layers(now=6)[0].bytes_per_second
    total = meter.total(now=6)
    assert (total.bytes_per_second, total.seconds_left) == (0, None)


def test_what_an_earlier_try_left_has_come_but_is_no_speed() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.WAITING), position=0, now=0)
    meter.take(layer("a", TransferStatus.DOWNLOADING, 90 * MIB), position=0, now=1)
    assert meter.total(now=1).moved_bytes == 90 * MIB
    assert meter.total(now=1).bytes_per_second == 0
    meter.take(layer("a", TransferStatus.DOWNLOADING, 91 * MIB), position=0, now=2)
    assert 0 < meter.total(now=2).bytes_per_second <= 2 * MIB


def test_layers_that_are_here_count_as_finished_and_not_as_bytes() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.EXISTS), position=0, now=0)
    meter.take(layer("b", TransferStatus.DOWNLOADING, MIB, 2 * MIB), position=1, now=0)
    total = meter.total(now=0)
    assert (total.finished_count, total.layer_count) == (1, 2)
    assert (total.moved_bytes, total.total_bytes) == (MIB, 2 * MIB)


def test_a_layer_that_waits_to_be_tried_again_keeps_what_has_come() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.DOWNLOADING, MIB, 2 * MIB), position=0, now=0)
    meter.take(layer("a", TransferStatus.RETRYING, 0, None, "in 3 seconds"), position=0, now=1)
    assert meter.total(now=1).moved_bytes == MIB
    assert meter.total(now=1).total_bytes == 2 * MIB


def test_a_layer_that_is_unpacked_has_come_whole() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.DOWNLOADING, MIB, 2 * MIB), position=0, now=0)
    meter.take(layer("a", TransferStatus.EXTRACTING, MIB // 2, 2 * MIB), position=0, now=1)
    total = meter.total(now=1)
    assert total.moved_bytes == 2 * MIB
    assert (total.bytes_per_second, total.seconds_left) == (0, None)
    assert meter.layers(now=1)[0].transfer.done_bytes == MIB // 2


def test_how_much_a_push_sends_is_not_known_before_its_layers_are_made() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.PREPARING, MIB, 9 * MIB), position=0, now=0)
    meter.take(layer("b", TransferStatus.PUSHING, MIB, 2 * MIB), position=1, now=0)
    assert meter.total(now=0).total_bytes is None
    meter.take(layer("a", TransferStatus.PRESENT, 0, None), position=0, now=1)
    assert meter.total(now=1).total_bytes == 2 * MIB


def test_whether_anything_moved() -> None:
    meter = TransferMeter()
    meter.take(layer("a", TransferStatus.EXISTS), position=0, now=0)
    meter.take(layer("b", TransferStatus.WAITING), position=1, now=0)
    assert not meter.has_moved
    meter.take(layer("b", TransferStatus.DOWNLOADING, 1), position=1, now=0)
    assert meter.has_moved


def test_a_repository_is_a_name_without_tag_and_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    for name, repository in (
        ("web", "web"),
        ("web:1", "web"),
        ("localhost:5000/web", "localhost:5000/web"),
        ("localhost:5000/web:1", "localhost:5000/web"),
        (f"a.b/web:1@{digest}", "a.b/web"),
        (f"web@{digest}", "web"),
        ("web:", "web"),
    ):
        assert repository_of(name) == repository
    assert with_tag("localhost:5000/web:1", "2") == "localhost:5000/web:2"


def test_rows_are_in_the_engines_order_whatever_is_heard_of_first() -> None:
    meter = TransferMeter()
    for position in (2, 0, 1):
        letter = "abc"[position]
        meter.take(layer(letter, TransferStatus.WAITING), position=position, now=0)
    digests = [state.transfer.digest[-1] for state in meter.layers(now=0)]
    assert digests == ["a", "b", "c"]
