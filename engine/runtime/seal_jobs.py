"""The job that turns writable directories into layers, for one build after the other.

One worker serves them all: to start one takes as long as a short step. Requests come on a socket
of their own, each with the layer's directory; what takes long, reading a layer, is done in a
thread, so that the next step's directory need not wait.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import resource
import socket
import threading
from typing import TYPE_CHECKING

import msgspec

from engine.linux.files import descriptor_path
from engine.runtime.protocol import FrameKind, receive_frame, send_error, send_frame
from engine.runtime.worker import find_job
from engine.snapshots.removal import engine_error
from engine.snapshots.sealing import LayerSealer, prepare_upper

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.snapshots.job_parts import Reporter

_MOST_WAITING = 1000


class SealRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. Descriptors: where the answer goes, and with some the directory.

    Attributes:
        action: `prepare`, `settle`, `digest`, `drop`, or `job`.
        layer: A number that the caller gives a layer.
        label: What errors call it.
        lower_paths: Of `prepare` and `settle`: `diff` of what is below, topmost first.
        epoch_ns: Of `settle`.
        started_at_ns: Of `settle`.
        places_hex: Of `settle`: where something was mounted.
        job: Of `job`: one of the jobs of workers, which is done here as well.
        arguments: Of `job`: as the job takes them.
    """

    action: str
    layer: int
    label: str = ""
    lower_paths: tuple[str, ...] = ()
    epoch_ns: int | None = None
    started_at_ns: int = 0
    places_hex: tuple[str, ...] = ()
    job: str = ""
    arguments: bytes = b""


class SettledLayer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `settle`."""

    is_empty: bool


class _LayerWorker:
    """The layers that were settled and not digested yet, and the thread that digests them."""

    def __init__(self, jobs: tuple[str, ...]) -> None:
        self._jobs = jobs
        self._layers: dict[int, tuple[LayerSealer, int]] = {}
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._digest_all, daemon=True)
        self._thread.start()

    def serve(self, requests: socket.socket) -> None:
        """Do what is asked for until the channel ends."""
        while (frame := receive_frame(requests)) is not None:
            request = msgspec.json.decode(frame[1], type=SealRequest)
            answer = socket.socket(fileno=frame[2][0])
            if request.action == "job":
                arguments = (request, answer, frame[2][1:])
                threading.Thread(target=self._run_job, args=arguments, daemon=True).start()
                continue
            directory = frame[2][1] if len(frame[2]) > 1 else -1
            if request.action == "digest":
                self._waiting.put(functools.partial(self._answer, request, -1, answer))
            else:
                self._answer(request, directory, answer)

    def _digest_all(self) -> None:
        for job in self._jobs:
            # While the first step runs: loading takes longer than most jobs.
            find_job(job)
        while (work := self._waiting.get()) is not None:
            work()

    def _answer(self, request: SealRequest, directory: int, answer: socket.socket) -> None:
        with answer, contextlib.suppress(ConnectionError):
            try:
                result = self._do(request, directory)
            except OSError as error:
                send_error(answer, engine_error(error, request.label))
            except Exception as error:  # the caller must hear of it, and the others be served
                send_error(answer, error)
            else:
                send_frame(answer, FrameKind.RESULT, result)

    def _run_job(self, request: SealRequest, answer: socket.socket, descriptors: list[int]) -> None:
        """Do a job of workers; to start one of its own takes longer than most of them."""
        with answer, contextlib.suppress(ConnectionError):
            try:
                result = find_job(request.job)(request.arguments, descriptors, _report_nothing)
            except Exception as error:  # whatever it is, the caller must hear of it
                send_error(answer, error)
            else:
                send_frame(answer, FrameKind.RESULT, result)
            finally:
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):
                        os.close(descriptor)

    def _do(self, request: SealRequest, directory: int) -> bytes:
        if request.action == "prepare":
            try:
                prepare_upper(directory, request.lower_paths[0])
            finally:
                os.close(directory)
            return b"null"
        if request.action == "settle":
            sealer = LayerSealer(
                directory,
                lower_paths=request.lower_paths,
                epoch_ns=request.epoch_ns,
                started_at_ns=request.started_at_ns,
            )
            self._layers[request.layer] = (sealer, directory)
            sealer.settle(bytes.fromhex(place) for place in request.places_hex)
            return msgspec.json.encode(SettledLayer(is_empty=sealer.is_empty))
        sealer, directory = self._layers.pop(request.layer)
        try:
            return b"null" if request.action == "drop" else msgspec.json.encode(sealer.digest())
        finally:
            os.close(directory)


def _report_nothing(_progress: bytes, /) -> None:
    """Nobody listens."""


def seal_layers(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Serve the socket that is given until its other end is closed.

    Arguments: names of jobs that will be asked for.
    """
    jobs = msgspec.json.decode(arguments, type=tuple[str, ...])
    # Each layer that waits to be read is a descriptor.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.socket(fileno=descriptors[0]) as requests:
        _LayerWorker(jobs).serve(requests)
    return b"null"


class NewOwner(msgspec.Struct, frozen=True, kw_only=True):
    """To whom a file (descriptor) is to belong."""

    user_id: int
    group_id: int


def give_owner(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Give a file to somebody; the answer is whether there is such an id here."""
    owner = msgspec.json.decode(arguments, type=NewOwner)
    try:
        os.chown(descriptor_path(descriptors[0]), owner.user_id, owner.group_id)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
        return b"false"
    return b"true"


JOBS = {"seal-layers": seal_layers, "give-owner": give_owner}
