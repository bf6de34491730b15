"""What an ordinary user's containers can be given in the place of a bridge."""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.types import HostFeature

_PROGRAM = "slirp4netns"
_DEVICE = "/dev/net/tun"


class UserNetworkChoice(NamedTuple):
    """How they get out: the program that helps, or why there is none."""

    program: str = ""
    problem: str = ""


def find_user_network() -> UserNetworkChoice:
    """Look for what is needed; blocking."""
    program = _find_program()
    if not program:
        return UserNetworkChoice(
            problem=f"The container has only its loopback device: {_PROGRAM} is not installed. "
            f"Install it (apt install {_PROGRAM}), or run with --network host or none"
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return UserNetworkChoice(
            problem=f"The container has only its loopback device: {_DEVICE} cannot be opened. "
            f"Have root let everybody (modprobe tun; chmod 666 {_DEVICE}), or run with "
            "--network host or none"
        )
    return UserNetworkChoice(program=os.path.abspath(program))


def _find_program() -> str:
    """As shutil.which, which every start of a command would have to load."""
    paths = (f"{directory}/{_PROGRAM}" for directory in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def user_network_feature() -> HostFeature:
    """What `lamella info` says of it; blocking."""
    choice = find_user_network()
    return HostFeature(
        name="network",
        is_available=bool(choice.program),
        detail=f"out by {choice.program}, in at published ports"
        if choice.program
        else "loopback and published ports only",
        remedy=choice.problem,
    )
