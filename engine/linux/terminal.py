"""Pseudo-terminals: made in a devpts of choice, sized, handed over, taken by a session."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import termios
from typing import NamedTuple

from engine.errors import ProcessError, SyscallError

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX = os.makedev(5, 2)
_CLOSE_ON_EXEC = 0x40000000
_INTEGER = struct.Struct("i")
_SIZE = struct.Struct("HHHH")


class Terminal(NamedTuple):
    """Both ends of a pseudo-terminal, close-on-exec."""

    master: int
    slave: int


def open_terminal(directory: int, path: str = "ptmx") -> Terminal:
    """Make a terminal in the devpts that a directory descriptor (also O_PATH) refers to.

    The program's end is taken from ours (TIOCGPTPEER): a path to it could lead elsewhere.

    Raises:
        SyscallError: The kernel refuses, or `path` is no ptmx.
    """
    # Without blocking: in a container it may be anything by now.
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        master = os.open(path, flags, dir_fd=directory)
        try:
            if os.fstat(master).st_rdev != _PTMX:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            os.set_blocking(master, True)
            fcntl.ioctl(master, _TIOCSPTLCK, _INTEGER.pack(0))
            slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except BaseException:
            os.close(master)
            raise
    except OSError as error:
        raise SyscallError("open a terminal", error.errno or 0, path) from None
    return Terminal(master, slave)


def set_terminal_size(terminal: int, columns: int, rows: int) -> None:
    """Tell either end its size in characters; programs get SIGWINCH when it changes."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


def take_terminal(slave: int) -> None:
    """Make a terminal the controlling one of this session, which has none yet."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def send_terminal(channel: int, master: int) -> None:
    """Send the terminal's own end over a socket, and close it here."""
    with socket.socket(fileno=os.dup(channel)) as sender:
        rights = array.array("i", (master,))
        sender.sendmsg([b"t"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(master)


def receive_terminal(channel: socket.socket) -> int:
    """Receive what `send_terminal` sent (close-on-exec); blocking.

    Raises:
        ProcessError: The other side ended without sending one.
    """
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(_INTEGER.size), _CLOSE_ON_EXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return int(_INTEGER.unpack(data[: _INTEGER.size])[0])
    raise ProcessError("the program's terminal did not arrive")
