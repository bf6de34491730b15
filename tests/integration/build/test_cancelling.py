"""Builds that are cancelled end at once, whatever they are at, and leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.types import (
    BuildOutput,
    BuildRequest,
    BuildStatus,
    BuildStepChanged,
    BuildStepState,
)
from tests.command_line import CommandLine
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.api import EngineApi
    from engine.types import BuildEvent
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

LIMIT_SECONDS = 0.2
TRIES = 8
"""The best of them counts: others have the processors meanwhile."""
MANY_FILES = 100_000
STUBBORN = (
    "FROM starter\nRUN trap '' TERM INT HUP; echo ready; while :; do read x < /dev/zero; done\n"
)
LARGE = (
    "FROM starter\nRUN dd if=/dev/zero of=/large bs=1048576 count=0 seek=1024\n"
    "RUN echo ready; while :; do read x < /dev/zero; done\n"
)
FORKING = (
    "FROM starter\nRUN for i in 1 2 3 4 5 6 7 8 9; do (for j in 1 2 3 4 5 6 7 8 9; do sleep 1000 & "
    "done; wait) & done; echo ready; wait\n"
)


class Moment:
    """When a build is to be cancelled: at an event, or when somebody else says so."""

    def __init__(self, at: Callable[[BuildEvent], bool] = lambda _event: False) -> None:
        self._at = at
        self.has_come = asyncio.Event()
        self.last: list[BuildEvent] = []

    def __call__(self, event: BuildEvent) -> None:
        self.last.append(event)
        if self._at(event):
            self.has_come.set()


def says_ready(event: BuildEvent) -> bool:
    return isinstance(event, BuildOutput) and b"ready" in event.data


async def is_left(engine: EngineApi, store: StorePaths) -> list[str]:
    # What waits for the next build has no need to.
    await engine._close_lanes()  # type: ignore[attr-defined]
    return left_in(store)


def left_in(store: StorePaths) -> list[str]:
    return [
        *left_in_staging(store.root),
        *(path.name for path in (store.run / "containers").glob("*")),
    ]


async def cancelled_in(
    engine: EngineApi, request: BuildRequest, make_moment: Callable[[], Moment]
) -> float:
    """Build and cancel when the moment comes; how long that takes, at best."""
    best = float("inf")
    for _try in range(TRIES):
        moment = make_moment()
        building = asyncio.create_task(engine.build_image(request, listener=moment))
        coming = asyncio.create_task(moment.has_come.wait())
        await asyncio.wait({building, coming}, timeout=90, return_when="FIRST_COMPLETED")
        assert moment.has_come.is_set(), building
        began = time.monotonic()
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        best = min(best, time.monotonic() - began)
        if best < LIMIT_SECONDS:
            break
    # What takes longer to be removed is removed behind.
    await engine._services.staging.finish()  # type: ignore[attr-defined]
    last = moment.last[-1] if moment.last else None
    assert last is None or last.progress.status is BuildStatus.CANCELLED  # type: ignore[union-attr]
    return best


@pytest.fixture(scope="module")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context with more files than are copied in a moment."""
    top = tmp_path_factory.mktemp("many")
    for directory in range(100):
        (top / f"site/{directory}").mkdir(parents=True)
        for number in range(MANY_FILES // 100):
            os.close(os.open(top / f"site/{directory}/{number}", os.O_CREAT | os.O_WRONLY))
    return top


@pytest.mark.parametrize("text", [STUBBORN, LARGE, FORKING], ids=["stubborn", "large", "forking"])
async def test_a_step_that_does_not_want_to_end_is_ended(text, engine, store_paths):
    request = BuildRequest(dockerfile_content=text.encode(), network="none")

    assert await cancelled_in(engine, request, lambda: Moment(says_ready)) < LIMIT_SECONDS
    assert await is_left(engine, store_paths) == []


async def test_a_copy_of_many_files_is_ended(engine, store_paths, many_files):
    request = BuildRequest(
        dockerfile_content=b"FROM starter\nCOPY site /site\n", context=many_files
    )

    def copying() -> Moment:
        moment = Moment()

        def look() -> None:
            """Nothing tells of a file that was made."""
            made = list((store_paths.root / "staging").glob("build-*/work/*/layer/diff/site/3*"))
            if made:
                moment.has_come.set()
            else:
                asyncio.get_running_loop().call_later(0.02, look)

        look()
        return moment

    assert await cancelled_in(engine, request, copying) < LIMIT_SECONDS
    assert await is_left(engine, store_paths) == []


async def test_looking_at_many_files_is_ended(engine, store_paths, many_files):
    request = BuildRequest(
        dockerfile_content=b"FROM starter\nCOPY site /site\n", context=many_files
    )

    def looking() -> Moment:
        moment = Moment()
        asyncio.get_running_loop().call_later(0.15, moment.has_come.set)
        return moment

    assert await cancelled_in(engine, request, looking) < LIMIT_SECONDS
    assert await is_left(engine, store_paths) == []


@contextlib.contextmanager
def slow_server(answer: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server that says a little, and then nothing; the event: somebody has asked."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = server.accept()
                    kept.append(connection)
                    connection.recv(1 << 16)
                    connection.sendall(answer)
                    asked.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("FROM {}/web:1\nRUN true\n", b""),
        ("FROM starter\nADD http://{}/file /file\n", b""),
        (
            "FROM starter\nADD http://{}/file /file\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome",
        ),
    ],
    ids=["pull", "address", "half an address"],
)
async def test_whoever_waits_for_the_network_is_ended(text, answer, engine, store_paths):
    with slow_server(answer) as (address, asked):
        request = BuildRequest(dockerfile_content=text.format(address).encode())

        def waiting() -> Moment:
            moment = Moment()
            asked.clear()
            loop = asyncio.get_running_loop()

            def wait() -> None:
                if asked.wait(60):
                    loop.call_soon_threadsafe(moment.has_come.set)

            threading.Thread(target=wait).start()
            return moment

        assert await cancelled_in(engine, request, waiting) < LIMIT_SECONDS
    assert await is_left(engine, store_paths) == []


async def test_whoever_waits_for_standard_input_is_ended(engine, store_paths):
    reader, writer = os.pipe()
    try:
        os.write(writer, b"some")

        def soon() -> Moment:
            moment = Moment()
            asyncio.get_running_loop().call_later(0.2, moment.has_come.set)
            return moment

        assert await cancelled_in(engine, BuildRequest(context=reader), soon) < LIMIT_SECONDS
    finally:
        os.close(reader)
        os.close(writer)
    assert await is_left(engine, store_paths) == []


async def test_whoever_waits_for_a_cache_is_ended(engine, store_paths):
    mount = "--mount=type=cache,target=/c,sharing=locked"
    holder = BuildRequest(
        dockerfile_content=STUBBORN.replace("RUN", f"RUN {mount}").encode(), network="none"
    )
    waiter = BuildRequest(
        dockerfile_content=f"FROM starter\nRUN {mount} true\n".encode(), network="none"
    )
    moment = Moment(says_ready)
    holding = asyncio.create_task(engine.build_image(holder, listener=moment))
    await asyncio.wait_for(moment.has_come.wait(), 60)

    def is_run(event: BuildEvent) -> bool:
        return isinstance(event, BuildStepChanged) and (
            event.step.position == 1 and event.step.state is BuildStepState.RUNNING
        )

    try:
        assert await cancelled_in(engine, waiter, lambda: Moment(is_run)) < LIMIT_SECONDS
    finally:
        holding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await holding
    await engine._services.staging.finish()
    assert await is_left(engine, store_paths) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_as_docker_does(number, store_paths, tmp_path):
    (tmp_path / "Dockerfile").write_text(STUBBORN)
    lamella = CommandLine(store_paths)
    process = lamella.open("build", "--network", "none", "--progress", "plain", str(tmp_path))
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(b"ready"):
            break
    process.send_signal(number)
    _output, said = process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    assert b"CANCELED" in said or b"canceled" in said
    assert left_in(store_paths) == []
    assert "cancelled" in lamella.text("builder", "history")
