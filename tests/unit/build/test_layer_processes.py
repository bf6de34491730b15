"""Who gets the process that makes layers, and when it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import msgspec
import pytest

from engine.build.layer_processes import LayerProcesses
from engine.errors import EngineError, LauncherError
from engine.runtime.protocol import FrameKind, receive_frame, send_error, send_frame
from engine.runtime.seal_jobs import SealRequest

LAYER = 0


class Worker:
    """Answers every request with its number, but `prepare`, which it never answers."""

    def __init__(self, number: int, requests: socket.socket) -> None:
        self.number = number
        self.unanswered: list[socket.socket] = []
        self._requests = requests
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with self._requests:
            while (frame := receive_frame(self._requests)) is not None:
                request = msgspec.json.decode(frame[1], type=SealRequest)
                answer = socket.socket(fileno=frame[2][0])
                for other in frame[2][1:]:
                    os.close(other)
                if request.action == "prepare":
                    self.unanswered.append(answer)
                    continue
                with answer:
                    if request.label == "broken":
                        send_error(answer, EngineError("cannot be read"))
                    else:
                        send_frame(answer, FrameKind.RESULT, str(self.number).encode())
        for answer in self.unanswered:
            answer.close()


class Runner:
    """Starts workers in threads; `ended` are those that were cancelled."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.ended: list[int] = []
        self.has_ended = asyncio.Event()

    async def run_job(self, job, arguments, *, descriptors=(), on_progress=None):
        assert (job, on_progress) == ("seal-layers", None)
        worker = Worker(len(self.workers), socket.socket(fileno=os.dup(descriptors[0])))
        self.workers.append(worker)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended.append(worker.number)
            self.has_ended.set()


@pytest.fixture
async def runner():
    runner = Runner()
    yield runner
    for worker in runner.workers:
        await asyncio.to_thread(worker.thread.join)


def request(action: str, label: str = "") -> SealRequest:
    return SealRequest(action=action, layer=LAYER, label=label)


async def asked_for_nothing(runner, process) -> asyncio.Task[bytes]:
    """Something that is asked for, and not answered."""
    asking = asyncio.create_task(process.ask(request("prepare"), None))
    while not (runner.workers and runner.workers[0].unanswered):  # noqa: ASYNC110
        await asyncio.sleep(0)
    return asking


async def settle_and_read(process) -> bytes:
    await process.ask(request("settle"), None)
    return await process.ask(request("digest"), None)


async def test_one_build_after_the_other_has_the_same_process(runner):
    processes = LayerProcesses(runner)
    for _build in range(3):
        process = await processes.borrow(())
        assert await settle_and_read(process) == b"0"
        await process.give_back()

    assert runner.ended == []
    await processes.close()
    assert runner.ended == [0]


async def test_builds_at_once_have_one_each_and_one_stays(runner):
    processes = LayerProcesses(runner)
    first, second = await processes.borrow(()), await processes.borrow(())
    assert (await settle_and_read(first), await settle_and_read(second)) == (b"0", b"1")
    await first.give_back()
    await second.give_back()
    await runner.has_ended.wait()

    assert runner.ended == [1]
    await processes.close()


async def test_a_process_ends_when_nobody_asks_for_it(runner):
    processes = LayerProcesses(runner, idle_seconds=0)
    process = await processes.borrow(())
    await settle_and_read(process)
    await process.give_back()

    await runner.has_ended.wait()
    await processes.close()


async def test_a_build_that_asks_for_nothing_starts_none(runner):
    processes = LayerProcesses(runner)
    await (await processes.borrow(())).give_back()
    await processes.close()

    assert runner.workers == []


@pytest.mark.parametrize("left", ["settled", "failed", "unanswered"])
async def test_a_process_with_something_left_to_do_serves_nobody_else(runner, left):
    processes = LayerProcesses(runner)
    process = await processes.borrow(())
    if left == "settled":
        await process.ask(request("settle"), None)
    elif left == "failed":
        with pytest.raises(EngineError, match="cannot be read"):
            await process.ask(request("settle", "broken"), None)
    else:
        asking = await asked_for_nothing(runner, process)
        asking.cancel()
        await asyncio.wait((asking,))
    await process.give_back()

    assert runner.ended == [0]
    other = await processes.borrow(())
    assert await settle_and_read(other) == b"1"
    await other.give_back()
    await processes.close()


async def test_who_asks_a_process_that_was_given_back_hears_that_it_is_gone(runner):
    processes = LayerProcesses(runner)
    process = await processes.borrow(())
    asking = await asked_for_nothing(runner, process)
    await process.give_back()

    with pytest.raises(LauncherError, match="the worker that makes layers was killed"):
        await asking
    await processes.close()
