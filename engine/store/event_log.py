"""The store's events: one JSON line each, appended by whoever made it, tailed by every engine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import TYPE_CHECKING, Self

import msgspec

from engine.events import Event, EventBus, EventSubject
from engine.linux.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from engine.store.durability import make_directory, raise_store_error
from engine.store.locks import LockFile

if TYPE_CHECKING:
    from pathlib import Path

MAXIMUM_LOG_BYTES = 16 << 20
_MAXIMUM_LINE_BYTES = 64 << 10
_READ_BYTES = 256 << 10
_LINE_BEGIN = b'{"time_ns":'
_OLD_SUFFIX = ".1"


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    time_ns: int
    subject: EventSubject
    action: str
    subject_id: str
    name: str = ""
    attributes: dict[str, str] = {}


def append_event(path: Path, event: Event) -> None:
    """Append an event with one write(2), so that lines of several processes never mix; blocking.

    Raises:
        NoSpaceError: The disk is full; a piece of a line may be left, which readers skip.
        StoreError: The file cannot be written.
    """
    line = _Line(
        time_ns=event.time_ns,
        subject=event.subject,
        action=event.action,
        subject_id=event.subject_id,
        name=event.name,
        attributes=dict(event.attributes),
    )
    content = msgspec.json.encode(line) + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, content)
        finally:
            os.close(descriptor)
        if written < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise_store_error(error, path)


def decode_event(line: bytes) -> Event | None:
    """Read one line; None for one that is damaged or of a kind that this version does not know.

    Half a line, as a full disk leaves it, has the next event's line right behind it, which is
    found by its beginning.
    """
    try:
        record = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        begin = line.rfind(_LINE_BEGIN)
        return decode_event(line[begin:]) if begin > 0 else None
    return Event(
        time_ns=record.time_ns,
        subject=record.subject,
        action=record.action,
        subject_id=record.subject_id,
        name=record.name,
        attributes=tuple(record.attributes.items()),
    )


def trim_event_log(path: Path, *, maximum_bytes: int = MAXIMUM_LOG_BYTES) -> bool:
    """Rename a log that has grown too large to `.1`; True when it did. Blocking.

    One process at a time; whoever still appends to the old file in that moment is read too,
    because tails finish a renamed file before they open the new one.
    """
    lock = LockFile(path.with_name(f"{path.name}.lock"))
    if not lock.try_acquire():
        return False  # Somebody else is at it.
    try:
        if path.stat().st_size <= maximum_bytes:
            return False
        path.rename(old_event_log(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise_store_error(error, path)
    finally:
        lock.release()
    return True


class EventFile:
    """One file of the log, read on from where the last look ended; blocking."""

    def __init__(self, descriptor: int) -> None:
        """Read from the beginning; the descriptor is this object's from now on."""
        self._descriptor = descriptor
        self._offset = 0
        self._rest = b""
        self._is_skipping = False

    @classmethod
    def open(cls, path: Path) -> EventFile | None:
        """Open a file of the log; None if it is not there."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        except OSError:
            return None

    def go_to_end(self) -> None:
        """Leave out what is there now."""
        self._offset = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close it; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether a path leads to this file."""
        try:
            now = path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._descriptor)
        return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)

    def read(self) -> list[Event] | None:
        """The events of the next piece, which may be none; None at the end for now."""
        if os.fstat(self._descriptor).st_size < self._offset:
            self._offset, self._rest, self._is_skipping = 0, b"", False  # It was truncated.
        chunk = os.pread(self._descriptor, _READ_BYTES, self._offset)
        if not chunk:
            return None
        self._offset += len(chunk)
        events: list[Event] = []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            # The end of a line whose beginning was thrown away.
            is_tail, self._is_skipping = self._is_skipping, False
            event = None if is_tail else decode_event(line)
            if event is not None:
                events.append(event)
        if len(self._rest) > _MAXIMUM_LINE_BYTES:
            self._rest, self._is_skipping = b"", True
        return events


class EventTail:
    """Publishes on a bus every event appended to the log from now on, by any process.

    Lives on one loop, woken by inotify; each wake reads what there is of a local file.
    """

    def __init__(self, path: Path, bus: EventBus) -> None:
        self._path = path
        self._bus = bus
        self._inotify: Inotify | None = None
        self._file: EventFile | None = None

    def start(self) -> None:
        """Begin at the end of the log. Call on the loop.

        Raises:
            StoreError: The log's directory cannot be made.
            SyscallError: inotify is not to be had.
        """
        make_directory(self._path.parent)
        self._inotify = watch_event_log(self._path)
        try:
            self._file = EventFile.open(self._path)
            if self._file is not None:
                self._file.go_to_end()
            asyncio.get_running_loop().add_reader(self._inotify.descriptor, self._on_change)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop; without effect the second time."""
        if self._inotify is not None:
            with contextlib.suppress(RuntimeError):  # No loop is running any more.
                asyncio.get_running_loop().remove_reader(self._inotify.descriptor)
            self._inotify.close_soon()
            self._inotify = None
        if self._file is not None:
            self._file.close()
            self._file = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()

    def _on_change(self) -> None:
        if self._inotify is None or not concerns_event_log(self._inotify, self._path):
            return
        self._publish()
        if self._file is None or (not self._file.is_at(self._path) and self._path.exists()):
            # Between a rename and the next event there is no file: keep the old one until then.
            if self._file is not None:
                self._file.close()
            self._file = EventFile.open(self._path)
            self._publish()

    def _publish(self) -> None:
        while self._file is not None and (events := self._file.read()) is not None:
            for event in events:
                self._bus.publish(event)


def watch_event_log(path: Path) -> Inotify:
    """Watch for events that are appended; the directory, as the log may be made or renamed.

    Raises:
        SyscallError: inotify is not to be had.
    """
    inotify = Inotify()
    try:
        inotify.watch(path.parent, IN_MODIFY | IN_CREATE | IN_MOVED_TO)
    except BaseException:
        inotify.close()
        raise
    return inotify


def concerns_event_log(inotify: Inotify, path: Path) -> bool:
    """Take what woke a watch, and say whether the log may have grown."""
    # The old name as well: who opened the log before it was renamed may still write. An
    # overflow has no name; then look, too.
    names = (os.fsencode(path.name), os.fsencode(old_event_log(path).name), b"")
    return any(change.name in names for change in inotify.read())


def old_event_log(path: Path) -> Path:
    """Where the log's events from before its last rename are."""
    return path.with_name(path.name + _OLD_SUFFIX)
