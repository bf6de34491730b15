"""Read, write and wait on the small files that control groups are made of."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from engine.errors import SyscallError

if TYPE_CHECKING:
    from collections.abc import Iterable

_RETRY_MILLISECONDS = 2


def read_text(path: str) -> str:
    """The text of a file; empty if it, or its group, is gone or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write_text(path: str, text: str) -> None:
    """One write(2), as these files want it."""
    write_lines(path, (text,))


def write_lines(path: str, lines: Iterable[str]) -> None:
    """One write(2) a line."""
    line = ""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for line in lines:
                os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SyscallError("write", error.errno or 0, f"{line!r} to {path}") from None


def read_value(path: str, key: str) -> int:
    """The number behind a word in a file of `word number` lines; 0 without it."""
    for line in read_text(path).splitlines():
        name, _, number = line.partition(" ")
        if name == key:
            return int(number)
    return 0


def read_event(directory: str, key: str) -> int:
    """`populated` or `frozen` of a v2 group: 1, or 0 also when the group is gone."""
    return read_value(f"{directory}/cgroup.events", key)


def wait_for_event(directory: str, key: str, wanted: int, deadline: float) -> bool:
    """Wait for a value in cgroup.events, which polls as POLLPRI when it changes."""
    try:
        descriptor = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return wanted == 0
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        line = f"{key} {wanted}"
        while True:
            try:
                events = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
            except OSError:
                return wanted == 0
            if line in events.splitlines():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
    finally:
        os.close(descriptor)


def group_tree(path: str) -> list[str]:
    """A directory and all below it, each after the one that it is in."""
    found = [path]
    for directory in found:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            found.extend(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return found


def open_directory(path: str) -> int:
    """Open a directory; close-on-exec."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def pause() -> None:
    """Wait a moment between two looks at what has no event to wait on."""
    select.poll().poll(_RETRY_MILLISECONDS)
