"""A Docker daemon with a store of its own, for the length of a block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING

import pytest

from tests.integration.images.corpus import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READY = b"API listen on"


@contextlib.contextmanager
def docker_daemon(directory: Path, *, storage: str = "vfs") -> Iterator[tuple[str, ...]]:
    """Start dockerd without networks; gives the beginning of a docker command line."""
    need("dockerd", "docker", "containerd")
    directory.mkdir()
    socket = directory / "s"
    if len(str(socket)) > 100:
        pytest.skip("the temporary directory's path is too long for a socket")
    daemon = subprocess.Popen(
        [
            "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false",
            f"--storage-driver={storage}", f"--data-root={directory}/d",
            f"--exec-root={directory}/e", f"--pidfile={directory}/p", f"--host=unix://{socket}",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
    )  # fmt: skip
    assert daemon.stderr is not None
    said = []
    try:
        for line in daemon.stderr:
            said.append(line)
            if _READY in line:
                break
        else:
            pytest.skip(f"dockerd does not start here: {said[-1:]}")
        # It would stop at what nobody reads: builds say a lot.
        reader = threading.Thread(target=_read_all, args=(daemon.stderr,), name="dockerd's log")
        reader.start()
        try:
            yield ("docker", "--host", f"unix://{socket}")
        finally:
            daemon.send_signal(signal.SIGTERM)
            reader.join()
    finally:
        daemon.send_signal(signal.SIGTERM)
        _read_all(daemon.stderr)
        daemon.stderr.close()
        daemon.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _read_all(stream: IO[bytes]) -> None:
    for _line in stream:
        continue
