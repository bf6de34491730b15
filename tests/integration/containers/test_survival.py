"""Containers, monitors, launchers and applications end in every order; nothing is lost or left."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.containers.states import read_container_state
from engine.errors import ContainerNotFoundError
from engine.types import ContainerRequest, ContainerStatus
from tests.accounts import can_pause
from tests.processes import ended, is_alive

IMAGE = "starter:latest"
COUNTS = "n=0; trap 'exit 3' TERM; while :; do n=$((n+1)); echo $n; sleep 0.02; done"


@pytest.fixture
def config(store_paths, starter_image):
    return EngineConfig(root=store_paths.root, run=store_paths.root / "run")


@contextlib.asynccontextmanager
async def opened(config):
    """An engine whose containers are gone in the end, whatever the test did."""
    async with Engine.open(config) as engine:
        try:
            yield engine
        finally:
            for summary in await engine.list_containers():
                with contextlib.suppress(ContainerNotFoundError):
                    await engine.remove_container(summary.container_id, is_forced=True)


async def start(engine, name="web", command=("sh", "-c", COUNTS), **fields):
    created = await engine.create_container(
        ContainerRequest(image=IMAGE, name=name, command=command, **fields)
    )
    await engine.start_container(name)
    return created.container_id


async def summary_of(engine, reference="web"):
    return (await engine.inspect_container(reference)).summary


async def read_numbers(engine, **options):
    lines = [line async for batch in engine.follow_logs("web", **options) for line in batch]
    return [int(line.text) for line in lines]


async def counting(engine):
    """Wait until it counts: before that it does not heed the signal."""
    async with asyncio.timeout(10):
        while not await read_numbers(engine):
            continue


async def event_of(subscription, action, container_id):
    async for event in subscription:
        if getattr(event, "action", "") == action and event.subject_id == container_id:
            return event
    raise AssertionError("the engine was closed")


async def test_a_container_runs_on_when_the_engine_is_closed(config):
    async with opened(config):
        async with Engine.open(config) as first:
            await start(first)
        async with Engine.open(config) as second:
            assert (await summary_of(second)).status is ContainerStatus.RUNNING
            await counting(second)
            assert (await second.stop_container("web")).exit_code == 3
            numbers = await read_numbers(second)
            assert numbers == list(range(1, len(numbers) + 1))


async def test_a_killed_monitor_takes_its_container_along_and_only_that(config):
    async with opened(config) as engine, Engine.open(config) as other:
        lost = await start(engine)
        lives = await start(engine, name="lives")
        state = read_container_state(config, lost)
        with other.subscribe() as events:
            os.kill(state.monitor_process_id, signal.SIGKILL)
            died = await event_of(events, "die", lost)
        assert died.attribute("exitCode") == "137"
        summary = await summary_of(other)
        assert (summary.status, summary.exit_code, summary.error) == (
            ContainerStatus.EXITED,
            137,
            "monitor was killed",
        )
        assert not is_alive(state.process_id)
        assert not any(os.path.exists(path) for path in state.cgroup_paths)
        assert (await summary_of(engine, lives)).status is ContainerStatus.RUNNING
        await engine.start_container("web")
        assert (await summary_of(engine)).status is ContainerStatus.RUNNING


async def test_a_monitor_that_died_while_nobody_looked_is_found_at_the_next_start(config):
    async with Engine.open(config) as engine:
        lost = await start(engine)
        state = read_container_state(config, lost)
    os.kill(state.monitor_process_id, signal.SIGKILL)
    await ended(state.process_id)
    async with opened(config) as engine:
        assert (await summary_of(engine)).error == "monitor was killed"


async def test_a_killed_launcher_is_started_again_and_containers_live(config):
    async with opened(config) as engine:
        await start(engine)
        launcher = engine._supervisor.launcher_process_id
        os.kill(launcher, signal.SIGKILL)
        await start(engine, name="second")
        assert engine._supervisor.launcher_process_id != launcher
        for name in ("web", "second"):
            assert (await summary_of(engine, name)).status is ContainerStatus.RUNNING


async def test_what_a_killed_launcher_had_not_taken_yet_is_asked_again(config, monkeypatch):
    async with opened(config) as engine:
        supervisor = engine._supervisor
        await supervisor.ensure_launcher()
        os.kill(supervisor.launcher_process_id, signal.SIGSTOP)
        asked, ask = asyncio.Event(), supervisor._request

        async def tell(*arguments):
            answer = await ask(*arguments)
            asked.set()
            return answer

        monkeypatch.setattr(supervisor, "_request", tell)
        starting = asyncio.create_task(start(engine))
        await asked.wait()
        os.kill(supervisor.launcher_process_id, signal.SIGKILL)
        await starting
        assert (await summary_of(engine)).status is ContainerStatus.RUNNING


_APPLICATION = """
import asyncio, os, signal, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.types import ContainerRequest

async def main():
    root = Path(sys.argv[1])
    async with Engine.open(EngineConfig(root=root, run=root / "run")) as engine:
        await engine.create_container(
            ContainerRequest(image="starter:latest", name="web", command=("sh", "-c", sys.argv[2]))
        )
        await engine.start_container("web")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_killing_the_application_loses_nothing(config):
    async with opened(config) as engine:
        ended = await asyncio.to_thread(
            subprocess.run,
            (sys.executable, "-c", _APPLICATION, str(config.root), COUNTS),
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL
        assert (await summary_of(engine)).status is ContainerStatus.RUNNING
        await counting(engine)
        assert (await engine.stop_container("web")).exit_code == 3
        numbers = await read_numbers(engine)
        assert numbers == list(range(1, len(numbers) + 1))


async def test_two_engines_see_each_other_s_changes(config):
    async with opened(config) as one, Engine.open(config) as two:
        with two.subscribe() as events:
            container_id = await start(one)
            await event_of(events, "start", container_id)
            if can_pause(one):
                await one.pause_container("web")
                await event_of(events, "pause", container_id)
                assert (await summary_of(two)).status is ContainerStatus.PAUSED
                await two.unpause_container("web")
            await two.stop_container("web")
            await one.remove_container("web")
            await event_of(events, "destroy", container_id)
        assert await two.list_containers() == ()


async def test_one_to_be_removed_on_exit_is_removed_by_whoever_is_there(config):
    async with opened(config), Engine.open(config) as other:
        with other.subscribe() as events:
            async with Engine.open(config) as engine:
                container_id = await start(
                    engine, command=("sh", "-c", "sleep 0.2; exit 4"), is_removed_on_exit=True
                )
            await event_of(events, "destroy", container_id)
        assert await other.list_containers() == ()
        assert not config.container_directory(container_id).exists()
        assert not config.container_run_directory(container_id).exists()


async def test_two_starts_from_two_engines_start_it_once(config):
    async with opened(config) as one, Engine.open(config) as two:
        await one.create_container(
            ContainerRequest(image=IMAGE, name="web", command=("sh", "-c", COUNTS))
        )
        results = await asyncio.gather(
            *(engine.start_container("web") for engine in (one, two)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == [
            "ContainerStateError",
            "NoneType",
        ]


async def test_following_a_log_ends_with_the_container_and_has_all_of_it(config):
    async with opened(config) as engine:
        await start(engine, command=("sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.05; done"))
        assert await read_numbers(engine, is_following=True) == [1, 2, 3]


async def test_cancelling_a_stop_leaves_a_container_that_can_be_killed(config):
    async with opened(config) as engine:
        await start(engine, command=("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"))
        with engine.subscribe() as events:
            stopping = asyncio.create_task(engine.stop_container("web", timeout_seconds=-1))
            container_id = (await summary_of(engine)).container_id
            await event_of(events, "kill", container_id)
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
        assert (await summary_of(engine)).status is ContainerStatus.RUNNING
        await engine.kill_container("web")
        assert (await summary_of(engine)).exit_code == 137


async def test_processes_are_listed_as_the_host_counts(config):
    async with opened(config) as engine:
        await start(engine)
        first = (await engine.inspect_container("web")).process_id
        processes = await engine.list_processes("web")
        assert first in {process.process_id for process in processes}
        assert any("echo $n" in process.command for process in processes)


async def test_what_the_writable_layer_holds_is_told(config):
    async with opened(config) as engine:
        await start(engine, command=("sh", "-c", "echo new > /added; exit 0"))
        await engine.wait_container("web")
        changes = {change.path: change.change for change in await engine.list_changes("web")}
        assert changes == {"added": "added"}
        tree = await engine.list_writable_files("web")
        assert [(entry.path, entry.size_bytes) for entry in tree.entries] == [("added", 4)]
        assert (await engine.measure_writable_layer("web")).entry_count == 1
