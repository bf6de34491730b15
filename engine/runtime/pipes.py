"""What connects a program with us: three pipes, or a terminal that it makes and sends."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from engine.linux.terminal import receive_terminal

if TYPE_CHECKING:
    from engine.runtime.streams import ProgramStreams


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
        self._input = -1
        self._outputs: dict[int, str] = {}
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
        output, self.stdout = os.pipe2(os.O_CLOEXEC)
        errors, self.stderr = os.pipe2(os.O_CLOEXEC)
        self._outputs = {output: "stdout", errors: "stderr"}

    def close_theirs(self) -> None:
        """Close the program's ends, which it has by now."""
        for descriptor in {self.stdin, self.stdout, self.stderr, self.terminal} - {-1}:
            os.close(descriptor)

    def open(self, streams: ProgramStreams) -> None:
        """Give our ends to `streams`; call when the program runs.

        Raises:
            ProcessError: It has sent no terminal.
        """
        if self._channel is None:
            streams.open(self._outputs, stdin=self._input, is_terminal=False)
            return
        with self._channel:
            master = receive_terminal(self._channel)
        streams.open({master: "stdout"}, stdin=master, is_terminal=True)
