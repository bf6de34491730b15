"""Locks between processes: open-file-description locks on byte 0 of a file.

They belong to the descriptor: a crash of the holder frees them, two holders in one process
exclude each other as two processes do, and a child that inherits the descriptor keeps the lock.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import threading
from typing import TYPE_CHECKING, Self

from engine.errors import (
    NoSpaceError,
    NotFoundError,
    OperationInProgressError,
    StoreError,
    SyscallError,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

# struct flock of 64-bit Linux: type, whence, start, length, pid. OFD locks want pid 0.
_FLOCK = struct.Struct("@hhqqi4x")


def _flock(lock_type: int) -> bytes:
    return _FLOCK.pack(lock_type, os.SEEK_SET, 0, 1, 0)


class LockFile:
    """A lock on a file, which is made if missing and never removed by this class.

    Not for several threads at once; every holder makes its own LockFile.
    """

    def __init__(
        self,
        path: Path,
        *,
        what: str = "",
        is_removed_with_directory: bool = False,
        owner: Path | None = None,
    ) -> None:
        """Name a lock; touches nothing.

        Args:
            path: The file. Its directory must exist when the lock is taken.
            what: What the lock stands for, for OperationInProgressError: `Loading images`.
            is_removed_with_directory: Whoever holds the lock may remove the whole directory. It
                is made again by who takes the lock then, on a file that is there.
            owner: The directory is made again only while this path exists: what the lock is for.
        """
        self._path = path
        self._is_removed_with_directory = is_removed_with_directory
        self._owner = owner
        self._what = what or f"Work under {path.name}"
        self._descriptor = -1

    @property
    def path(self) -> Path:
        """The file that is locked."""
        return self._path

    @property
    def has_lock(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor >= 0

    def try_acquire(self, *, is_shared: bool = False) -> bool:
        """Take the lock if nobody has it; does not wait.

        Shared locks go together; an exclusive one excludes every other.

        Raises:
            StoreError: The file cannot be opened.
        """
        while True:
            descriptor = self._open()
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(_lock_type(is_shared=is_shared)))
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise SyscallError("fcntl", error.errno or errno.EIO, str(self._path)) from error
            if self._keep(descriptor):
                return True

    def acquire_now(self, *, is_shared: bool = False) -> None:
        """Take the lock or fail; does not wait.

        Raises:
            OperationInProgressError: Somebody has it.
        """
        if not self.try_acquire(is_shared=is_shared):
            raise OperationInProgressError(self._what)

    async def acquire(self, *, is_shared: bool = False) -> None:
        """Wait for the lock, off the loop; cancelling gives up the wait.

        Raises:
            NotFoundError: The owner has gone.
            StoreError: The file cannot be opened.
            SyscallError: The kernel refused to wait, as it does at a deadlock.
        """
        while not self.try_acquire(is_shared=is_shared):
            wait = _LockWait(self._open(), is_shared=is_shared)
            try:
                await wait.done.wait()
            except BaseException:
                wait.abandon()
                raise
            if wait.error is not None:
                wait.abandon()
                raise SyscallError("fcntl", wait.error.errno or errno.EIO, str(self._path))
            if self._keep(wait.descriptor):
                return

    def release(self) -> None:
        """Give the lock back; without effect when it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire_now()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _keep(self, descriptor: int) -> bool:
        """Take a locked descriptor over; close it if its file was removed before it was locked."""
        if self._is_removed_with_directory:
            try:
                is_in_place = os.path.samestat(os.stat(self._path), os.fstat(descriptor))
            except FileNotFoundError:
                is_in_place = False
            if not is_in_place:
                os.close(descriptor)
                return False
        self._descriptor = descriptor
        return True

    def _make_directory(self) -> None:
        if self._owner is not None and not self._owner.exists():
            raise NotFoundError(f"{self._what}: it was removed")
        directory = self._path.parent
        os.makedirs(directory.parent, mode=0o700, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            # Somebody else was faster; anything but a directory in its place stays in the way.
            if directory.is_symlink():
                raise

    def _open(self) -> int:
        if self._descriptor >= 0:
            raise RuntimeError(f"lock {self._path} is already held by this object")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            while True:
                try:
                    return os.open(self._path, flags, 0o600)
                except FileNotFoundError:
                    if not self._is_removed_with_directory:
                        raise
                    self._make_directory()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(str(self._path)) from error
            raise StoreError(
                f"cannot open lock {self._path}: {error.strerror}",
                hint="Check that the directory belongs to you, or choose another with --root",
            ) from error


def is_locked(path: Path) -> bool:
    """Whether any process holds a lock on the file, without taking it.

    False for a file that does not exist. This very process's locks count too.

    Raises:
        SyscallError: The file exists but cannot be asked.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SyscallError("open", error.errno or errno.EIO, str(path)) from error
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK))
    except OSError as error:
        raise SyscallError("fcntl", error.errno or errno.EIO, str(path)) from error
    finally:
        os.close(descriptor)
    lock_type: int = _FLOCK.unpack(answer)[0]
    return lock_type != fcntl.F_UNLCK


class _LockWait:
    """One blocking F_OFD_SETLKW in a thread of its own.

    A daemon thread, because the kernel cannot be asked to stop waiting: when the wait was
    abandoned, the lock is given back as soon as it comes, and an exit does not wait for it.
    """

    def __init__(self, descriptor: int, *, is_shared: bool) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._guard = threading.Lock()
        self._is_abandoned = False
        self._has_ended = False
        self._flock = _flock(_lock_type(is_shared=is_shared))
        threading.Thread(target=self._wait, name="lamella-lock", daemon=True).start()

    def abandon(self) -> None:
        """Close the descriptor, now or when the thread has come back."""
        with self._guard:
            self._is_abandoned = True
            if self._has_ended:
                os.close(self.descriptor)

    def _wait(self) -> None:
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_OFD_SETLKW, self._flock)
        except OSError as error:
            self.error = error
        with self._guard:
            self._has_ended = True
            if self._is_abandoned:
                os.close(self.descriptor)
                return
            # Under the guard: an abandoned wait's loop may be closed.
            self._loop.call_soon_threadsafe(self.done.set)


def _lock_type(*, is_shared: bool) -> int:
    return fcntl.F_RDLCK if is_shared else fcntl.F_WRLCK
