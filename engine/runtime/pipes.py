"""What connects a program with us: three pipes, or a terminal that it makes and sends."""

from __future__ import annotations

import os
import socket

from engine.late_dataclasses import dataclass
from engine.linux.terminal import receive_terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEnds:
    """Our ends of a program's streams; -1 where there is none.

    Attributes:
        stdin: Written to; a terminal's is the same as `stdout`.
        stdout: Read from.
        stderr: Read from.
        is_terminal: The program has a terminal.
    """

    stdin: int
    stdout: int
    stderr: int
    is_terminal: bool


class ProgramPipes:
    """Both ends of a program's standard streams, all close-on-exec.

    Attributes:
        stdin: The program's end; -1, like the next two, when it gets a terminal.
        stdout: The program's end.
        stderr: The program's end.
        terminal: A socket on which the program sends its terminal; -1 without one.
    """

    def __init__(self, *, has_terminal: bool, is_stdin_open: bool, is_discarded: bool) -> None:
        """Make them.

        Args:
            has_terminal: The program makes a terminal.
            is_stdin_open: Its stdin takes input; otherwise it is at its end.
            is_discarded: Nobody wants its output.
        """
        self.stdin = self.stdout = self.stderr = self.terminal = -1
        self._input = self._output = self._errors = -1
        self._channel: socket.socket | None = None
        if has_terminal:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            self.terminal = theirs.detach()
            return
        if is_stdin_open:
            self.stdin, self._input = os.pipe2(os.O_CLOEXEC)
        else:
            self.stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if is_discarded:
            self.stdout = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            self.stderr = os.dup(self.stdout)
            return
        self._output, self.stdout = os.pipe2(os.O_CLOEXEC)
        self._errors, self.stderr = os.pipe2(os.O_CLOEXEC)

    def close_theirs(self) -> None:
        """Close the program's ends, which it has by now."""
        for descriptor in {self.stdin, self.stdout, self.stderr, self.terminal} - {-1}:
            os.close(descriptor)

    def take_ends(self) -> ProgramEnds:
        """Our ends, the caller's from now on; call when the program runs.

        Raises:
            ProcessError: It has sent no terminal.
        """
        if self._channel is None:
            return ProgramEnds(
                stdin=self._input, stdout=self._output, stderr=self._errors, is_terminal=False
            )
        with self._channel:
            master = receive_terminal(self._channel)
        return ProgramEnds(stdin=master, stdout=master, stderr=-1, is_terminal=True)
