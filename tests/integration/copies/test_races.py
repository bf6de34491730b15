"""Whoever swaps directories for links while files are copied gets nothing outside the root."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from engine.errors import EngineError
from engine.linux.files import open_in_root
from engine.linux.libc import syscall
from engine.runtime import copy_jobs
from engine.snapshots import destinations, tree_extraction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 1000
WEAK_ROUNDS = 1000
_EXCHANGE = 2
SECRET = b"what only the host may know"


class Trap:
    """A container's root with a directory that is a link out of it half of the time."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.outside = top / "outside"
        for path in (self.root / "data", self.outside):
            path.mkdir(parents=True)
        (self.root / "data/file").write_bytes(b"harmless")
        (self.outside / "file").write_bytes(SECRET)
        os.symlink(self.outside, self.root / "link")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._swap)
        self.swap_count = 0

    def __enter__(self) -> Trap:
        self.before = self.look_outside()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _swap(self) -> None:
        root = os.open(self.root, os.O_PATH)
        try:
            while not self._stop.is_set():
                syscall("renameat2", root, b"data", root, b"link", _EXCHANGE)
                self.swap_count += 1
        finally:
            os.close(root)

    def wait_for_a_swap(self) -> None:
        """Lose the race; by chance it is seldom lost where nothing runs beside."""
        before = self.swap_count
        while self.swap_count == before:
            time.sleep(0)

    def look_outside(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.outside.iterdir()}


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Trap]:
    with Trap(tmp_path) as set_trap:
        yield set_trap


def read_out(trap: Trap) -> bytes:
    """One copy out of the container; what was copied, whatever it was."""
    arguments = copy_jobs.CopyOutArguments(
        container="web", path_hex=b"/data/file".hex(), spec="", is_following_link=True
    )
    root = os.open(trap.root, os.O_PATH)
    target = os.memfd_create("target")
    try:
        copy_jobs.copy_out(msgspec.json.encode(arguments), [target, root], lambda _: None)
        return os.pread(target, 1 << 16, 0)
    except EngineError:
        return b""
    finally:
        os.close(target)
        os.close(root)


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("top")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"new"))
    return stream.getvalue()


def write_in(trap: Trap, content: bytes, *, name: bytes) -> None:
    """One copy into the container; it may fail."""
    arguments = copy_jobs.CopyInArguments(
        container="web",
        path_hex=b"/data/written".hex() if name else b"/data".hex(),
        spec="",
        source_name_hex=name.hex(),
        copies_content=False,
        keeps_owners=False,
    )
    root = os.open(trap.root, os.O_PATH)
    source = os.memfd_create("source")
    try:
        os.write(source, content)
        os.lseek(source, 0, os.SEEK_SET)
        copy_jobs.copy_in(msgspec.json.encode(arguments), [source, root], lambda _: None)
    except EngineError:
        return
    finally:
        os.close(source)
        os.close(root)


def weaken(monkeypatch: pytest.MonkeyPatch, trap: Trap) -> None:
    """Copy as everybody does at first: look where a path leads, and open it if that is inside."""

    def check_then_open(root: int, path: bytes, flags: int, *, mode: int = 0) -> int:
        top = os.path.realpath(f"/proc/self/fd/{root}")
        wanted = os.path.join(os.fsencode(top), path.lstrip(b"/"))
        found = os.path.realpath(wanted)
        if not (found + b"/").startswith(os.fsencode(top) + b"/"):
            raise FileNotFoundError(path)
        trap.wait_for_a_swap()
        return os.open(wanted, flags, mode)

    for module in (copy_jobs, destinations, tree_extraction):
        assert module.open_in_root is open_in_root
        monkeypatch.setattr(module, "open_in_root", check_then_open)


def test_nothing_outside_is_read(trap: Trap) -> None:
    copied = 0
    for _ in range(ROUNDS):
        data = read_out(trap)
        assert SECRET not in data
        copied += b"harmless" in data
    assert copied > 0
    assert trap.swap_count > ROUNDS


@pytest.mark.parametrize("name", [b"file", b""])
def test_nothing_outside_is_written(trap: Trap, name: bytes) -> None:
    content = archive()
    for _ in range(ROUNDS):
        write_in(trap, content, name=name)
        assert trap.look_outside() == trap.before
    assert trap.swap_count > ROUNDS


def test_looking_first_and_opening_then_would_read_outside(
    trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaken(monkeypatch, trap)
    assert any(SECRET in read_out(trap) for _ in range(WEAK_ROUNDS))


@pytest.mark.parametrize("name", [b"file", b""])
def test_looking_first_and_opening_then_would_write_outside(
    trap: Trap, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    weaken(monkeypatch, trap)
    content = archive()

    def escapes() -> bool:
        write_in(trap, content, name=name)
        return trap.look_outside() != trap.before

    assert any(escapes() for _ in range(WEAK_ROUNDS))
