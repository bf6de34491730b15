"""Workers: short-lived children of the launcher for work on files with a container's ids.

A job is a plain blocking function; the table names where it lives, so that the launcher itself
loads none of them. The application's end of the channel closing is the cancellation.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from engine.errors import ProcessError
from engine.linux.process import close_other_descriptors
from engine.runtime.protocol import (
    FrameKind,
    JobRequest,
    LaunchOptions,
    receive_frame,
    send_error,
    send_frame,
    silence_standard_streams,
)
from engine.runtime.records import decode_record

if TYPE_CHECKING:
    import socket

WORKER_NAME = "lamella-worker"
JOB_MODULES = {
    "commit-layer": "engine.snapshots.writable_jobs",
    "copy-files": "engine.build.copy_jobs",
    "copy-in": "engine.runtime.copy_jobs",
    "copy-out": "engine.runtime.copy_jobs",
    "copy-tree": "engine.snapshots.tree_jobs",
    "digest-files": "engine.build.copy_jobs",
    "export-tree": "engine.snapshots.writable_jobs",
    "fill-volume": "engine.snapshots.volume_files",
    "give-owner": "engine.runtime.seal_jobs",
    "import-layer": "engine.snapshots.tar_import",
    "layer-tar": "engine.snapshots.layer_tar_jobs",
    "list-changes": "engine.snapshots.writable_jobs",
    "list-writable-files": "engine.snapshots.tree_jobs",
    "measure-volume": "engine.snapshots.volume_files",
    "measure-writable-layer": "engine.snapshots.tree_jobs",
    "prepare-upper": "engine.snapshots.tree_jobs",
    "remove-tree": "engine.snapshots.removal",
    "save-archive": "engine.images.archive_writing",
    "seal-layers": "engine.runtime.seal_jobs",
    "squash-layers": "engine.snapshots.squashing",
    "unpack-archive": "engine.snapshots.unpacking",
    "unpack-layer": "engine.snapshots.unpacking",
    "unpack-stack": "engine.snapshots.unpacking",
    "verify-layers": "engine.snapshots.verification",
    "view-file": "engine.snapshots.viewing",
}
"""Where each job is: in the `JOBS` of a module that loads no more than its jobs need."""


class Reporter(Protocol):
    """Sends progress to who asked for the job."""

    def __call__(self, progress: bytes, /) -> None:
        """Send one message; blocking."""


class Job(Protocol):
    """A blocking piece of work; arguments, progress and result are JSON of the job's own."""

    def __call__(self, arguments: bytes, descriptors: list[int], report: Reporter, /) -> bytes:
        """Do the work and return the result."""


def run_worker(
    request_document: bytes,
    channel: socket.socket,
    descriptors: list[int],
    options: LaunchOptions,
) -> NoReturn:
    """Run one job in this forked process and end; never returns."""
    try:
        silence_standard_streams()
        close_other_descriptors({channel.fileno(), *descriptors})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.chdir("/")
        os.umask(0o077)
        gc.enable()
        frame = receive_frame(channel)
        if frame is None:
            os._exit(1)
        job = _find_job(decode_record(JobRequest, request_document).job, options)
        # Only now: it would make every fork of the launcher touch half a megabyte.
        import threading

        threading.Thread(target=_end_with, args=(channel,), daemon=True).start()

        def report(progress: bytes) -> None:
            send_frame(channel, FrameKind.PROGRESS, progress)

        send_frame(channel, FrameKind.RESULT, job(frame[1], descriptors, report))
    except BaseException as error:  # whatever it is, the caller must hear of it
        with contextlib.suppress(BaseException):
            send_error(channel, error)
        os._exit(1)
    os._exit(0)


def _find_job(name: str, options: LaunchOptions) -> Job:
    sys.path[:] = options.module_paths
    return find_job(name)


def find_job(name: str) -> Job:
    """Load a job, in a process whose path has everything.

    Raises:
        ProcessError: There is none of this name.
    """
    if name not in JOB_MODULES:
        raise ProcessError(f"no such job: {name}")
    return cast("dict[str, Job]", importlib.import_module(JOB_MODULES[name]).JOBS)[name]


def _end_with(channel: socket.socket) -> None:
    """End this process, in the middle of whatever it does, when the other side goes away."""
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)
