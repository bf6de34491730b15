"""Directories and paths of this host, as the file picker reads them. Everything here blocks.

A file system of the network may not answer for ever, so these calls run in threads that nothing
waits for when the application ends (`in_own_thread`).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import stat
import threading
from enum import StrEnum
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from engine.late_dataclasses import dataclass
from tui.sanitise import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")

MAXIMUM_ENTRIES = 250_000
_LOOK_EVERY_ENTRIES = 512
_SORTED_AT_ONCE = 4096
_BY_NAME = attrgetter("folded_name")
MOST_COMPLETIONS = 8


class PathType(StrEnum):
    """What a path leads to, through links."""

    DIRECTORY = "directory"
    FILE = "file"
    PIPE = "pipe"
    SOCKET = "socket"
    DEVICE = "device"
    BROKEN_LINK = "broken link"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEntry:
    """One name of a directory; odd bytes are surrogates, as os.fsdecode makes them."""

    name: str
    folded_name: str
    """To sort and to filter by."""
    type: PathType
    size_bytes: int | None = None
    """Of files."""
    modified_at: float | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it can be opened."""
        return self.type is PathType.DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class HostListing:
    """What a directory holds: directories first, then by name."""

    directory: str
    entries: tuple[HostEntry, ...] = ()
    visible: tuple[HostEntry, ...] = ()
    """Those without a dot in front."""
    problem: str = ""
    """Why nothing, or not everything, could be read."""


def read_directory(directory: str, *, is_wanted: Callable[[], bool]) -> HostListing:
    """Read a directory; what cannot be read is said in the listing.

    Args:
        directory: Absolute.
        is_wanted: Asked from time to time; reading ends when the answer is no.
    """
    directories, others = _Sorted(), _Sorted()
    problem = ""
    try:
        with os.scandir(directory) as found:
            for number, entry in enumerate(found):
                if number % _LOOK_EVERY_ENTRIES == 0 and not is_wanted():
                    break
                if number == MAXIMUM_ENTRIES:
                    problem = f"Only the first {MAXIMUM_ENTRIES:,} entries are shown"
                    break
                read = _entry(entry)
                (directories if read.is_directory else others).add(read)
    except OSError as error:
        problem = f"{directory}: {error.strerror or error}"
    entries = (*directories, *others)
    visible = tuple(entry for entry in entries if not entry.name.startswith("."))
    return HostListing(directory=directory, entries=entries, visible=visible, problem=problem)


class _Sorted:
    """Entries by name, sorted piece by piece: a long sort would hold up every other thread."""

    def __init__(self) -> None:
        self._pieces: list[list[HostEntry]] = [[]]

    def add(self, entry: HostEntry) -> None:
        """Take one more."""
        self._pieces[-1].append(entry)
        if len(self._pieces[-1]) == _SORTED_AT_ONCE:
            self._pieces[-1].sort(key=_BY_NAME)
            self._pieces.append([])

    def __iter__(self) -> Iterator[HostEntry]:
        self._pieces[-1].sort(key=_BY_NAME)
        return heapq.merge(*self._pieces, key=_BY_NAME)


def _entry(entry: os.DirEntry[str]) -> HostEntry:
    name = entry.name
    try:
        found = entry.stat()
    except FileNotFoundError:
        kind, size_bytes, modified_at = PathType.BROKEN_LINK, None, None
    except OSError:
        kind, size_bytes, modified_at = PathType.UNREADABLE, None, None
    else:
        kind = _type_of(found.st_mode)
        size_bytes = found.st_size if kind is PathType.FILE else None
        modified_at = found.st_mtime
    return HostEntry(
        name=name,
        folded_name=name.casefold(),
        type=kind,
        size_bytes=size_bytes,
        modified_at=modified_at,
    )


def _type_of(mode: int) -> PathType:
    if stat.S_ISDIR(mode):
        return PathType.DIRECTORY
    if stat.S_ISREG(mode):
        return PathType.FILE
    if stat.S_ISFIFO(mode):
        return PathType.PIPE
    return PathType.SOCKET if stat.S_ISSOCK(mode) else PathType.DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class PathState:
    """What is at a path now."""

    type: PathType | None
    """None: nothing is there."""
    size_bytes: int = 0
    modified_at: float = 0.0
    problem: str = ""
    """Why it cannot be told."""


def look_at(path: str) -> PathState:
    """See what is at a path, through links."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return PathState(type=PathType.BROKEN_LINK if os.path.islink(path) else None)
    except NotADirectoryError:
        return PathState(type=None)
    except (OSError, ValueError) as error:  # a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return PathState(type=PathType.UNREADABLE, problem=f"{path}: {reason}")
    return PathState(
        type=_type_of(found.st_mode), size_bytes=found.st_size, modified_at=found.st_mtime
    )


def absolute(text: str, directory: str) -> str:
    """Make a path of what was typed: `~` is a home, relative is below `directory`."""
    return os.path.normpath(os.path.join(directory, os.path.expanduser(text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """How a path that was begun can go on."""

    beginning: str
    """The end of what was typed that names begin with."""
    common: str
    """What all of the names begin with; `/` follows if it is the only one, and a directory."""
    names: tuple[str, ...]
    """Some of them, in order."""


def complete(text: str, directory: str) -> Completion | None:
    """Complete the last name of a path; names that cannot be typed are left out.

    Args:
        text: As it was typed.
        directory: Where a relative path begins.

    Returns:
        None when no name fits.
    """
    head, slash, beginning = text.rpartition("/")
    place = os.path.join(directory, os.path.expanduser(head + slash))
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError), os.scandir(place) as entries:
        found = [
            entry.name
            for entry in entries
            if entry.name.startswith(beginning)
            and (beginning or not entry.name.startswith("."))
            and clean(entry.name) == entry.name
        ]
    if not found:
        return None
    found.sort()
    same = takewhile(lambda pair: pair[0] == pair[1], zip(found[0], found[-1], strict=False))
    common = "".join(first for first, _last in same)
    if len(found) == 1 and os.path.isdir(os.path.join(place, common)):
        common += "/"
    return Completion(beginning=beginning, common=common, names=tuple(found[:MOST_COMPLETIONS]))


def starting_directory() -> str:
    """Where to begin to look: the working directory, unless it is gone."""
    return next(_starting_directories())


def _starting_directories() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield os.getcwd()
    home = os.path.expanduser("~")
    if os.path.isdir(home):
        yield home
    yield "/"


async def in_own_thread(call: Callable[[], Result]) -> Result:
    """Run a blocking call in a thread that nobody waits for when it does not come back."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # None only beside an error

    def run() -> None:
        result: Result | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="lamella-host-files", daemon=True).start()
    return await answer
