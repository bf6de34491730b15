"""What an ordinary user's containers can be given in the place of a bridge."""

from __future__ import annotations

import functools
import os
import re
import socket
from typing import NamedTuple

from engine.linux.process import find_program
from engine.network.host import outgoing_address
from engine.runtime.user_network import PASTA, SLIRP4NETNS
from engine.types import HostFeature

_DEVICE = "/dev/net/tun"
_DATE = re.compile(r"(20\d\d)_?(\d\d)_?(\d\d)")
_SOUND_SINCE = "20250503"
"""Earlier versions of pasta take the end of a connection for its place in the stream, even when
packets before it got lost: the receiver believes that it has everything."""
_UNSOUND = (
    f"The installed {PASTA} may cut off what the container sends, unnoticed by who receives it. "
    f"Install {SLIRP4NETNS} (apt install {SLIRP4NETNS}), or passt of May 2025 or newer"
)
_ANSWER_SECONDS = 5


class UserNetworkChoice(NamedTuple):
    """How they get out: the program that helps, and why there is none or no better one."""

    program: str = ""
    problem: str = ""
    has_ipv6: bool = False


def find_user_network() -> UserNetworkChoice:
    """Look for what is needed; blocking."""
    pasta, slirp4netns = find_program(PASTA), find_program(SLIRP4NETNS)
    is_unsound = bool(pasta) and not _is_sound(pasta)
    program = slirp4netns or pasta if is_unsound else pasta or slirp4netns
    missing, remedies = [], []
    if not program:
        missing.append(f"neither {PASTA} nor {SLIRP4NETNS} is installed")
        remedies.append(f"Install one of them (apt install passt, or apt install {SLIRP4NETNS})")
    if not _can_open(_DEVICE):
        missing.append(f"{_DEVICE} cannot be opened")
        remedies.append(f"Have root let everybody (modprobe tun; chmod 666 {_DEVICE})")
    if missing:
        return UserNetworkChoice(
            problem=f"The container has only its loopback device: {' and '.join(missing)}. "
            f"{'. '.join(remedies)}, or run with --network host or none"
        )
    return UserNetworkChoice(
        program=os.path.abspath(program),
        problem=_UNSOUND if is_unsound and program == pasta else "",
        has_ipv6=bool(outgoing_address(socket.AF_INET6)),
    )


def _is_sound(pasta: str) -> bool:
    try:
        found = os.stat(pasta)
    except OSError:  # removed a moment ago
        return False
    return _asked_version(pasta, found.st_ino, found.st_mtime_ns) >= _SOUND_SINCE


@functools.lru_cache(maxsize=4)
def _asked_version(pasta: str, _inode: int, _changed_at_ns: int) -> str:
    """The day that a version is called by, `20250503`; empty for one that does not know its own."""
    # Who has another program need not load it.
    import subprocess

    try:
        answer = subprocess.run(
            [pasta, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    day = _DATE.search(answer.stdout.partition("\n")[0])
    return "".join(day.groups()) if day else ""


def _can_open(device: str) -> bool:
    """By opening it, which does nothing yet: a node may be there without its driver."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def user_network_feature() -> HostFeature:
    """What `lamella info` says of it; blocking."""
    choice = find_user_network()
    families = "IPv4 and IPv6" if choice.has_ipv6 else "IPv4 alone, as the host has no IPv6"
    return HostFeature(
        name="network",
        is_available=bool(choice.program),
        detail=f"out by {choice.program} ({families}), in at published ports"
        if choice.program
        else "loopback and published ports only",
        remedy=choice.problem,
    )
