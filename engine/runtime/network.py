"""A container's network: a namespace of its own, in which there is only the loopback device."""

from __future__ import annotations

import fcntl
import socket
import struct

from engine.linux.process import CLONE_NEWNET, leave_namespaces

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_INTERFACE_REQUEST = struct.Struct("16sh22x")


def enter_new_network() -> None:
    """Move this process into a new network namespace with `lo` up; init is born into it.

    It takes the kernel most of a millisecond, and needs nothing of the container.

    Raises:
        SyscallError: The kernel gives no namespace.
        OSError: The device cannot be brought up.
    """
    leave_namespaces(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))
