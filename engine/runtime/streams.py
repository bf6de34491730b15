"""A program's standard streams on our side: output to the log and to sessions, input from them.

A session that does not read holds the program up, as a terminal does, so nothing is buffered but
one packet a session. One that holds a container up for too long is let go: it finds what it
missed in the log and may come again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from engine.linux.terminal import set_terminal_size
from engine.runtime.protocol import PacketKind
from engine.runtime.reactor import READABLE, WRITABLE

if TYPE_CHECKING:
    from engine.logs.writer import LogWriter
    from engine.runtime.pipes import ProgramEnds
    from engine.runtime.reactor import Deadline, Reactor

# As much as the allocator keeps at hand: larger buffers are mapped and unmapped at every read.
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_SIZE = struct.Struct("!HH")
_TIMEVAL = struct.Struct("ll")
_HANG_UP = select.POLLHUP | select.POLLERR


class SessionPeer:
    """The far end of one session."""

    def __init__(self, streams: ProgramStreams, connection: socket.socket) -> None:
        self.connection = connection
        self._streams = streams
        self._pending = b""
        self._is_ending = False
        connection.setblocking(False)

    @property
    def is_behind(self) -> bool:
        """Whether it has not taken yet what it was sent last."""
        return bool(self._pending)

    def send(self, packet: bytes) -> bool:
        """Send a packet, now or as soon as it is taken; False if nobody is there any more."""
        try:
            self.connection.send(packet, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            if self._is_ending:
                return False
            self._pending = packet
        except OSError:
            return False
        return True

    def begin_end(self, timeout_seconds: int | None) -> bool:
        """Let `send` wait from now on, so long at most; False if what is pending is not taken."""
        self._is_ending = True
        self.connection.setblocking(True)
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(timeout_seconds or 0, 0)
        )
        packet, self._pending = self._pending, b""
        return not packet or self.send(packet)

    def serve(self, events: int) -> None:
        """Take input and send what is pending, as the reactor says."""
        if events & WRITABLE and self._pending:
            packet, self._pending = self._pending, b""
            if not self.send(packet):
                self._streams.leave(self)
                return
            if not self._pending:
                self._streams.go_on()
        if events & READABLE:
            self._receive()
        elif events & _HANG_UP:
            self._streams.leave(self)

    def _receive(self) -> None:
        try:
            packet = self.connection.recv(_READ_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        kind, data = packet[:1], packet[1:]
        if kind == PacketKind.INPUT:
            self._streams.write_input(data)
        elif kind == PacketKind.INPUT_END:
            self._streams.end_input()
        elif kind == PacketKind.RESIZE and len(data) == _SIZE.size:
            columns, rows = _SIZE.unpack(data)
            self._streams.resize(columns, rows)
        elif kind == PacketKind.DETACH:
            self._streams.outlive_sessions()
        else:
            # Gone, or one that talks nonsense.
            self._streams.leave(self)


class ProgramStreams:
    """Moves bytes between one program, its log and its sessions."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        log: LogWriter | None = None,
        is_input_ended_with_session: bool = False,
        is_hung_up_with_session: bool = False,
        patience_seconds: float | None = None,
    ) -> None:
        """Prepare; `open` begins.

        Args:
            reactor: Drives everything.
            log: Takes all output.
            is_input_ended_with_session: The program's stdin ends when the last session leaves.
            is_hung_up_with_session: Its terminal is hung up when the last session leaves.
            patience_seconds: How long a session may hold the program up; None is for ever.
        """
        self._reactor = reactor
        self._log = log
        self._is_input_ended_with_session = is_input_ended_with_session
        self._is_hung_up_with_session = is_hung_up_with_session
        self._patience_seconds = patience_seconds
        self._outputs: dict[int, str] = {}
        self._input = -1
        self._is_terminal = False
        self._backlog = b""
        self._is_input_ending = False
        self._peers: list[SessionPeer] = []
        self._is_held_up = False
        self._patience: Deadline | None = None

    def open(self, ends: ProgramEnds) -> None:
        """Begin with the ends of a program's pipes, or with its terminal."""
        outputs = {ends.stdout: "stdout", ends.stderr: "stderr"}
        outputs.pop(-1, None)
        stdin = ends.stdin
        self._outputs = outputs
        self._input = stdin
        self._is_terminal = ends.is_terminal
        for descriptor in {*outputs, stdin} - {-1}:
            os.set_blocking(descriptor, False)
        for descriptor in outputs:
            if not ends.is_terminal:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
            self._reactor.watch(descriptor, functools.partial(self._serve_output, descriptor))
        if stdin >= 0 and stdin not in outputs:
            self._reactor.watch(stdin, self._serve_input, 0)

    def _serve_output(self, descriptor: int, events: int) -> None:
        if events & WRITABLE:
            self._flush_input()
        if events & ~WRITABLE and descriptor in self._outputs:
            self._move(descriptor)

    # --- output -------------------------------------------------------------------------------

    def _move(self, descriptor: int) -> bool:
        """Read once into log and sessions; False at the end of a stream or when it is empty."""
        try:
            chunk = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            # A terminal whose program has ended answers EIO.
            chunk = b""
        if not chunk:
            self._close_output(descriptor)
            return False
        name = self._outputs[descriptor]
        if self._log is not None:
            self._log.write(name, chunk)
        if self._peers:
            self._tell(name, chunk)
        return True

    def _tell(self, name: str, chunk: bytes) -> None:
        kind = PacketKind.OUTPUT if name == "stdout" else PacketKind.ERRORS
        packet = kind + chunk
        for peer in tuple(self._peers):
            if not peer.send(packet):
                self.leave(peer)
            elif peer.is_behind:
                self._hold_up(peer)

    def _hold_up(self, peer: SessionPeer) -> None:
        self._expect(peer)
        if self._is_held_up:
            return
        self._is_held_up = True
        self._expect_all()
        if self._patience_seconds is not None:
            self._patience = self._reactor.after(self._patience_seconds, self._let_go)

    def _let_go(self) -> None:
        for peer in tuple(self._peers):
            if peer.is_behind:
                self.leave(peer)

    def go_on(self) -> None:
        """Let the program go on if no session is behind."""
        for peer in self._peers:
            self._expect(peer)
        if self._is_held_up and not any(peer.is_behind for peer in self._peers):
            self._is_held_up = False
            if self._patience is not None:
                self._patience.cancel()
            self._expect_all()

    def _close_output(self, descriptor: int) -> None:
        self._reactor.forget(descriptor)
        del self._outputs[descriptor]
        if descriptor == self._input:
            self._input, self._backlog = -1, b""
        os.close(descriptor)

    # --- input --------------------------------------------------------------------------------

    def write_input(self, data: bytes) -> None:
        """Give the program input; what it does not take yet waits, and with it the sessions."""
        if self._input < 0 or self._is_input_ending:
            return
        self._backlog += data
        self._flush_input()

    def end_input(self) -> None:
        """End the program's stdin when it has taken all input; a terminal has no end."""
        if self._input >= 0 and not self._is_terminal:
            self._is_input_ending = True
            self._flush_input()

    def _serve_input(self, events: int) -> None:
        if events & WRITABLE:
            self._flush_input()
        elif events & _HANG_UP:
            self._close_input()

    def _flush_input(self) -> None:
        had_backlog = self._input >= 0
        while self._backlog and self._input >= 0:
            try:
                self._backlog = self._backlog[os.write(self._input, self._backlog) :]
            except BlockingIOError:
                break
            except OSError:
                # Nobody reads it: a program may close its stdin.
                self._backlog = b""
                if not self._is_terminal:
                    self._close_input()
        if self._is_input_ending and not self._backlog:
            self._close_input()
        if had_backlog:
            self._expect_all()
            for peer in self._peers:
                self._expect(peer)

    def _close_input(self) -> None:
        if self._input >= 0 and not self._is_terminal:
            self._reactor.forget(self._input)
            os.close(self._input)
            self._input = -1
        self._backlog = b""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the program's terminal."""
        if self._is_terminal and self._input >= 0:
            with contextlib.suppress(OSError):
                set_terminal_size(self._input, columns, rows)

    # --- sessions -----------------------------------------------------------------------------

    @property
    def session_count(self) -> int:
        """How many sessions there are."""
        return len(self._peers)

    def join(self, connection: socket.socket) -> None:
        """Let a session take part from now on."""
        peer = SessionPeer(self, connection)
        self._peers.append(peer)
        self._reactor.watch(connection.fileno(), peer.serve, 0)
        self._expect(peer)

    def leave(self, peer: SessionPeer) -> None:
        """End a session."""
        if peer not in self._peers:
            return
        self._peers.remove(peer)
        self._reactor.forget(peer.connection.fileno())
        peer.connection.close()
        if self._is_input_ended_with_session and not self._peers:
            self.end_input()
        if self._is_hung_up_with_session and not self._peers:
            self._hang_up()
        self.go_on()

    def outlive_sessions(self) -> None:
        """Let the program go on when the last session leaves."""
        self._is_input_ended_with_session = self._is_hung_up_with_session = False

    def _hang_up(self) -> None:
        if not self._is_terminal:
            return
        # The kernel sends SIGHUP to those on the other end of a closed terminal (pty(7)).
        for descriptor in tuple(self._outputs):
            self._close_output(descriptor)

    def _expect(self, peer: SessionPeer) -> None:
        events = 0 if self._backlog else READABLE
        if peer.is_behind:
            events |= WRITABLE
        self._reactor.expect(peer.connection.fileno(), events)

    def _expect_all(self) -> None:
        """Wait for what may be moved now."""
        reading = 0 if self._is_held_up else READABLE
        for descriptor in self._outputs:
            writing = WRITABLE if descriptor == self._input and self._backlog else 0
            self._reactor.expect(descriptor, reading | writing)
        if self._input >= 0 and self._input not in self._outputs:
            self._reactor.expect(self._input, WRITABLE if self._backlog else 0)

    # --- end ----------------------------------------------------------------------------------

    def drain(self, timeout_seconds: float, *, send_seconds: int | None) -> None:
        """Take what is left of the output, until its end or for so long at most.

        All processes of a container have ended with its first one, so the end is near; the
        timeout is for a descriptor that was passed out of it. 0 takes what is there now.

        Args:
            timeout_seconds: How long to wait for the end of the output.
            send_seconds: How long a session may take for a packet; None is for ever.
        """
        for peer in tuple(self._peers):
            if not peer.begin_end(send_seconds):
                self.leave(peer)
        deadline = time.monotonic() + timeout_seconds
        while self._outputs:
            for descriptor in tuple(self._outputs):
                while self._move(descriptor):
                    pass
            left = deadline - time.monotonic()
            if not self._outputs or left <= 0:
                return
            waiting = select.poll()
            for descriptor in self._outputs:
                waiting.register(descriptor, select.POLLIN)
            waiting.poll(left * 1000)

    def close(self, last_packet: bytes) -> None:
        """End every session with a last packet, and let go of the program's streams."""
        for peer in self._peers:
            self._reactor.forget(peer.connection.fileno())
            peer.send(last_packet)
            peer.connection.close()
        self._peers.clear()
        if self._patience is not None:
            self._patience.cancel()
        self._close_input()
        for descriptor in tuple(self._outputs):
            self._close_output(descriptor)
        self._is_held_up = False
