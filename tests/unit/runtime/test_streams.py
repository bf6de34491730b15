"""A program's streams: who holds it up, who is let go, and what nobody may lose."""

import contextlib
import os
import pty
import socket
import threading

import pytest

from engine.runtime.pipes import ProgramEnds
from engine.runtime.protocol import PacketKind
from engine.runtime.reactor import Reactor
from engine.runtime.streams import ProgramStreams

MUCH = 4 << 20


class Program:
    """The other side of the pipes, and a loop that moves what comes."""

    def __init__(self, **settings):
        self.reactor = Reactor()
        self.streams = ProgramStreams(self.reactor, **settings)
        output, self.stdout = os.pipe()
        errors, self.stderr = os.pipe()
        self.stdin, their_input = os.pipe()
        self.streams.open(
            ProgramEnds(stdin=their_input, stdout=output, stderr=errors, is_terminal=False)
        )

    def attach(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.streams.join(theirs)
        return ours

    def run(self, seconds=0.0):
        """Serve until nothing is to be done for so long."""
        self.reactor.after(seconds, self.reactor.stop)
        self.reactor.run()

    def write_in_background(self, amount):
        thread = threading.Thread(target=self._write, args=(amount,))
        thread.start()
        return thread

    def _write(self, amount):
        data = b"x" * amount
        while data:
            data = data[os.write(self.stdout, data) :]
        os.close(self.stdout)
        self.stdout = -1

    def close(self):
        self.streams.close(PacketKind.END)
        for descriptor in (self.stdout, self.stderr, self.stdin):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def make():
    made = []

    def make(**settings):
        program = Program(**settings)
        made.append(program)
        return program

    yield make
    for program in made:
        program.close()


def packets(connection):
    """Everything that has come so far."""
    found = []
    connection.setblocking(False)
    while True:
        try:
            packet = connection.recv(1 << 17)
        except BlockingIOError:
            return found
        if not packet:
            return [*found, b""]
        found.append(packet)


def test_output_goes_to_every_session_by_stream(make):
    program = make()
    with program.attach() as one, program.attach() as two:
        os.write(program.stdout, b"out")
        program.run()
        os.write(program.stderr, b"err")
        program.run()
        for session in (one, two):
            assert packets(session) == [b"oout", b"xerr"]


def test_a_session_that_does_not_read_holds_the_program_up_and_loses_nothing(make):
    program = make()
    with program.attach() as slow:
        writing = program.write_in_background(MUCH)
        program.run(0.2)
        assert writing.is_alive()
        received = 0
        while received < MUCH:
            received += sum(len(packet) - 1 for packet in packets(slow))
            program.run()
        writing.join()
        assert received == MUCH


def test_after_its_patience_the_program_goes_on_without_the_session(make):
    program = make(patience_seconds=0.05)
    with program.attach() as stuck, program.attach() as other:
        writing = program.write_in_background(MUCH)
        received = 0
        while received < MUCH:
            program.run(0.01)
            received += sum(len(packet) - 1 for packet in packets(other))
        writing.join()
        assert program.streams.session_count == 1
        assert packets(stuck)[-1] == b""


def test_input_waits_for_the_program_and_its_end_comes_behind_it(make):
    program = make()
    sent = os.urandom(1 << 19)
    waiting = [PacketKind.INPUT + sent[at : at + 32768] for at in range(0, len(sent), 32768)]
    waiting.append(PacketKind.INPUT_END)
    received = []
    with program.attach() as session:
        session.setblocking(False)
        os.set_blocking(program.stdin, False)
        while not received or received[-1]:
            with contextlib.suppress(BlockingIOError):
                while waiting:
                    session.send(waiting[0])
                    waiting.pop(0)
            program.run()
            with contextlib.suppress(BlockingIOError):
                received.append(os.read(program.stdin, 1 << 16))
    assert b"".join(received) == sent


def test_a_session_that_talks_nonsense_is_shown_the_door(make):
    program = make()
    with program.attach() as session:
        session.send(b"?what")
        program.run()
        assert program.streams.session_count == 0
        assert packets(session) == [b""]


def test_stdin_ends_when_the_last_session_leaves_if_it_is_to(make):
    program = make(is_input_ended_with_session=True)
    one, two = program.attach(), program.attach()
    one.close()
    program.run()
    os.set_blocking(program.stdin, False)
    with pytest.raises(BlockingIOError):
        os.read(program.stdin, 1)
    two.close()
    program.run()
    assert os.read(program.stdin, 1) == b""


@pytest.fixture
def on_terminal():
    """Streams of a program on a terminal that is hung up with its sessions, and its end of it."""
    master, program_end = pty.openpty()
    reactor = Reactor()
    streams = ProgramStreams(
        reactor, is_input_ended_with_session=True, is_hung_up_with_session=True
    )
    streams.open(ProgramEnds(stdin=master, stdout=master, stderr=-1, is_terminal=True))

    def run(*connections):
        for connection in connections:
            connection.close()
        reactor.after(0.0, reactor.stop)
        reactor.run()

    yield streams, program_end, run
    streams.close(PacketKind.END)
    os.close(program_end)


def join(streams):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    streams.join(theirs)
    return ours


def test_a_terminal_is_hung_up_when_the_last_session_leaves(on_terminal):
    streams, program_end, run = on_terminal
    one, two = join(streams), join(streams)
    run(one)
    assert os.write(program_end, b"still here") == 10
    run(two)
    with pytest.raises(OSError, match="Input/output error"):
        os.write(program_end, b"nobody")


def test_a_terminal_that_was_detached_from_stays(on_terminal):
    streams, program_end, run = on_terminal
    session = join(streams)
    session.send(PacketKind.DETACH)
    run()
    run(session)
    assert streams.session_count == 0
    assert os.write(program_end, b"still here") == 10


def test_the_last_packet_is_how_it_ended(make):
    program = make()
    with program.attach() as session:
        os.write(program.stdout, b"bye")
        program.streams.drain(0, send_seconds=1)
        program.streams.close(PacketKind.END + b"{}")
        assert packets(session) == [b"obye", b"E{}", b""]
