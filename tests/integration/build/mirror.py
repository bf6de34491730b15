"""The package mirror of this host, which builds of Debian images take packages from."""

from __future__ import annotations

import socket

import pytest

_HOST = "deb.debian.org"
_PATIENCE_SECONDS = 10


def need_package_mirror() -> None:
    """Skip where there is none to be reached, from the network that the caller is in."""
    try:
        socket.create_connection((_HOST, 80), timeout=_PATIENCE_SECONDS).close()
    except OSError as error:
        pytest.skip(f"{_HOST} cannot be reached: {error}")
