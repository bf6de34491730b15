from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tui import host_files
from tui.host_files import (
    PathType,
    absolute,
    complete,
    in_own_thread,
    look_at,
    read_directory,
    starting_directory,
)

if TYPE_CHECKING:
    from pathlib import Path


def always() -> bool:
    return True


def test_directories_come_first_and_everything_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "A").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "also").symlink_to("b")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff\n")
    with open(odd, "wb"):
        pass

    listing = read_directory(str(tmp_path), is_wanted=always)

    assert [(entry.name, entry.type.value, entry.size_bytes) for entry in listing.entries] == [
        ("A", "directory", None),
        ("also", "directory", None),
        ("b", "directory", None),
        ("broken", "broken link", None),
        ("file", "file", 5),
        ("loop", "unreadable", None),
        ("odd\udcff\n", "file", 0),
        ("pipe", "pipe", None),
    ]
    assert listing.problem == ""


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("here")
        assert look_at(str(tmp_path / "here")).type is PathType.SOCKET


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing = read_directory(str(tmp_path / "gone"), is_wanted=always)
    assert (missing.entries, missing.problem) == (
        (),
        f"{tmp_path}/gone: No such file or directory",
    )
    wrong = read_directory(str(tmp_path / "file"), is_wanted=always)
    assert wrong.problem == f"{tmp_path}/file: Not a directory"
    assert look_at(f"{tmp_path}/file/below").type is None
    assert "embedded null" in look_at(f"{tmp_path}/a\0b").problem
    assert "File name too long" in look_at(f"{tmp_path}/{'n' * 300}").problem


def test_reading_ends_when_nobody_wants_it_and_where_it_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    assert read_directory(str(tmp_path), is_wanted=lambda: False).entries == ()
    monkeypatch.setattr(host_files, "MAXIMUM_ENTRIES", 12)
    listing = read_directory(str(tmp_path), is_wanted=always)
    assert len(listing.entries) == 12
    assert listing.problem == "Only the first 12 entries are shown"


def test_a_path_is_completed_as_far_as_there_is_one_way(tmp_path: Path) -> None:
    for name in ("web-1.tar", "web-2.tar", ".hidden", "evil\x1b[2J"):
        (tmp_path / name).touch()
    (tmp_path / "layouts").mkdir()

    def completed(text: str) -> tuple[str, tuple[str, ...]] | None:
        found = complete(text, str(tmp_path))
        return None if found is None else (found.common, found.names)

    assert completed("w") == ("web-", ("web-1.tar", "web-2.tar"))
    assert completed(f"{tmp_path}/web-2") == ("web-2.tar", ("web-2.tar",))
    assert completed("la") == ("layouts/", ("layouts",))
    assert completed("") == ("", ("layouts", "web-1.tar", "web-2.tar"))
    assert completed(".h") == (".hidden", (".hidden",))
    assert completed("ev") is None  # it could not be typed
    assert completed("none/at") is None
    assert completed("a\0b/") is None


def test_what_is_typed_becomes_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert absolute("~/x", "/srv") == "/home/ada/x"
    assert absolute("../x/./y/", "/srv/web") == "/srv/x/y"
    assert absolute("/etc", "/srv") == "/etc"


def test_a_working_directory_that_is_gone_is_not_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert starting_directory() == str(tmp_path)
    monkeypatch.setenv("HOME", str(gone))
    assert starting_directory() == "/"


async def test_a_call_that_does_not_come_back_is_left() -> None:
    release, ended = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait()
        ended.set()

    waiting = asyncio.ensure_future(in_own_thread(hang))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await asyncio.to_thread(ended.wait, 20)


async def test_what_a_thread_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 // 0)
