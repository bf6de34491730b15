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
_JOBS_MODULE = "engine.snapshots.jobs"
_JOBS_MODULES = {
    # Done so often that it does not wait for the modules of all the others.
    "remove-tree": "engine.snapshots.removal",
    # These put a container's root together first, as its init does.
    "copy-out": "engine.runtime.copy_jobs",
    "copy-in": "engine.runtime.copy_jobs",
    # One for all layers of a build.
    "seal-layers": "engine.runtime.seal_jobs",
    "give-owner": "engine.runtime.seal_jobs",
    # It knows what a build selects.
    "copy-files": "engine.build.copy_jobs",
    "digest-files": "engine.build.copy_jobs",
    # It writes the documents of images as well.
    "save-archive": "engine.images.archive_writing",
}
"""Where jobs are that are not in the general table."""


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
    module = importlib.import_module(_JOBS_MODULES.get(name, _JOBS_MODULE))
    table = cast("dict[str, Job]", module.JOBS)
    if name not in table:
        raise ProcessError(f"no such job: {name}")
    return table[name]


def _end_with(channel: socket.socket) -> None:
    """End this process, in the middle of whatever it does, when the other side goes away."""
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)
