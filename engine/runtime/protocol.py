"""What engine, launcher, workers, monitors and inits say to each other.

| channel | kind | messages |
|---|---|---|
| engine - launcher | socketpair, stream of frames | OPTIONS, START, JOB, LANE; MAP_IDS both ways |
| engine - worker | socketpair, stream of frames | PROGRESS, RESULT, ERROR up; end of file cancels |
| engine - new monitor | socketpair, stream of frames | RESULT (StateRecord) or ERROR, once |
| engine - lane of a build | socketpair, frames | ATTACH, START down; RESULT or ERROR up |
| engine - monitor | attach.sock, SEQPACKET | MonitorCall down, MonitorReply up |
| session - monitor or exec | the same connection after `attach` or `exec` | PacketKind both ways |
| monitor - init | pipe, close-on-exec | InitFailure, or end of file: the program runs |

A frame is a header (payload length, kind) and the payload; descriptors travel with the header.
attach.sock is the only channel between programs of different versions: its records carry a
version and only ever gain fields.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import sys
from enum import IntEnum

from engine import errors
from engine.cgroups.limits import CgroupSpec  # noqa: TC001 - read at run time
from engine.errors import EngineError, ProcessError
from engine.late_dataclasses import dataclass
from engine.runtime.records import decode_record, encode_record
from engine.runtime.restart import RestartSpec  # noqa: TC001 - read at run time
from engine.runtime.spec import ExecSpec, NetworkSpec  # noqa: TC001 - read at run time

PROTOCOL_VERSION = 1
_HEADER = struct.Struct("!IB")
HEADER_BYTES = _HEADER.size
LARGEST_FRAME_BYTES = 256 << 20
LARGEST_PACKET_BYTES = 160 << 10
"""Of a call or its answer; a socket takes little more in one piece (net.core.wmem_default)."""
LARGEST_INPUT_BYTES = 32 << 10
"""What a session sends in one packet."""
_MOST_DESCRIPTORS = 128
"""Of one frame: a worker is given every file of an archive at once. The kernel takes 253."""


class FrameKind(IntEnum):
    """The first byte after a frame's length."""

    START = 1
    JOB = 2
    MAP_IDS = 3
    PROGRESS = 4
    RESULT = 5
    ERROR = 6
    OPTIONS = 7
    START_APART = 8
    """As START, for a container to which a network namespace that is there already is no use."""
    LANE = 9
    ATTACH = 10


class PacketKind:
    """The first byte of a session's packets; data follows.

    RESIZE carries columns and rows as two unsigned 16-bit numbers in network order, END a
    SessionEnd as JSON. DETACH comes before the far end of a session leaves on purpose.
    """

    INPUT = b"i"
    INPUT_END = b"e"
    RESIZE = b"r"
    DETACH = b"d"
    OUTPUT = b"o"
    ERRORS = b"x"
    END = b"E"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What a launcher is told first.

    Attributes:
        is_rootless: Enter a user namespace first and ask the engine to map its ids.
        module_paths: sys.path of the engine, for workers.
    """

    is_rootless: bool
    module_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A job for a worker; its arguments follow in a frame of their own on the job's channel."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """An EngineError on its way to another process."""

    type_name: str
    message: str
    hint: str
    fields: tuple[tuple[str, str | None], ...]
    numbers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorCall:
    """A request to a monitor.

    Attributes:
        call: `signal`, `stop`, `pause`, `unpause`, `rename`, `update`, `network`, `attach`,
            `exec` or `state`.
        signal: Of `signal` and `stop`.
        timeout_seconds: Of `stop`: until SIGKILL; negative is never.
        name: Of `rename`.
        exec: Of `exec`.
        cgroup: Of `update`: what the container is limited to from now on.
        restart: Of `update`: its restart policy from now on.
        network: Of `network`: what it is connected to from now on.
    """

    version: int = PROTOCOL_VERSION
    call: str
    signal: int = 0
    timeout_seconds: float = 0.0
    name: str = ""
    exec: ExecSpec | None = None
    cgroup: CgroupSpec | None = None
    restart: RestartSpec | None = None
    network: NetworkSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorReply:
    """The answer: `error` is None when the call was done.

    Attributes:
        state: JSON of a StateRecord.
        answered_at_ns: Of `attach`: what the log has up to here was written before, what it has
            afterwards comes on the connection too.
    """

    version: int = PROTOCOL_VERSION
    state: str = ""
    error: ErrorRecord | None = None
    answered_at_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """How the program of a session ended."""

    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InitFailure:
    """Why the container's program does not run."""

    step: str
    message: str
    exit_code: int
    hint: str = ""


def describe_error(error: BaseException) -> ErrorRecord:
    """Turn an exception into a record; what is not an EngineError keeps only its text."""
    if not isinstance(error, EngineError):
        text = f"{type(error).__name__}: {error}"
        return ErrorRecord(type_name="ProcessError", message=text, hint="", fields=(), numbers=())
    texts: list[tuple[str, str | None]] = []
    numbers: list[tuple[str, int]] = []
    for name, value in vars(error).items():
        if name in {"message", "hint"}:
            continue
        if isinstance(value, int):
            numbers.append((name, value))
        elif value is None or isinstance(value, str):
            texts.append((name, value))
    return ErrorRecord(
        type_name=type(error).__name__,
        message=error.message,
        hint=error.hint,
        fields=tuple(texts),
        numbers=tuple(numbers),
    )


def restore_error(record: ErrorRecord) -> EngineError:
    """Make the exception again, of the same class and with the same plain attributes."""
    kind = getattr(errors, record.type_name, ProcessError)
    if not (isinstance(kind, type) and issubclass(kind, EngineError)):
        kind = ProcessError
    error = kind.__new__(kind)
    EngineError.__init__(error, record.message, hint=record.hint)
    for name, value in (*record.fields, *record.numbers):
        setattr(error, name, value)
    return error


def send_frame(
    channel: socket.socket, kind: FrameKind, payload: bytes, descriptors: tuple[int, ...] = ()
) -> None:
    """Send one frame; blocking."""
    header = _HEADER.pack(len(payload), kind)
    ancillary = (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        if descriptors
        else []
    )
    sent = channel.sendmsg([header, payload], ancillary)
    rest = (header + payload)[sent:] if sent < len(header) + len(payload) else b""
    if rest:
        channel.sendall(rest)


def receive_frame(channel: socket.socket) -> tuple[FrameKind, bytes, list[int]] | None:
    """Receive one frame with its descriptors (close-on-exec); None at the end. Blocking."""
    header, ancillary, _flags, _address = channel.recvmsg(
        HEADER_BYTES, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), _CLOSE_ON_EXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not header:
        return None
    header += _receive_exactly(channel, HEADER_BYTES - len(header))
    length, number = _HEADER.unpack(header)
    if length > LARGEST_FRAME_BYTES:
        raise ProcessError(f"frame of {length} bytes is too large")
    return FrameKind(number), _receive_exactly(channel, length), list(descriptors)


def parse_header(header: bytes) -> tuple[int, FrameKind]:
    """Split a frame's header into the payload's length and the kind."""
    length, number = _HEADER.unpack(header)
    if length > LARGEST_FRAME_BYTES:
        raise ProcessError(f"frame of {length} bytes is too large")
    return length, FrameKind(number)


def send_error(channel: socket.socket, error: BaseException) -> None:
    """Send an exception as an ERROR frame; blocking."""
    send_frame(channel, FrameKind.ERROR, encode_record(describe_error(error)))


def read_error(payload: bytes) -> EngineError:
    """Restore the exception of an ERROR frame."""
    return restore_error(decode_record(ErrorRecord, payload))


def _receive_exactly(channel: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = channel.recv(min(length - len(received), 1 << 20))
        if not part:
            raise ProcessError("the other side of a channel ended in the middle of a message")
        received += part
    return bytes(received)


def silence_standard_streams() -> None:
    """Point descriptors 0, 1 and 2 at /dev/null: the terminal belongs to the application."""
    sys.stdin = sys.stdout = sys.stderr = None
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


_CLOSE_ON_EXEC = 0x40000000
"""MSG_CMSG_CLOEXEC: the socket module has no name for it in every version."""
