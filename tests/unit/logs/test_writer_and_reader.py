import asyncio
import os
import resource
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.logs import writer as writer_module
from engine.logs.reader import follow_log, read_log
from engine.logs.writer import LogWriter, parse_timestamp
from engine.types import OutputStream

MIB = 1 << 20


def text_of(lines, stream):
    return b"".join(
        line.text if line.is_partial else line.text + b"\n"
        for line in lines
        if line.stream == stream
    )


async def collect(path, **options):
    return [line async for batch in read_log(str(path), **options) for line in batch]


chunks = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.one_of(
            st.binary(min_size=1, max_size=60),
            st.sampled_from([b"\n", b"$ ", b"a\nb", b"\n\n", b"x" * 16384, b"y" * 40000 + b"\nz"]),
        ),
    ),
    max_size=40,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=chunks, file_bytes=st.sampled_from([300, 5000, MIB]))
def test_what_a_container_writes_comes_back_byte_for_byte(tmp_path_factory, chunks, file_bytes):
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogWriter(str(path), file_bytes=file_bytes, file_count=100)
    for stream, chunk in chunks:
        log.write(stream, chunk)
    log.close()
    lines = asyncio.run(collect(path))
    for stream in OutputStream:
        written = b"".join(chunk for name, chunk in chunks if name == stream)
        assert text_of(lines, stream) == written
    assert all(len(line.text) <= 16384 for line in lines)
    times = [line.timestamp_ns for line in lines]
    assert times == sorted(times)


async def test_the_oldest_files_go_when_there_are_too_many(tmp_path):
    log = LogWriter(str(tmp_path / "log"), file_bytes=1000, file_count=3)
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert {"log", "log.1", "log.2"} == set(os.listdir(tmp_path))
    lines = await collect(tmp_path / "log")
    assert lines[-1].text == b"line 99"
    numbers = [int(line.text.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 100))


async def test_a_log_of_one_file_starts_anew_when_it_is_full(tmp_path):
    log = LogWriter(str(tmp_path / "log"), file_bytes=1000, file_count=1)
    for number in range(50):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").stat().st_size < 1100


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 5000, 6000])
@pytest.mark.parametrize("file_bytes", [20_000, 100 * MIB])
async def test_the_tail_is_the_last_lines_over_all_files(tmp_path, count, file_bytes):
    log = LogWriter(str(tmp_path / "log"), file_bytes=file_bytes, file_count=100)
    for number in range(5000):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    lines = await collect(tmp_path / "log", tail=count)
    assert [line.text for line in lines] == [b"line %d" % number for number in range(5000)][
        max(5000 - count, 0) :
    ]


async def test_the_tail_keeps_the_pieces_of_a_line_together(tmp_path):
    log = LogWriter(str(tmp_path / "log"), file_bytes=MIB, file_count=3)
    log.write("stdout", b"old\n")
    log.write("stdout", b"be")
    log.write("stderr", b"noise\n")
    log.write("stdout", b"gin\n")
    log.close()
    assert [line.text for line in await collect(tmp_path / "log", tail=1)] == [b"be", b"gin"]
    assert [line.text for line in await collect(tmp_path / "log", tail=2)] == [
        b"be",
        b"noise",
        b"gin",
    ]


async def test_the_tail_of_a_long_log_reads_little_of_it(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = LogWriter(str(path), file_bytes=100 * MIB, file_count=3)
    log.write("stdout", b"".join(b"line %d\n" % number for number in range(300_000)))
    log.close()
    read = 0
    real = os.pread

    def counting(descriptor, size, offset):
        nonlocal read
        block = real(descriptor, size, offset)
        read += len(block)
        return block

    monkeypatch.setattr("engine.logs.files.os.pread", counting)
    assert len(await collect(path, tail=100)) == 100
    assert read < MIB < path.stat().st_size


@pytest.mark.parametrize("file_bytes", [500, 3000, MIB])
async def test_since_and_until_choose_by_time(tmp_path, monkeypatch, file_bytes):
    clock = iter(range(10**18, 10**19, 10**9))
    monkeypatch.setattr(writer_module.time, "time_ns", lambda: next(clock))
    log = LogWriter(str(tmp_path / "log"), file_bytes=file_bytes, file_count=1000)
    for number in range(200):
        log.write("stderr", b"line %d\n" % number)
    log.close()
    everything = await collect(tmp_path / "log")
    assert len(everything) == 200
    for first, last in [(0, 199), (0, 0), (57, 120), (199, 199), (120, 119)]:
        lines = await collect(
            tmp_path / "log",
            since_ns=everything[first].timestamp_ns,
            until_ns=everything[last].timestamp_ns,
        )
        assert lines == everything[first : last + 1]
    assert await collect(tmp_path / "log", since_ns=everything[-1].timestamp_ns + 1) == []
    assert (
        await collect(tmp_path / "log", since_ns=everything[10].timestamp_ns - 1, tail=1000)
        == everything[10:]
    )


async def test_following_loses_and_doubles_nothing_over_rotations(tmp_path):
    path = tmp_path / "log"
    ended = asyncio.Event()

    async def write():
        log = LogWriter(str(path), file_bytes=4000, file_count=1000)
        for number in range(2000):
            log.write("stdout", b"line %d\n" % number)
            if number % 37 == 0:
                await asyncio.sleep(0)
        log.close()
        ended.set()

    async def follow():
        return [line async for batch in follow_log(str(path), ended.wait) for line in batch]

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(follow())
        group.create_task(write())
    assert [line.text for line in reader.result()] == [b"line %d" % n for n in range(2000)]


async def test_following_shows_a_prompt_at_once_and_then_the_rest(tmp_path):
    path = tmp_path / "log"
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"before\nname? ")
    async with aclosing(follow_log(str(path), asyncio.Event().wait)) as batches:
        first = await anext(batches)
        log.write("stderr", b"again? ")
        second = await anext(batches)
        log.write("stderr", b"yes\n")
        third = await anext(batches)
    log.close()
    texts = [[line.text for line in lines] for lines in (first, second, third)]
    assert texts == [[b"before", b"name? "], [b"again? "], [b"yes"]]


async def test_a_cancelled_reader_closes_its_descriptors(tmp_path):
    path = tmp_path / "log"
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"one\n")
    log.close()
    seen = asyncio.Event()
    before = set(os.listdir("/proc/self/fd"))

    async def follow():
        async for _ in follow_log(str(path), asyncio.Event().wait):
            seen.set()

    task = asyncio.create_task(follow())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [name for name in set(os.listdir("/proc/self/fd")) - before if _is(name, path)]


def _is(descriptor, path):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except OSError:
        return False


async def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "log"
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"good\n")
    log.close()
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\nnonsense\n2026-99-99T stdout F x\n\n2026-11-21T05:1")
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"better\n")
    log.close()
    assert [line.text for line in await collect(path)] == [b"good", b"better"]
    assert [line.text for line in await collect(path, tail=2)] == [b"good", b"better"]


async def test_a_missing_log_is_an_empty_one(tmp_path):
    assert await collect(tmp_path / "log") == []


async def test_a_full_disk_loses_output_and_says_so_when_there_is_space_again(tmp_path):
    path = tmp_path / "log"
    log = LogWriter(str(path), file_bytes=100 * MIB, file_count=2)
    log.write("stdout", b"first\nhalf")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        log.write("stdout", b"".join(b"line %d\n" % number for number in range(50)))
        log.write("stderr", b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.lost_bytes > 200
    log.write("stdout", b"last\n")
    log.close()
    lines = await collect(path)
    assert lines[0].text == b"first"
    assert lines[-1].text == b"last"
    assert str(log.lost_bytes).encode() in lines[-2].text
    assert b"output lost here" in lines[-2].text


def test_time_does_not_run_backwards_after_a_restart(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setattr(writer_module.time, "time_ns", lambda: 2 * 10**18)
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"one\n")
    log.close()
    monkeypatch.setattr(writer_module.time, "time_ns", lambda: 10**18)
    log = LogWriter(str(path), file_bytes=MIB, file_count=2)
    log.write("stdout", b"two\n")
    log.close()
    first, second = path.read_bytes().splitlines()
    assert parse_timestamp(first[:30]) == 2 * 10**18
    # Each write has a time of its own, so that a reader can tell what came before a moment.
    assert parse_timestamp(second[:30]) == 2 * 10**18 + 1


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_a_timestamp_is_read_as_it_was_written(moment):
    import time

    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 10**9))
    assert parse_timestamp(f"{text}.{moment % 10**9:09d}Z".encode()) == moment
