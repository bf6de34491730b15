"""What a starter hands over to its monitor: a program that runs, and what is known of it."""

from __future__ import annotations

import array
import marshal
import select
import socket
import struct
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.runtime.pipes import ProgramEnds
from engine.runtime.protocol import describe_error, read_error
from engine.runtime.records import encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.errors import EngineError

_HEADER = struct.Struct("!QBB")
"""Length of the payload, whether it is to be read at once, how many descriptors tell of events."""
_MOST_DESCRIPTORS = 12
_CLOSE_ON_EXEC = 0x40000000
"""MSG_CMSG_CLOEXEC: the socket module has no name for it in every version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNetwork:
    """Descriptors of a container's network, which a monitor keeps from run to run; -1 for none.

    Attributes:
        namespace: Of the container, if it has one of its own.
        reservation: What keeps its published ports.
        name_datagrams: Where its resolver is asked.
        name_listener: The same for connections.
        user_network: A pidfd of the program that is its way out.
    """

    namespace: int = -1
    reservation: int = -1
    name_datagrams: int = -1
    name_listener: int = -1
    user_network: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A container's program and what keeps it.

    Attributes:
        process_id: Of the container's first process.
        pidfd: Of the same.
        ends: Our ends of its streams.
        out_of_memory: Gets readable when the memory limit may have killed; -1 for none.
        cgroup_paths: Of the container's control group.
        listener: The socket of calls; -1 if the monitor has it already.
        network: Nothing of it if the monitor has it already.
        lock: The container's lock, held; -1 if the monitor has it already.
        log_path: The container's log.
        log_file_bytes: As LogWriter takes it.
        log_file_count: As LogWriter takes it.
        is_stdin_closed_with_session: The program's stdin ends with the last session.
        has_health_check: Somebody is to ask for its health.
        is_urgent: Something is to be done before anything happens.
        spec: The ContainerSpec as JSON.
        state: The StateRecord as JSON.
    """

    process_id: int
    pidfd: int
    ends: ProgramEnds
    out_of_memory: int = -1
    cgroup_paths: tuple[str, ...]
    network: KeptNetwork = KeptNetwork()
    lock: int = -1
    listener: int = -1
    log_path: str
    log_file_bytes: int
    log_file_count: int
    is_stdin_closed_with_session: bool
    has_health_check: bool
    is_urgent: bool = False
    spec: bytes
    state: bytes


class ReceivedHandover:
    """A handover as it came. To read it and to do what it asks for takes half a megabyte."""

    def __init__(
        self, payload: bytes, descriptors: Sequence[int], *, is_urgent: bool, watched_count: int
    ) -> None:
        self._payload = payload
        self._descriptors = descriptors
        self._is_urgent = is_urgent
        self._watched_count = watched_count

    def await_event(self, timeout_milliseconds: int | None = None) -> bool:
        """Wait until the program says something or ends, or somebody calls; False if nothing did.

        Many containers do nothing but wait, and so can their monitor, as small as it was forked.
        """
        if self._is_urgent:
            return True
        events = select.poll()
        # The others are kept only, and always ready.
        for descriptor in self._descriptors[: self._watched_count]:
            events.register(descriptor, select.POLLIN)
        return bool(events.poll(timeout_milliseconds))

    def read(self) -> Handover:
        """What was handed over; its descriptors are the caller's."""
        indexes, told = marshal.loads(self._payload)
        places = [-1 if index < 0 else self._descriptors[index] for index in indexes]
        pidfd, stdin, stdout, stderr, out_of_memory, listener, user_network = places[:7]
        namespace, reservation, name_datagrams, name_listener, lock = places[7:]
        (
            process_id,
            is_terminal,
            cgroup_paths,
            log_path,
            log_file_bytes,
            log_file_count,
            is_stdin_closed_with_session,
            has_health_check,
            spec,
            state,
        ) = told
        return Handover(
            process_id=process_id,
            pidfd=pidfd,
            ends=ProgramEnds(stdin=stdin, stdout=stdout, stderr=stderr, is_terminal=is_terminal),
            out_of_memory=out_of_memory,
            cgroup_paths=cgroup_paths,
            listener=listener,
            network=KeptNetwork(
                namespace=namespace,
                reservation=reservation,
                name_datagrams=name_datagrams,
                name_listener=name_listener,
                user_network=user_network,
            ),
            lock=lock,
            log_path=log_path,
            log_file_bytes=log_file_bytes,
            log_file_count=log_file_count,
            is_stdin_closed_with_session=is_stdin_closed_with_session,
            has_health_check=has_health_check,
            spec=spec,
            state=state,
        )


def send_handover(channel: socket.socket, handover: Handover) -> None:
    """Send it with its descriptors, which stay the sender's own; blocking.

    marshal and no record: both ends are forks of one process, and reading it must not cost the
    monitor a page more than it has to.

    Raises:
        ConnectionError: The monitor is gone.
    """
    ends, network = handover.ends, handover.network
    watched = (
        handover.pidfd,
        ends.stdin,
        ends.stdout,
        ends.stderr,
        handover.out_of_memory,
        handover.listener,
        network.user_network,
    )
    places = (
        *watched,
        network.namespace,
        network.reservation,
        network.name_datagrams,
        network.name_listener,
        handover.lock,
    )
    told = (
        handover.process_id,
        ends.is_terminal,
        handover.cgroup_paths,
        handover.log_path,
        handover.log_file_bytes,
        handover.log_file_count,
        handover.is_stdin_closed_with_session,
        handover.has_health_check,
        handover.spec,
        handover.state,
    )
    sent = tuple(dict.fromkeys(place for place in places if place >= 0))
    indexes = tuple(sent.index(place) if place >= 0 else -1 for place in places)
    payload = marshal.dumps((indexes, told))
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))
    watched_count = len({place for place in watched if place >= 0})
    header = _HEADER.pack(
        len(payload), handover.has_health_check or handover.is_urgent, watched_count
    )
    channel.sendmsg([header], [rights])
    channel.sendall(payload)


def send_failure(channel: socket.socket, error: EngineError) -> None:
    """Say why there is nothing to hand over; blocking.

    Raises:
        ConnectionError: The monitor is gone.
    """
    payload = encode_record(describe_error(error))
    channel.sendall(_HEADER.pack(len(payload), 0, 0) + payload)


def receive_handover(channel: socket.socket) -> ReceivedHandover | None:
    """Wait for it; None if the starter has ended without a word. Blocking.

    Raises:
        EngineError: Why there is none.
    """
    header, ancillary, _flags, _address = channel.recvmsg(
        _HEADER.size, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), _CLOSE_ON_EXEC
    )
    if not header:
        return None
    length, is_urgent, watched_count = _HEADER.unpack(header)
    payload = channel.recv(length, socket.MSG_WAITALL)
    if len(payload) < length:
        return None
    if not ancillary:
        raise read_error(payload)
    return ReceivedHandover(
        payload,
        memoryview(ancillary[0][2]).cast("i"),
        is_urgent=bool(is_urgent),
        watched_count=watched_count,
    )
