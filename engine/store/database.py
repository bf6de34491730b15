"""The store's database: SQLite in WAL mode; writes have a connection and a thread, reads another.

So who only looks waits for nobody: not for a transaction of this process, not for one that waits
for another process's. Queries are plain functions of a connection, handed to `Database.read` or
`Database.write`; `image_records` and `container_records` hold them. Any number of processes may
have it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from engine.errors import NoSpaceError, StoreError
from engine.store.durability import make_directory
from engine.store.migrations import SCHEMA_VERSION, migrate, schema_version
from engine.store.reserve import give_up_reserve, is_full, keep_reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

_BUSY_TIMEOUT_SECONDS = 20.0
_Result = TypeVar("_Result")
_SYNCHRONOUS = "PRAGMA synchronous = FULL"


class Database:
    """An open database. Make one with `Database.open`; close it on the same loop."""

    def __init__(self, path: Path, executor: ThreadPoolExecutor) -> None:
        """For `open` only."""
        self._path = path
        self._executor = executor
        self._connection: sqlite3.Connection | None = None
        # A thread is started by the first read, and opens its connection.
        self._reading_executor = ThreadPoolExecutor(1, thread_name_prefix="lamella-database-reads")
        self._reading_connection: sqlite3.Connection | None = None
        self._is_closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the database, and make it or bring it to this version's shape first.

        Raises:
            StoreError: The file is not a database, is damaged, is newer than this program, or
                cannot be opened.
            NoSpaceError: The disk is full.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="lamella-database")
        database = cls(path, executor)
        try:
            await asyncio.get_running_loop().run_in_executor(executor, database._connect)
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run a query in one snapshot, which has every write that has returned.

        It waits for no write, and cannot make one.

        Raises:
            StoreError: The database is damaged.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._reading_executor, self._look, query
        )

    async def write(self, change: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Run a change as one transaction, durable when this returns.

        An exception from `change` rolls it back and passes through. When the caller is
        cancelled meanwhile, the transaction still ends as a whole, one way or the other.

        Raises:
            NoSpaceError: The disk is full; nothing was changed.
            StoreError: The database is damaged, or was busy for too long.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._change, change
        )

    async def write_soon(self, change: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """As `write`, but a power cut may take it back until something else was written.

        For what can be made again: it waits for no disk.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._change_soon, change
        )

    async def close(self) -> None:
        """Close the connections after what is queued; without effect the second time."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(RuntimeError):  # The executors were shut down before.
            # The writer last: whoever closes last folds the log into the database.
            if not self._is_closed:
                await loop.run_in_executor(self._reading_executor, self._stop_reading)
            await loop.run_in_executor(self._executor, self._disconnect)
        self._reading_executor.shutdown(wait=False)
        self._executor.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _change(self, change: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if self._connection is None:
            raise self._closed_error()
        return self._transact(self._connection, change, "BEGIN IMMEDIATE")

    def _change_soon(self, change: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if self._connection is None:
            raise self._closed_error()
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            return self._change(change)
        finally:
            self._connection.execute(_SYNCHRONOUS)

    def _look(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        if self._is_closed:
            raise self._closed_error()
        if self._reading_connection is None:
            with _errors_translated(self._path):
                connection = sqlite3.connect(
                    self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
                )
                self._reading_connection = connection
                connection.execute("PRAGMA query_only = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
        return self._transact(self._reading_connection, query, "BEGIN")

    def _closed_error(self) -> StoreError:
        return StoreError(f"the database {self._path} is closed")

    def _transact(
        self,
        connection: sqlite3.Connection,
        query: Callable[[sqlite3.Connection], _Result],
        begin: str,
    ) -> _Result:
        with _errors_translated(self._path):
            connection.execute(begin)
            try:
                result = query(connection)
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _connect(self) -> None:
        directory = self._path.parent
        make_directory(directory)
        # One at a time: SQLite does not wait for who turns a new file's journal into a log.
        with _held(directory):
            self._open_with_room(directory)

    def _open_with_room(self, directory: Path) -> None:
        try:
            self._open()
        except StoreError:
            if not is_full(directory):
                raise
            self._disconnect()
            # Whoever comes to make room must get in.
            if not give_up_reserve(directory):
                raise NoSpaceError(str(self._path)) from None
            self._open()
        keep_reserve(directory)

    def _open(self) -> None:
        with _errors_translated(self._path):
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None
            )
            self._connection = connection
            version = schema_version(connection)
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self._path} was written by a newer version of Lamella "
                    f"(schema {version}, this one knows {SCHEMA_VERSION})",
                    hint="Update Lamella, or use another store with --root",
                )
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: what was reported as done survives a power cut.
            connection.execute(_SYNCHRONOUS)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            migrate(connection)

    def _stop_reading(self) -> None:
        self._is_closed = True
        if self._reading_connection is not None:
            self._reading_connection.close()
            self._reading_connection = None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory itself (flock(2)); waits for who has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _errors_translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the primary result code (sqlite.org/rescode.html).
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise NoSpaceError(str(path)) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(
                f"{path} is damaged or not a database: {error}",
                hint="Move the file away to begin with an empty store; images can be loaded again",
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(
                f"{path} is locked by another process",
                hint="Wait for the other process to end its work, then try again",
            ) from error
        raise StoreError(
            f"{path}: {error}",
            hint="Check that the store's directory is writable and its disk healthy",
        ) from error
