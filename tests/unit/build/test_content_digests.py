import hashlib
import os
import threading

import pytest

from engine.build import content_digests
from engine.build.content_digests import DigestMemory
from engine.build.selection import SourceQuery, digest_selection, select_sources
from engine.errors import BuildSourceChangedError
from tests.unit.build.trees import opened_context, write_files

LONG_AGO_NS = 1_000_000_000_000_000_000


@pytest.fixture
def reads(monkeypatch):
    """The names of files that were read."""
    names = []
    real = content_digests._digest

    def count(directory, file, stop):
        names.append(file.path.decode())
        real(directory, file, stop)

    monkeypatch.setattr(content_digests, "_digest", count)
    return names


@pytest.fixture
def later(monkeypatch):
    """Builds happen an hour after the files were written."""
    real = content_digests.time.time_ns
    monkeypatch.setattr(content_digests.time, "time_ns", lambda: real() + 3600 * 10**9)


def digests(directory, memory_path=""):
    memory = DigestMemory(str(memory_path))
    with opened_context(directory, memory=memory) as tree:
        found = select_sources(tree, SourceQuery(sources=(".",)))
        digest_selection(tree, found)
    memory.save()
    return {file.path.decode(): file.content_digest for file in found.files()}


def test_digests_are_those_of_the_contents(tmp_path):
    contents = {"empty": b"", "small": b"x" * 1000, "middle": os.urandom(3 << 20)}
    contents["large"] = os.urandom(9 << 20)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    assert digests(tmp_path) == {
        name: hashlib.sha256(content).digest() for name, content in contents.items()
    }


def test_what_is_as_it_was_is_not_read_again(tmp_path, reads, later):
    context = tmp_path / "context"
    write_files(context, "a", "d/b")
    first = digests(context, tmp_path / "memory")
    reads.clear()

    assert digests(context, tmp_path / "memory")["a"] == first["a"]
    assert reads == []


def test_what_was_written_just_now_is_read_again(tmp_path, reads):
    context = tmp_path / "context"
    write_files(context, "a")
    digests(context, tmp_path / "memory")
    reads.clear()

    digests(context, tmp_path / "memory")
    assert reads == ["a"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path, later):
    context = tmp_path / "context"
    write_files(context, "a = one")
    os.utime(context / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))
    first = digests(context, tmp_path / "memory")
    (context / "a").write_text("two")
    os.utime(context / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))

    assert digests(context, tmp_path / "memory")["a"] != first["a"]


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 20, None])
def test_a_damaged_memory_is_forgotten(tmp_path, later, damage):
    context = tmp_path / "context"
    write_files(context, "a")
    first = digests(context, tmp_path / "memory")
    written = bytearray((tmp_path / "memory").read_bytes())
    written[-1] ^= 1
    (tmp_path / "memory").write_bytes(written if damage is None else damage)

    assert digests(context, tmp_path / "memory")["a"] == first["a"]


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path, later):
    write_files(tmp_path / "context", "a")

    assert digests(tmp_path / "context", tmp_path / "nowhere" / "memory")


def test_a_file_that_changes_between_look_and_reading_is_taken_as_it_was_read(tmp_path):
    write_files(tmp_path, "a = old")
    with opened_context(tmp_path) as tree:
        found = select_sources(tree, SourceQuery(sources=("a",)))
        (tmp_path / "a").write_text("longer than before")
        digest_selection(tree, found)

    (file,) = found.files()
    assert file.content_digest == hashlib.sha256(b"longer than before").digest()
    assert file.size_bytes == len("longer than before")


def test_a_file_that_is_written_all_the_time_is_said_to_be(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(2 << 20))
    real = os.readv

    def write_meanwhile(descriptor, buffers):
        with (tmp_path / "a").open("ab") as file:
            file.write(b"more")
        return real(descriptor, buffers) if os.fstat(descriptor).st_size < 3 << 20 else 0

    monkeypatch.setattr(os, "readv", lambda *arguments: min(write_meanwhile(*arguments), 1 << 18))
    with pytest.raises(BuildSourceChangedError, match="a changed while it was read"):
        digests(tmp_path)


@pytest.mark.parametrize("replacement", ["link", "pipe", "nothing"])
def test_a_file_that_becomes_something_else_is_neither_followed_nor_waited_for(
    tmp_path, replacement
):
    write_files(tmp_path, "context/a", "secret")
    victim = tmp_path / "context/a"
    with opened_context(tmp_path / "context") as tree:
        found = select_sources(tree, SourceQuery(sources=("a",)))
        victim.unlink()
        if replacement == "link":
            victim.symlink_to("../secret")
        elif replacement == "pipe":
            os.mkfifo(victim)
        with pytest.raises(BuildSourceChangedError, match="a changed while it was read"):
            digest_selection(tree, found)


def test_digests_are_right_while_somebody_writes(tmp_path):
    """What is said of a file is what it was at one moment, or an error."""
    path = tmp_path / "a"
    contents = [bytes([number]) * 300_000 for number in range(2)]
    path.write_bytes(contents[0])
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            (tmp_path / "next").write_bytes(contents[number % 2])
            (tmp_path / "next").rename(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        known = {hashlib.sha256(content).digest() for content in contents}
        for _ in range(50):
            with opened_context(tmp_path, "next") as tree:
                found = select_sources(tree, SourceQuery(sources=("a",)))
                digest_selection(tree, found)
            assert found.sources[0].files[0].content_digest in known
    finally:
        stop.set()
        writer.join()
