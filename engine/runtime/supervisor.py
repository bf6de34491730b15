"""The engine's side of its launcher, its workers and the monitors of its store.

Everything here runs on the engine's event loop and blocks it for no longer than a send into a
local socket. The launcher is started again when it has been killed; monitors are reached by
their sockets, whoever started them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING

import msgspec

from engine.errors import (
    ContainerStateError,
    FeatureUnavailableError,
    LauncherError,
    MonitorLostError,
    ProcessError,
    SyscallError,
)
from engine.host import user_namespace_remedy
from engine.operations import carry_through
from engine.runtime.answers import receive_exactly
from engine.runtime.launcher_process import LauncherProcess
from engine.runtime.namespaces import PRIVATE
from engine.runtime.protocol import (
    HEADER_BYTES,
    LARGEST_PACKET_BYTES,
    FrameKind,
    JobRequest,
    LaunchOptions,
    MonitorCall,
    MonitorReply,
    parse_header,
    read_error,
    restore_error,
    send_frame,
)
from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import ContainerSpec, StateRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from engine.runtime.id_mapping import IdMapping
    from engine.runtime.lane_client import StepLane
    from engine.runtime.session_client import MonitorSession


class _RequestLostError(LauncherError):
    """The launcher was killed, and a request that it had not taken yet is gone with it.

    One whose worker or monitor was killed as well looks the same: doing it again is right there
    too, because what a job writes to is abandoned or checked, and a container has a lock.
    """


class Supervisor:
    """Starts containers and jobs through one launcher, and speaks with monitors."""

    def __init__(self, mapping: IdMapping | None, launcher: LauncherProcess | None = None) -> None:
        """Prepare; nothing runs yet but the launcher that is given.

        Args:
            mapping: How a rootless launcher's ids are mapped; None for root.
            launcher: One that was started already and has been told nothing.
        """
        self._mapping = mapping
        self._launcher = launcher
        self._is_launcher_ready = False
        self._starting = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, mapping: IdMapping | None, launcher: LauncherProcess | None = None
    ) -> AsyncIterator[Supervisor]:
        """Hold a supervisor; its launcher ends with the block, the containers do not."""
        supervisor = cls(mapping, launcher)
        try:
            yield supervisor
        finally:
            await supervisor._end_launcher()

    # --- launcher -----------------------------------------------------------------------------

    async def ensure_launcher(self) -> None:
        """Start the launcher unless it runs; returns when it can take requests.

        Raises:
            LauncherError: It cannot be started.
            FeatureUnavailableError: The host does not allow a user namespace.
        """
        async with self._starting:
            if self._launcher is not None and self._launcher.has_ended():
                await self._end_launcher()
            if self._launcher is None:
                self._launcher = LauncherProcess.spawn()
            if not self._is_launcher_ready:
                try:
                    await self._prepare(self._launcher)
                except BaseException:
                    await self._end_launcher()
                    raise
                self._is_launcher_ready = True

    def dismiss_launcher(self) -> None:
        """Let the launcher end while the caller closes the rest; asking for it starts another."""
        if self._launcher is not None and self._is_launcher_ready:
            self._launcher.channel.close()

    @property
    def launcher_process_id(self) -> int:
        """Process id of the launcher; 0 when none runs."""
        return self._launcher.process_id if self._launcher is not None else 0

    async def _prepare(self, launcher: LauncherProcess) -> None:
        options = LaunchOptions(
            is_rootless=self._mapping is not None,
            module_paths=tuple(path for path in sys.path if path),
        )
        send_frame(launcher.channel, FrameKind.OPTIONS, encode_record(options))
        if self._mapping is not None:
            await self._map_ids(launcher, self._mapping)

    async def _map_ids(self, launcher: LauncherProcess, mapping: IdMapping) -> None:
        channel = launcher.channel
        channel.setblocking(False)
        loop = asyncio.get_running_loop()
        header = await loop.sock_recv(channel, HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            raise LauncherError("the launcher ended while it started", hint="See `lamella info`")
        length, kind = parse_header(header)
        if kind is FrameKind.ERROR:
            refused = read_error(await loop.sock_recv(channel, length))
            if isinstance(refused, SyscallError):
                raise FeatureUnavailableError(
                    "a user namespace", str(refused), remedy=user_namespace_remedy()
                )
            raise refused
        from engine.runtime.id_mapping import map_ids

        await map_ids(launcher.process_id, mapping)
        channel.setblocking(True)
        send_frame(channel, FrameKind.MAP_IDS, b"")

    async def _end_launcher(self) -> None:
        launcher, self._launcher, self._is_launcher_ready = self._launcher, None, False
        if launcher is not None:
            await launcher.end()

    async def _request(
        self, kind: FrameKind, payload: bytes, descriptors: tuple[int, ...] = ()
    ) -> tuple[socket.socket, socket.socket]:
        """Send a request to the launcher.

        Returns our end of the channel for its answer, and the launcher's channel it was sent on.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for is_last_try in (False, True):
                await self.ensure_launcher()
                assert self._launcher is not None
                launcher = self._launcher.channel
                try:
                    send_frame(launcher, kind, payload, (theirs.fileno(), *descriptors))
                    break
                except OSError as error:
                    # It was killed since we looked.
                    if is_last_try:
                        raise LauncherError(
                            f"the launcher does not answer: {error.strerror}"
                        ) from None
                    await self._end_launcher()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, launcher

    # --- jobs ---------------------------------------------------------------------------------

    async def run_job(
        self,
        job: str,
        arguments: bytes,
        *,
        descriptors: tuple[int, ...] = (),
        on_progress: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Run a job that `engine.runtime.worker` knows in a worker and return its result.

        Cancelling ends the worker, and returns only when it has ended: what it was writing can
        then be removed.

        Raises:
            EngineError: What the job raised.
            LauncherError: The worker was killed.
        """
        with contextlib.suppress(_RequestLostError):
            return await self._run_job(job, arguments, descriptors, on_progress)
        return await self._run_job(job, arguments, descriptors, on_progress)

    async def _run_job(
        self,
        job: str,
        arguments: bytes,
        descriptors: tuple[int, ...],
        on_progress: Callable[[bytes], None] | None,
    ) -> bytes:
        request = encode_record(JobRequest(job=job))
        channel, launcher = await self._request(FrameKind.JOB, request, descriptors)
        reader, writer = await asyncio.open_connection(sock=channel, limit=1 << 20)
        is_begun = False
        try:
            writer.write(len(arguments).to_bytes(4, "big") + bytes([FrameKind.JOB]) + arguments)
            await writer.drain()
            while True:
                kind, payload = await _read_frame(reader)
                is_begun = True
                if kind is FrameKind.PROGRESS:
                    if on_progress is not None:
                        on_progress(payload)
                elif kind is FrameKind.ERROR:
                    raise read_error(payload)
                else:
                    return payload
        except (asyncio.IncompleteReadError, ConnectionError):
            is_lost = not is_begun and _is_at_end(launcher)
            raise (_RequestLostError if is_lost else LauncherError)(
                f"the worker for {job} was killed", hint="Try again; memory may be short"
            ) from None
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                writer.write_eof()
                await carry_through(reader.read())
            raise
        finally:
            writer.close()

    # --- builds -------------------------------------------------------------------------------

    async def open_lane(self, spec: ContainerSpec) -> StepLane:
        """Start a process that runs the steps of a build; the caller closes it.

        Its network is what it is attached to afterwards.

        Raises:
            EngineError: The host does not give what it needs.
            LauncherError: It was killed.
        """
        from engine.runtime.lane_client import StepLane

        channel, _launcher = await self._request(FrameKind.LANE, encode_record(spec))
        lane = StepLane(channel)
        try:
            await lane.wait_until_ready()
        except BaseException:
            await carry_through(lane.close())
            raise
        return lane

    # --- containers ---------------------------------------------------------------------------

    async def start(self, spec: ContainerSpec, *, reservation: int = -1) -> StateRecord:
        """Start a container under a monitor of its own; returns when its program runs.

        Args:
            spec: The container's.
            reservation: A descriptor that keeps its published ports; -1 without any.

        Raises:
            StartError: Its program cannot be started.
            OperationInProgressError: It has a monitor already.
            MonitorLostError: The monitor was killed meanwhile.
        """
        try:
            return await self._start(spec, reservation)
        except _RequestLostError:
            try:
                return await self._start(spec, reservation)
            except _RequestLostError:
                raise MonitorLostError(spec.container_id) from None

    async def _start(self, spec: ContainerSpec, reservation: int) -> StateRecord:
        # The spare is in a new network namespace already, and finds no way back for what is to
        # lead out of it.
        takes_spare = spec.namespaces.network == PRIVATE and not spec.network.user_network
        channel, launcher = await self._request(
            FrameKind.START if takes_spare else FrameKind.START_APART,
            msgspec.json.encode(spec),
            (reservation,) if reservation >= 0 else (),
        )
        with channel:
            channel.setblocking(False)
            try:
                length, kind = parse_header(await receive_exactly(channel, HEADER_BYTES))
                payload = await receive_exactly(channel, length)
            except (EOFError, ConnectionError):
                if _is_at_end(launcher):
                    raise _RequestLostError("the launcher was killed") from None
                raise MonitorLostError(spec.container_id) from None
        if kind is FrameKind.ERROR:
            raise read_error(payload)
        return msgspec.json.decode(payload, type=StateRecord)

    async def call(self, run_directory: Path, container_id: str, call: MonitorCall) -> StateRecord:
        """Ask a container's monitor for something and return the state that it answers with.

        `stop` and `signal` with SIGKILL are answered when the container has ended. Cancelling
        does not take a call back.

        Raises:
            ContainerStateError: There is no monitor: the container does not run.
            MonitorLostError: The monitor ended before it answered.
            EngineError: What the monitor raised.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            reply = await _ask(client, run_directory, container_id, call)
        return msgspec.json.decode(reply.state, type=StateRecord)

    async def open_session(
        self, run_directory: Path, container_id: str, call: MonitorCall, *, has_terminal: bool
    ) -> tuple[MonitorSession, int]:
        """Ask a container's monitor for a session by `attach` or `exec`.

        Returns the session, which the caller closes, and the time in nanoseconds that divides
        the log: what is older was written before it.

        Raises:
            ContainerStateError: There is no monitor, or the container is paused.
            StartError: The program cannot be started.
            MonitorLostError: The monitor ended before it answered.
        """
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            reply = await _ask(client, run_directory, container_id, call)
        except BaseException:
            client.close()
            raise
        from engine.runtime.session_client import MonitorSession

        session = MonitorSession(client, container_id=container_id, has_terminal=has_terminal)
        return session, reply.answered_at_ns


async def _ask(
    client: socket.socket, run_directory: Path, container_id: str, call: MonitorCall
) -> MonitorReply:
    """Connect and make a call; returns its answer, which is no error."""
    client.setblocking(False)
    document = encode_record(call)
    if len(document) > LARGEST_PACKET_BYTES:
        raise ProcessError(
            f"the command and its environment are too long: {len(document)} bytes",
            hint=f"Keep them under {LARGEST_PACKET_BYTES} bytes, or use a script in it",
        )
    await _connect(client, run_directory, container_id)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(client, document)
        packet = await loop.sock_recv(client, LARGEST_PACKET_BYTES)
    except ConnectionError:
        packet = b""
    if not packet:
        raise MonitorLostError(container_id)
    reply = decode_record(MonitorReply, packet)
    if reply.error is not None:
        raise restore_error(reply.error)
    return reply


async def _connect(client: socket.socket, run_directory: Path, container_id: str) -> None:
    try:
        directory = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _not_running(container_id) from None
    try:
        # A socket's address has room for 107 bytes; the way through /proc is always short.
        client.connect(f"/proc/self/fd/{directory}/attach.sock")
    except BlockingIOError:
        raise ProcessError(
            f"the monitor of container {container_id[:12]} is busy", hint="Try again"
        ) from None
    except OSError:
        raise _not_running(container_id) from None
    finally:
        os.close(directory)


def _is_at_end(channel: socket.socket) -> bool:
    """Whether the launcher behind a channel is gone; known before its requests are dropped."""
    try:
        return not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _not_running(container_id: str) -> ContainerStateError:
    return ContainerStateError(
        f"container {container_id} is not running",
        container_id=container_id,
        status="exited",
        operation="call",
    )


async def _read_frame(reader: asyncio.StreamReader) -> tuple[FrameKind, bytes]:
    length, kind = parse_header(await reader.readexactly(HEADER_BYTES))
    return kind, await reader.readexactly(length)
