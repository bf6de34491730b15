"""Pulls that are killed: the store verifies clean, and nothing that has come is fetched again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.command_line import CommandLine
from tests.fault_proxy import Fault, FaultProxy, Request
from tests.registries import push_files, run_registry
from tests.staging import left_in_staging

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StorePaths

LAYER_BYTES = 300_000
STALL_BYTES = 100_000


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    """A registry behind a proxy."""
    with (
        run_registry(tmp_path / "registry") as registry,
        FaultProxy(registry.address).running() as running,
    ):
        yield running


@pytest.fixture
def image_id(proxy: FaultProxy) -> str:
    """An image of three layers; returns its id, which is the digest of its config."""
    layers = ({f"file-{number}": os.urandom(LAYER_BYTES)} for number in range(3))
    return push_files(f"{proxy.upstream}/web:1", *layers)


def is_layer(request: Request, image_id: str) -> bool:
    return (
        request.method == "GET"
        and "/blobs/" in request.path
        and not request.path.endswith(image_id)
    )


@pytest.fixture
def lamella(store_paths: StorePaths) -> CommandLine:
    return CommandLine(store_paths)


def fetched(proxy: FaultProxy) -> Counter[str]:
    """How often each blob was asked for."""
    return Counter(
        request.path.rpartition("/")[2]
        for request in proxy.requests
        if request.method == "GET" and "/blobs/" in request.path
    )


def kill_when(process: subprocess.Popen[bytes], said: str, count: int = 1) -> set[str]:
    """Kill a pull when it has said something so often; returns which blobs it had by then."""
    assert process.stdout is not None
    whole = set()
    for line in process.stdout:
        if b"Download complete" in line:
            whole.add(line.decode().partition(":")[0])
        count -= said in line.decode()
        if not count:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return whole


def whole_after(lamella: CommandLine, name: str) -> None:
    """Pull an image after a kill: it comes, and all of it is right."""
    lamella.text("fsck")
    lamella.text("pull", name)
    said = lamella.text("fsck")
    assert "layers" in said
    assert len(lamella.text("images", "-q").split()) == 1
    assert left_in_staging(lamella.root) == []
    assert list((lamella.root / "downloads").glob("*")) == []


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("Pulling from", 1),
        ("Pulling fs layer", 1),
        ("Pulling fs layer", 3),
        ("Download complete", 1),
        ("Download complete", 3),
        ("Pull complete", 1),
        ("Pull complete", 3),
        ("Digest:", 1),
    ],
)
def test_a_pull_that_is_killed_at_a_step_is_gone_on_with(
    said: str, count: int, lamella: CommandLine, proxy: FaultProxy, image_id: str
) -> None:
    name = f"{proxy.address}/web:1"
    with lamella.open("pull", name) as process:
        whole = kill_when(process, said, count)
    whole_after(lamella, name)
    counts = fetched(proxy)
    assert {counts[digest] for digest in counts if digest[7:19] in whole} <= {1}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_pull_that_is_killed_within_a_layer_asks_for_the_rest_of_it(
    number: int, lamella: CommandLine, proxy: FaultProxy, image_id: str
) -> None:
    name = f"{proxy.address}/web:1"
    asked: list[str] = []
    may_go = threading.Event()

    def stall(request):
        if not is_layer(request, image_id):
            return None
        asked.append(request.path)
        return Fault(stalls_at=STALL_BYTES) if len(asked) == number + 1 else None

    proxy.plan = stall
    with lamella.open("pull", name) as process:
        # Nothing tells of a file that has grown.
        while not stalled(lamella.root / "downloads"):
            may_go.wait(0.01)
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    proxy.plan = lambda _request: None
    proxy.requests.clear()
    whole_after(lamella, name)
    ranges = [request.headers["range"] for request in proxy.requests if "range" in request.headers]
    assert f"bytes={STALL_BYTES}-" in ranges


def stalled(downloads: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size == STALL_BYTES for path in downloads.glob("*/content"))
    return False


def test_of_two_pulls_at_once_the_other_goes_on_when_one_is_killed(
    lamella: CommandLine, proxy: FaultProxy, image_id: str
) -> None:
    name = f"{proxy.address}/web:1"
    may_go, is_there = threading.Event(), threading.Event()
    blobs: list[str] = []

    def hold_up(request):
        if is_layer(request, image_id):
            blobs.append(request.path)
            if len(blobs) > 1:
                is_there.set()
                may_go.wait()

    proxy.plan = hold_up
    try:
        with lamella.open("pull", name) as first:
            assert is_there.wait(60)
            with lamella.open("pull", name) as second:
                assert second.stdout is not None
                for line in second.stdout:
                    if b"Pulling fs layer" in line:
                        break
                os.kill(first.pid, signal.SIGKILL)
                may_go.set()
                rest, errors = second.communicate(timeout=60)
            first.communicate()
    finally:
        may_go.set()
    assert second.returncode == 0, errors.decode()
    assert b"Status: Downloaded newer image" in rest
    lamella.text("fsck")


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_prune_beside_a_pull_waits_for_nothing_and_takes_nothing(
    lamella: CommandLine, proxy: FaultProxy, image_id: str, is_killed: bool
) -> None:
    name = f"{proxy.address}/web:1"
    may_go, is_there = threading.Event(), threading.Event()
    blobs: list[str] = []

    def hold_up(request):
        if is_layer(request, image_id):
            blobs.append(request.path)
            if len(blobs) == 3:
                is_there.set()
                may_go.wait()

    proxy.plan = hold_up
    try:
        with lamella.open("pull", name) as process:
            assert is_there.wait(60)
            assert process.stdout is not None
            # What is unpacked at once may say so alone.
            complete: set[bytes] = set()
            for line in process.stdout:
                if b" complete" in line:
                    complete.add(line.partition(b":")[0])
                if len(complete) == 2:
                    break
            lamella.text("image", "prune", "-a", "-f")
            if is_killed:
                process.kill()
            may_go.set()
            _, errors = process.communicate(timeout=60)
    finally:
        may_go.set()
    if is_killed:
        # What had come for it is still there for the next one.
        whole_after(lamella, name)
        assert sorted(Counter(blobs).values()) == [1, 1, 2]
    else:
        assert process.returncode == 0, errors.decode()
        lamella.text("fsck")
        assert len(blobs) == 3


@pytest.mark.parametrize("seed", range(6))
def test_a_pull_that_is_killed_at_any_moment_leaves_a_store_that_verifies(
    seed: int, lamella: CommandLine, proxy: FaultProxy, image_id: str
) -> None:
    """The moment is a request, or a byte of it, that the seed names."""
    name = f"{proxy.address}/web:1"
    killed = threading.Event()
    process: list[subprocess.Popen[bytes]] = []
    is_open = threading.Event()

    def kill(request):
        if request.number == seed + 1 and not killed.is_set():
            is_open.wait()
            os.kill(process[0].pid, signal.SIGKILL)
            killed.set()

    proxy.plan = kill
    with lamella.open("pull", name) as opened:
        process.append(opened)
        is_open.set()
        opened.communicate()
    whole_after(lamella, name)
