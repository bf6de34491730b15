"""Sessions with programs in containers: first what the log has, then the live connection."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from engine.containers.lifecycle import current_state
from engine.containers.request import check_environment_entry, check_working_directory
from engine.containers.spec import LOG_FILE
from engine.containers.state_table import Operation, check
from engine.containers.states import status_of
from engine.errors import (
    ContainerStateError,
    InvalidInputError,
    MonitorLostError,
    SessionLostError,
)
from engine.logs.reader import read_log
from engine.runtime.isolation import default_environment
from engine.runtime.protocol import MonitorCall
from engine.runtime.spec import ExecSpec
from engine.types import ContainerStatus, OutputStream, SessionOutput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.runtime.session_client import MonitorSession
    from engine.runtime.spec import StateRecord
    from engine.types import ExecRequest, TerminalSize

_REPLAY_BYTES = 256 << 10


class AttachedSession:
    """A session with a container's own program, whose output is also in the log.

    A reader that was so slow that the monitor let it go finds what it missed there, and goes on.
    """

    def __init__(self, services: ContainerServices, record: ContainerRecord) -> None:
        self._services = services
        self._record = record
        self._live: MonitorSession | None = None
        self._earlier: AsyncIterator[SessionOutput] | None = None
        self._divide_ns = 0
        self._received = dict.fromkeys(OutputStream, 0)
        self._size: TerminalSize | None = None
        self._ended_with: int | None = None

    async def connect(
        self, size: TerminalSize | None, *, has_replay: bool, is_from_start: bool
    ) -> None:
        """Attach, with what was written since the container was started.

        Args:
            size: Of the terminal here.
            has_replay: Give what the log has first.
            is_from_start: The container was started for this session: give all of it, as output.
        """
        state = await current_state(self._services, self._record)
        try:
            _check(Operation.ATTACH, state, self._record)
            self._live, self._divide_ns = await self._open()
        except (ContainerStateError, MonitorLostError):
            state = await current_state(self._services, self._record)
            if not is_from_start or status_of(state) is not ContainerStatus.EXITED:
                raise
            # It was quicker than we: all that it wrote is in the log.
            self._ended_with, self._divide_ns = state.exit_code, time.time_ns()
        if has_replay:
            self._earlier = self._read_log(
                since_ns=state.started_at_ns,
                last_bytes=None if is_from_start else _REPLAY_BYTES,
                is_replay=not is_from_start,
            )
        if size is not None:
            await self.resize(size)

    async def _open(self) -> tuple[MonitorSession, int]:
        return await self._services.runtime.open_session(
            self._services.config.container_run_directory(self._record.container_id),
            self._record.container_id,
            MonitorCall(call="attach"),
            has_terminal=self._record.has_terminal,
        )

    @property
    def has_terminal(self) -> bool:
        """As Session."""
        return self._record.has_terminal

    @property
    def exit_code(self) -> int | None:
        """As Session."""
        return self._ended_with if self._live is None else self._live.exit_code

    async def read(self) -> SessionOutput | None:
        """As Session."""
        if self._earlier is not None:
            async for earlier in self._earlier:
                return earlier
            self._earlier = None
        if self._live is None:
            return None
        try:
            output = await self._live.read()
        except SessionLostError:
            await self._connect_again()
            return await self.read()
        if output is not None:
            self._received[output.stream] += len(output.data)
        return output

    async def _connect_again(self) -> None:
        """Connect once more, and read in the log what came between.

        Raises:
            SessionLostError: The container does not run any more.
        """
        assert self._live is not None
        self._live.close()
        since_ns, received = self._divide_ns + 1, self._received
        try:
            self._live, self._divide_ns = await self._open()
        except (ContainerStateError, MonitorLostError):
            raise SessionLostError(self._record.container_id) from None
        self._received = dict.fromkeys(OutputStream, 0)
        self._earlier = self._read_log(since_ns=since_ns, skipped=received)
        if self._size is not None:
            await self._live.resize(self._size)

    async def _read_log(
        self,
        *,
        since_ns: int,
        last_bytes: int | None = None,
        skipped: dict[OutputStream, int] | None = None,
        is_replay: bool = False,
    ) -> AsyncIterator[SessionOutput]:
        """What was written from a moment until the connection, but for so much of each stream."""
        left = dict(skipped or {})
        path = self._services.config.container_directory(self._record.container_id) / LOG_FILE
        batches = read_log(
            str(path), since_ns=since_ns, until_ns=self._divide_ns, last_bytes=last_bytes
        )
        async for batch in batches:
            for line in batch:
                data = line.text if line.is_partial else line.text + b"\n"
                skip = min(left.get(line.stream, 0), len(data))
                if skip:
                    left[line.stream] -= skip
                if len(data) > skip:
                    yield SessionOutput(stream=line.stream, data=data[skip:], is_replay=is_replay)

    async def write(self, data: bytes) -> None:
        """As Session."""
        if self._live is not None:
            await self._live.write(data)

    async def end_input(self) -> None:
        """As Session."""
        if self._live is not None:
            await self._live.end_input()

    async def resize(self, size: TerminalSize) -> None:
        """As Session."""
        self._size = size
        if self._live is not None:
            await self._live.resize(size)

    async def detach(self) -> None:
        """As Session: the container's own program goes on anyway."""

    async def close(self) -> None:
        """Leave; the container goes on."""
        if self._live is not None:
            self._live.close()


@contextlib.asynccontextmanager
async def attach(
    services: ContainerServices,
    record: ContainerRecord,
    *,
    size: TerminalSize | None,
    has_replay: bool,
    is_from_start: bool,
) -> AsyncIterator[AttachedSession]:
    """Hold a session with a container's own program."""
    session = AttachedSession(services, record)
    try:
        await session.connect(size, has_replay=has_replay, is_from_start=is_from_start)
        yield session
    finally:
        await session.close()


@contextlib.asynccontextmanager
async def run_in_container(
    services: ContainerServices,
    record: ContainerRecord,
    request: ExecRequest,
    *,
    size: TerminalSize | None,
) -> AsyncIterator[MonitorSession]:
    """Run another program in a container and hold a session with it."""
    session = await _exec(services, record, _exec_spec(record, request, size, is_detached=False))
    try:
        yield session
    finally:
        session.close()


async def run_detached(
    services: ContainerServices, record: ContainerRecord, request: ExecRequest
) -> str:
    """Run another program in a container; returns its exec id when it runs."""
    spec = _exec_spec(record, request, None, is_detached=True)
    (await _exec(services, record, spec)).close()
    return spec.exec_id


async def _exec(
    services: ContainerServices, record: ContainerRecord, spec: ExecSpec
) -> MonitorSession:
    state = await current_state(services, record)
    _check(Operation.EXEC, state, record)
    session, _ = await services.runtime.open_session(
        services.config.container_run_directory(record.container_id),
        record.container_id,
        MonitorCall(call="exec", exec=spec),
        has_terminal=spec.has_terminal,
    )
    return session


def _exec_spec(
    record: ContainerRecord,
    request: ExecRequest,
    size: TerminalSize | None,
    *,
    is_detached: bool,
) -> ExecSpec:
    if not request.command or not request.command[0]:
        raise InvalidInputError("no command specified", hint="Write one behind the container")
    for entry in request.environment:
        check_environment_entry(entry)
    if any("\0" in word for word in (*request.command, request.user or "")):
        raise InvalidInputError("invalid command: it has a NUL character")
    working_directory = request.working_directory or record.working_directory
    check_working_directory(working_directory)
    return ExecSpec(
        exec_id=os.urandom(32).hex(),
        arguments=request.command,
        environment=default_environment(
            hostname=record.hostname,
            image_environment=record.environment,
            user_environment=request.environment,
            has_terminal=request.has_terminal,
        ),
        working_directory=working_directory,
        user=record.user if request.user is None else request.user,
        has_terminal=request.has_terminal,
        is_stdin_open=request.is_stdin_open and not is_detached,
        is_detached=is_detached,
        is_privileged=request.is_privileged,
        terminal_size=(size.columns, size.rows) if size is not None else (80, 24),
    )


def _check(operation: Operation, state: StateRecord, record: ContainerRecord) -> None:
    check(operation, status_of(state), container_id=record.container_id, name=record.name)
