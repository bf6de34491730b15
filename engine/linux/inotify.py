"""Notice changes of files by a descriptor that poll(2) and an event loop can watch."""

from __future__ import annotations

import os
import struct

from engine.errors import SyscallError
from engine.late_dataclasses import dataclass
from engine.linux.libc import syscall

IN_MODIFY = 0x002
IN_MOVED_TO = 0x080
IN_CREATE = 0x100

_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """One change.

    Attributes:
        watch: What `Inotify.watch` returned; -1 when events were lost.
        mask: IN_* bits.
        name: Of the entry in a watched directory, else empty.
    """

    watch: int
    mask: int
    name: bytes


class Inotify:
    """An inotify instance; close it when done. Nothing here blocks but `close`."""

    def __init__(self) -> None:
        """Make one.

        Raises:
            SyscallError: The user has too many (fs.inotify.max_user_instances).
        """
        try:
            self.descriptor = syscall("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        except SyscallError as error:
            raise SyscallError(
                "inotify_init1",
                error.errno,
                hint="Raise the limit: sysctl fs.inotify.max_user_instances=512",
            ) from None

    def watch(self, path: str | os.PathLike[str], mask: int) -> int:
        """Watch a file or directory; a path that is watched already gets the new mask.

        Raises:
            SyscallError: It does not exist, or the user has too many watches.
        """
        try:
            return syscall("inotify_add_watch", self.descriptor, os.fsencode(path), mask)
        except SyscallError as error:
            raise SyscallError("inotify_add_watch", error.errno, os.fspath(path)) from None

    def read(self) -> tuple[FileEvent, ...]:
        """Return what has happened since the last call; empty when nothing has."""
        try:
            buffer = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return ()
        events: list[FileEvent] = []
        offset = 0
        while offset < len(buffer):
            watch, mask, _cookie, length = _EVENT.unpack_from(buffer, offset)
            offset += _EVENT.size
            name = buffer[offset : offset + length].rstrip(b"\0")
            offset += length
            events.append(FileEvent(watch=watch, mask=mask, name=name))
        return tuple(events)

    def close(self) -> None:
        """Close it; a second time does nothing.

        The kernel lets go of what was watched after a grace period of all processors: close(2)
        waits for it, some 10 ms.
        """
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close_soon(self) -> None:
        """Close it on a thread that ends with it, where nobody must wait, as on an event loop."""
        import threading  # not for processes that fork

        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            closing = threading.Thread(target=os.close, args=(descriptor,), name="lamella-inotify")
            try:
                closing.start()
            except RuntimeError:  # no thread is to be had
                os.close(descriptor)
