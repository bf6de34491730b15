"""What a follower of a log holds in memory while the log grows faster than it is read."""

import asyncio
import contextlib
import threading

from engine.logs.files import LogFiles
from engine.logs.writer import LogWriter
from engine.types import LogLine, OutputStream
from tests.fakes import FakeEngine
from tui.bridge import _STREAM_CAPACITY, Bridge
from tui.log_buffer import LogBuffer

DEADLINE_SECONDS = 30
BLOCK_BYTES = 256 << 10
LONGEST_RECORD_BYTES = 17 << 10


def record(text, *, number=0, stream=OutputStream.STDOUT, is_partial=False):
    return LogLine(stream=stream, timestamp_ns=number, text=text, is_partial=is_partial)


def held_bytes(buffer):
    return sum(len(line.raw) for line in buffer.lines)


def test_the_ring_keeps_to_its_lines_and_bytes_whatever_comes():
    buffer = LogBuffer(maximum_lines=1000, maximum_bytes=100_000)
    for number in range(300):
        buffer.append(tuple(record(b"x" * (number * 7 % 400), number=number) for _ in range(100)))
        assert len(buffer.lines) <= 1000
        assert buffer.size_bytes == held_bytes(buffer) <= 100_000
    assert buffer.dropped_count == 30_000 - len(buffer.lines)


def test_a_line_that_never_ends_does_not_grow_after_it_fell_out():
    buffer = LogBuffer(maximum_lines=100, maximum_bytes=100_000)
    buffer.append((record(b"e" * 100, stream=OutputStream.STDERR, is_partial=True),))
    for _ in range(50):
        buffer.append(tuple(record(b"o" * 100) for _ in range(90)))
        buffer.append((record(b"e" * 100, stream=OutputStream.STDERR, is_partial=True),))
        assert buffer.size_bytes == held_bytes(buffer)
    assert len(buffer.lines) <= 100


def test_a_reader_of_a_log_that_rotates_holds_a_block_and_the_files_that_there_are(tmp_path):
    path = str(tmp_path / "log")
    writer = LogWriter(path, file_bytes=1 << 20, file_count=3)
    follower = LogFiles(path)
    try:
        follower.open(tail=None, since_ns=None, until_ns=None)
        line = b"0123456789" * 8 + b"\n"
        for _ in range(200):
            # A quarter of a megabyte is written for each thousand lines that are read.
            writer.write(OutputStream.STDOUT.value, line * 3000)
            batch = follower.read_batch(is_following=True)
            assert batch is not None
            assert len(batch) <= 1000
            assert len(follower._rest) <= BLOCK_BYTES + LONGEST_RECORD_BYTES
            assert len(follower._files) <= 3 + 1
    finally:
        follower.close()
        writer.close()


class _Begun:
    """Runs beside the calls; tells when calls can be made."""

    def __init__(self):
        self.event = threading.Event()

    async def run(self, _engine):
        self.event.set()
        await asyncio.Event().wait()


async def test_between_engine_and_interface_a_flood_waits_at_the_bound():
    begun = _Begun()
    bridge = Bridge(FakeEngine().opened, wake=lambda: None, task=begun)
    made = []

    async def flood(_engine):
        while True:
            made.append(None)
            yield b"line"

    bridge.start()
    assert await asyncio.to_thread(begun.event.wait, DEADLINE_SECONDS)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            taken = 0
            async with contextlib.aclosing(bridge.stream(lambda engine: flood(engine))) as stream:
                async for items in stream:
                    assert len(items) <= _STREAM_CAPACITY
                    taken += len(items)
                    # However slow this side is, nothing is made ahead of what can be held.
                    for _ in range(50):
                        await asyncio.sleep(0)
                    assert len(made) <= taken + _STREAM_CAPACITY
                    if taken > 10 * _STREAM_CAPACITY:
                        break
    finally:
        await bridge.aclose()
