"""Selecting files for steps that wait for it: from a context, and from another stage or image."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import threading
from typing import TYPE_CHECKING

import msgspec

from engine.build.add_sources import mark_archives
from engine.build.copy_jobs import DigestArguments
from engine.build.file_tree import LayerFileTree
from engine.build.selection import Selection, digest_selection, select_sources
from engine.operations import carry_through, open_in_thread, wait_for_thread
from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.snapshots.index import MergedTree, read_index
from engine.snapshots.removal import engine_error
from engine.types import FileKind

DOWNLOADS_ROOT = 1
"""How what was fetched is counted among the roots of an instruction: behind its context."""

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from engine.build.context_tree import ContextTree
    from engine.build.file_tree import SourceFile
    from engine.build.selection import SelectedSource, SourceQuery
    from engine.registry.transport import Transport
    from engine.snapshots.base import JobRunner


class ContextSources:
    """A context to select from, for any number of steps at once."""

    def __init__(self, tree: ContextTree) -> None:
        """Look at a tree, whose directory stays open meanwhile."""
        self._tree = tree
        # What is remembered of contents is not for several threads.
        self._turn = asyncio.Lock()

    @property
    def label(self) -> str:
        """What errors call it."""
        return self._tree.label

    @property
    def root(self) -> int:
        """Descriptor of its directory."""
        return self._tree.root

    async def select(self, query: SourceQuery, *, marks_archives: bool = False) -> Selection:
        """Find what an instruction copies, and the digests of its contents.

        Cancelling ends the walk at its next file.

        Args:
            query: What the instruction says.
            marks_archives: Files that are archives are to be unpacked.

        Raises:
            BuildSourceNotFoundError: A source is not there, or is left out.
            BuildSourceChangedError: A file changes all the time.
            BuildCopyError: A file may not be read, or there are too many.
            PathPatternError: A pattern is malformed.
        """
        stop = threading.Event()

        def select() -> Selection:
            tree = self._tree.walk(stop)
            found = select_sources(tree, query)
            digest_selection(tree, found)
            if marks_archives:
                mark_archives(tree.root, found)
            if tree.socket_count:
                found.warnings.append(
                    f"{tree.socket_count:,} sockets in {tree.label} were left out"
                )
            return found

        async with self._turn:
            return await _in_thread(select, end=stop.set)


class LayerSources:
    """A stack of layers to select from. Their directories stay where they are meanwhile."""

    def __init__(self, layer_paths: Sequence[str], *, label: str, runner: JobRunner) -> None:
        """Look at layers.

        Args:
            layer_paths: Their directories, with `diff` and `index`, bottom first.
            label: What errors call it: `stage build`.
            runner: Reads files that have no digest in an index: sparse ones of foreign layers.
        """
        self._layer_paths = tuple(layer_paths)
        self._label = label
        self._runner = runner
        self._tree: LayerFileTree | None = None

    async def select(self, query: SourceQuery) -> Selection:
        """Find what an instruction copies, and the digests of its contents.

        Raises:
            BuildSourceNotFoundError: A source is not there.
            PathPatternError: A pattern is malformed.
            StoreError: A layer's index is damaged.
        """

        def select() -> Selection:
            return select_sources(self._load(), query)

        found = await _in_thread(select, end=lambda: None)
        missing = [
            file for file in found.files() if file.kind is FileKind.FILE and not file.content_digest
        ]
        if missing:
            await self._digest(missing)
        return found

    def _load(self) -> LayerFileTree:
        if self._tree is None:
            indexes = (read_index(os.path.join(path, INDEX_NAME)) for path in self._layer_paths)
            self._tree = LayerFileTree(MergedTree.of(indexes), label=self._label)
        return self._tree

    async def _digest(self, files: list[SourceFile]) -> None:
        diffs = tuple(os.path.join(path, DIFF_NAME) for path in self._layer_paths)
        async with document_in_memory(files) as document:
            result = await self._runner.run_job(
                "digest-files",
                msgspec.json.encode(DigestArguments(layer_paths=diffs)),
                descriptors=(document,),
            )
        for file, digest in zip(files, msgspec.json.decode(result, type=list[str]), strict=True):
            file.content_digest = bytes.fromhex(digest)


@contextlib.asynccontextmanager
async def document_in_memory(content: object) -> AsyncIterator[int]:
    """What is too much for a message to a job, as a file in memory: a descriptor for a block."""
    descriptor = os.memfd_create("lamella-document", os.MFD_CLOEXEC)

    def write() -> None:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(msgspec.msgpack.encode(content))
        os.lseek(descriptor, 0, os.SEEK_SET)

    try:
        await carry_through(asyncio.to_thread(write))
        yield descriptor
    finally:
        os.close(descriptor)


class Downloads:
    """Fetches what ADD takes from the web, into a directory of the build."""

    def __init__(self, directory: Path) -> None:
        """Write into a directory, which is made when it is needed."""
        self._directory = directory
        self._count = itertools.count()
        self._making = asyncio.Lock()
        self.root = -1
        """Descriptor of the directory, once something was fetched."""

    async def fetch(self, address: str, *, checksum: str, unpacks: bool) -> SelectedSource:
        """Fetch a file; cancelling cuts the connection.

        Args:
            address: Of the file.
            checksum: What it must have; empty for anything.
            unpacks: If it is an archive, it is to be unpacked.

        Raises:
            BuildDownloadError: It cannot be had, or is not what it should be.
            NoSpaceError: The disk is full.
        """
        async with self._making:
            if self.root < 0:
                self.root = await open_in_thread(
                    functools.partial(_make_directory, self._directory)
                )
        # One for each: a transport that was cut is of no more use.
        transport = await asyncio.to_thread(_make_transport)

        def fetch() -> SelectedSource:
            from engine.build.downloads import download  # as below

            source = download(
                address,
                self.root,
                str(next(self._count)),
                root=DOWNLOADS_ROOT,
                checksum=checksum,
                transport=transport,
            )
            if unpacks:
                found = Selection(sources=[source], warnings=[])
                mark_archives(self.root, found)
            return source

        try:
            future = asyncio.get_running_loop().run_in_executor(None, fetch)
            return await wait_for_thread(future, end=transport.breaker.cut)
        finally:
            transport.close()

    def close(self) -> None:
        """Close the directory; its owner removes it."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1


def _make_transport() -> Transport:
    # urllib3 is for who fetches something: to load it takes longer than most builds.
    from engine.registry.settings import RegistrySettings
    from engine.registry.transport import Transport

    return Transport(RegistrySettings.load())


def _make_directory(path: Path) -> int:
    try:
        path.mkdir(mode=0o700)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise engine_error(error, str(path)) from error


async def _in_thread(work: Callable[[], Selection], *, end: Callable[[], None]) -> Selection:
    future = asyncio.get_running_loop().run_in_executor(None, work)
    return await wait_for_thread(future, end=end)
