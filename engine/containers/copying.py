"""Copying into containers and out of them, and exporting them.

A worker does the container's side, with the container's ids; a thread here does the host's side,
with the rights of who asked. Between them is a pipe with a tar: nothing is held in memory, and no
name that one side finds is ever opened by the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.containers.lifecycle import current_state, exclusively
from engine.containers.mounts import hold_mounts
from engine.containers.root_access import open_running_root
from engine.containers.spec import build_spec
from engine.containers.state_table import Operation, check
from engine.containers.states import status_of
from engine.errors import ArchiveError, CopyRefusedError, EngineError, ReaderGoneError
from engine.operations import Progress, open_in_thread
from engine.runtime.copy_jobs import CopyInArguments, CopyJobResult, CopyOutArguments
from engine.snapshots.base import UPPER_NAME
from engine.snapshots.copies import TOP_NAME, name_in_archive, receive
from engine.snapshots.destinations import HostPaths
from engine.snapshots.job_parts import JobProgress
from engine.snapshots.removal import engine_error
from engine.snapshots.streams import StreamSource
from engine.snapshots.tar import TarReader
from engine.snapshots.tar_writer import TarStream
from engine.snapshots.tree_extraction import ExtractionPolicy
from engine.snapshots.tree_tar import TreePacker, pack_tree
from engine.snapshots.writable import open_directory
from engine.snapshots.writable_jobs import WRITE_BYTES, ExportResult
from engine.types import ContainerStatus, CopyResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from engine.containers.committing import WritableLayers
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.types import CopyOptions

_Result = TypeVar("_Result")
_PIPE_BYTES = 1 << 20
_LIVE = frozenset({ContainerStatus.RUNNING, ContainerStatus.PAUSED})


class ContainerCopies:
    """Copies of one engine."""

    def __init__(
        self, services: ContainerServices, runner: JobRunner, layers: WritableLayers
    ) -> None:
        """Copy with jobs that `runner` runs."""
        self._services = services
        self._runner = runner
        self._layers = layers

    # --- out ----------------------------------------------------------------------------------

    async def copy_out(
        self,
        record: ContainerRecord,
        path: str,
        target: str,
        *,
        options: CopyOptions,
        progress: ProgressListener,
    ) -> CopyResult:
        """Copy a path of a container to the host; EngineApi says more."""
        source = os.fsencode(_absolute(path))
        policy = ExtractionPolicy(
            keeps_owners=options.keeps_owners, makes_devices=False, label=f"{record.name}:{path}"
        )

        def receive_here(descriptor: int) -> CopyResult:
            with StreamSource(descriptor, label=policy.label) as stream:
                extractor = receive(
                    TarReader(stream, label=policy.label),
                    HostPaths(),
                    os.fsencode(target),
                    policy,
                    source_name=name_in_archive(source),
                    copies_content=_means_content(source),
                    on_entry=_nothing,
                )
                stream.drain()
            return CopyResult(
                size_bytes=extractor.size_bytes,
                entry_count=extractor.entry_count,
                warnings=extractor.warnings,
            )

        async with self._reachable(record) as (fresh, spec, root):
            arguments = CopyOutArguments(
                container=fresh.name,
                path_hex=source.hex(),
                spec=spec,
                is_following_link=options.is_following_link,
                name_hex=TOP_NAME.hex(),
            )
            reading, writing = _pipe()
            job = self._run("copy-out", arguments, (writing, *root), f"Copying {path}", progress)
            document, result = await _both(
                job, writing, lambda: _closing(reading, receive_here, target)
            )
            done = msgspec.json.decode(document, type=CopyJobResult)
            self._services.tell("archive-path", fresh, path=path)
        return replace(result, warnings=(*done.warnings, *result.warnings))

    async def archive_out(
        self,
        record: ContainerRecord,
        path: str,
        descriptor: int,
        *,
        options: CopyOptions,
        progress: ProgressListener,
    ) -> CopyResult:
        """Write a path of a container as a tar to a descriptor; EngineApi says more."""
        async with self._reachable(record) as (fresh, spec, root):
            arguments = CopyOutArguments(
                container=fresh.name,
                path_hex=os.fsencode(_absolute(path)).hex(),
                spec=spec,
                is_following_link=options.is_following_link,
            )
            job = self._run("copy-out", arguments, (descriptor, *root), f"Copying {path}", progress)
            done = msgspec.json.decode(await job, type=CopyJobResult)
            self._services.tell("archive-path", fresh, path=path)
        return _result(done)

    # --- in -----------------------------------------------------------------------------------

    async def copy_in(
        self,
        record: ContainerRecord,
        source: str,
        path: str,
        *,
        options: CopyOptions,
        progress: ProgressListener,
    ) -> CopyResult:
        """Copy a file or a directory of the host into a container; EngineApi says more."""
        text = os.fsencode(source)
        top = await open_in_thread(functools.partial(_open_source, text, options))
        try:
            async with self._reachable(record) as (fresh, spec, root):
                arguments = CopyInArguments(
                    container=fresh.name,
                    path_hex=os.fsencode(_absolute(path)).hex(),
                    spec=spec,
                    source_name_hex=_source_name(text).hex(),
                    copies_content=_means_content(text),
                    keeps_owners=options.keeps_owners,
                )
                reading, writing = _pipe()
                job = self._run(
                    "copy-in", arguments, (reading, *root), f"Copying {source}", progress
                )
                document, shrunk = await _both(
                    job,
                    reading,
                    lambda: _closing(writing, lambda target: _pack(top, target), source),
                )
                self._services.tell("extract-to-dir", fresh, path=path)
        finally:
            os.close(top)
        result = _result(msgspec.json.decode(document, type=CopyJobResult))
        return replace(result, warnings=(*shrunk, *result.warnings))

    async def archive_in(
        self,
        record: ContainerRecord,
        descriptor: int,
        path: str,
        *,
        progress: ProgressListener,
    ) -> CopyResult:
        """Extract a tar from a descriptor into a directory of a container; EngineApi says more."""
        async with self._reachable(record) as (fresh, spec, root):
            arguments = CopyInArguments(
                container=fresh.name,
                path_hex=os.fsencode(_absolute(path)).hex(),
                spec=spec,
                source_name_hex="",
                copies_content=True,
                keeps_owners=True,
            )
            step = f"Copying to {path}"
            job = self._run("copy-in", arguments, (descriptor, *root), step, progress)
            done = msgspec.json.decode(await job, type=CopyJobResult)
            self._services.tell("extract-to-dir", fresh, path=path)
        return _result(done)

    # --- export -------------------------------------------------------------------------------

    async def export(
        self, record: ContainerRecord, descriptor: int, *, progress: ProgressListener
    ) -> CopyResult:
        """Write all files of a container as a tar to a descriptor; EngineApi says more."""
        async with exclusively(self._services, record) as fresh:
            await self._check(Operation.EXPORT, fresh)
            directory = self._services.config.container_directory(fresh.container_id)
            async with open_directory(directory / UPPER_NAME) as upper:
                job = self._run(
                    "export-tree",
                    self._layers.comparison(fresh),
                    (upper, descriptor),
                    f"Exporting {fresh.name}",
                    progress,
                )
                done = msgspec.json.decode(await job, type=ExportResult)
            self._services.tell("export", fresh)
        return CopyResult(
            size_bytes=done.tar_bytes, entry_count=done.entry_count, warnings=done.warnings
        )

    # --- common -------------------------------------------------------------------------------

    async def _check(self, operation: Operation, record: ContainerRecord) -> ContainerStatus:
        status = status_of(await current_state(self._services, record))
        check(operation, status, container_id=record.container_id, name=record.name)
        return status

    @contextlib.asynccontextmanager
    async def _reachable(
        self, record: ContainerRecord
    ) -> AsyncIterator[tuple[ContainerRecord, str, tuple[int, ...]]]:
        """Keep a container as it is: neither removed nor started.

        Yields its record, what a worker needs to mount its root if it does not run, and the
        descriptor of its root if it does.
        """
        async with exclusively(self._services, record) as fresh:
            status = await self._check(Operation.COPY, fresh)
            if status in _LIVE:
                state = await current_state(self._services, fresh)
                root = await open_in_thread(functools.partial(open_running_root, state, fresh.name))
                try:
                    yield fresh, "", (root,)
                finally:
                    os.close(root)
                return
            spec = build_spec(
                fresh,
                config=self._services.config,
                rootfs=self._services.rootfs.describe(fresh),
                cgroup_mode=self._services.cgroups.mode,
                cgroup_parent=self._services.cgroups.parent,
                is_rootless=self._services.is_rootless,
                has_seccomp=self._services.has_seccomp,
            )
            async with hold_mounts(self._services, fresh):
                yield fresh, msgspec.json.encode(spec).decode(), ()

    async def _run(
        self,
        job: str,
        arguments: msgspec.Struct,
        descriptors: tuple[int, ...],
        step: str,
        progress: ProgressListener,
    ) -> bytes:
        progress(Progress(step=step, unit="bytes"))

        def on_progress(message: bytes) -> None:
            done = msgspec.json.decode(message, type=JobProgress)
            progress(Progress(step=step, done=done.done, unit="bytes"))

        return await self._runner.run_job(
            job, msgspec.json.encode(arguments), descriptors=descriptors, on_progress=on_progress
        )


def _result(done: CopyJobResult) -> CopyResult:
    return CopyResult(
        size_bytes=done.size_bytes, entry_count=done.entry_count, warnings=done.warnings
    )


def _absolute(path: str) -> str:
    """A path in a container counts from its root, as Docker has it."""
    return path if path.startswith("/") else f"/{path}"


def _means_content(path: bytes) -> bool:
    return path.endswith(b"/.") or path in {b".", b"/"}


def _nothing() -> None:
    """The other side tells the progress."""


def _source_name(text: bytes) -> bytes:
    """What the copied thing is called; `..` and `/` have a name of their own only when resolved."""
    name = os.path.basename(text.rstrip(b"/"))
    if name in {b"", b".", b".."}:
        name = os.path.basename(os.path.realpath(text))
    return name or TOP_NAME


def _open_source(text: bytes, options: CopyOptions) -> int:
    """Open what is copied from the host (O_PATH)."""
    flags = os.O_PATH | os.O_CLOEXEC
    if not options.is_following_link:
        flags |= os.O_NOFOLLOW
    try:
        return os.open(text, flags)
    except FileNotFoundError:
        raise CopyRefusedError(
            f"lstat {os.fsdecode(text)}: no such file or directory",
            hint="Check the path; it counts from the working directory",
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise CopyRefusedError(f"{os.fsdecode(text)}: {reason}") from error


def _pack(top: int, target: int) -> tuple[str, ...]:
    """Write what a descriptor refers to as a tar to another; returns warnings."""
    with open(target, "wb", buffering=WRITE_BYTES, closefd=False) as file:
        stream = TarStream(file.write)
        packer = TreePacker(stream)
        pack_tree(packer, top, TOP_NAME, is_skipped=_is_never_skipped, on_entry=_nothing)
        stream.close()
    if not packer.shrunk_count:
        return ()
    return (f"{packer.shrunk_count:,} files became shorter while they were read",)


def _is_never_skipped(_directory: int, _path: bytes) -> bool:
    return False


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        # An ordinary user may have used up what pipes may hold together.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reading, writing


def _closing(descriptor: int, work: Callable[[int], _Result], what: str) -> _Result:
    """Work with a descriptor and close it, whatever happens: the other side waits for that."""
    try:
        return work(descriptor)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename
        shown = os.fsdecode(name) if isinstance(name, str | bytes) and name else what
        if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
            reason = os.strerror(error.errno or 0).lower()
            raise CopyRefusedError(f"{shown}: {reason}") from error
        raise engine_error(error, what) from error
    finally:
        os.close(descriptor)


async def _both(
    job: Coroutine[object, object, bytes], far_end: int, work: Callable[[], _Result]
) -> tuple[bytes, _Result]:
    """Run a job, and in a thread what is at the other end of its pipe.

    Closing our copy of the job's end when the job has ended, however it did, ends the thread too.
    The first cause of a failure is raised, not what followed from it at the other end.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="copy")
    future = loop.run_in_executor(thread, work)
    failure: EngineError | None = None
    document = b""
    cancellation: asyncio.CancelledError | None = None
    try:
        document = await job
    except EngineError as error:
        failure = error
    except asyncio.CancelledError as error:
        cancellation = error
    finally:
        os.close(far_end)
        while not future.done():
            try:
                await asyncio.wait((future,))
            except asyncio.CancelledError as error:
                cancellation = error
        thread.shutdown(wait=False)
    here = future.exception()
    if cancellation is not None:
        raise cancellation
    if here is not None and (failure is None or not _is_consequence(here, failure)):
        raise here
    if failure is not None:
        raise failure
    return document, future.result()


def _is_consequence(here: BaseException, failure: EngineError) -> bool:
    """Whether the error at this end only says that the other end has gone."""
    if isinstance(failure, ReaderGoneError):
        return False
    return isinstance(here, BrokenPipeError | ArchiveError)
