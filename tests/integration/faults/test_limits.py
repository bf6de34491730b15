"""Programs that want too much, and callers who ask for things at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.containers.states import read_container_state
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    EngineError,
    NameInUseError,
)
from engine.types import ContainerRequest, ContainerStatus, ResourceLimits
from tests.integration.faults.conftest import groups_of
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig

pytestmark = pytest.mark.root
GROWS = "s=0123456789abcdef; while :; do s=$s$s; done"
FORKS = "f() { f | f & f; }; f"


async def start(engine: Engine, *command: str, name: str = "web", **fields) -> str:
    created = await engine.create_container(
        ContainerRequest(image="starter", name=name, command=command, **fields)
    )
    await engine.start_container(name)
    return created.container_id


async def test_one_that_takes_too_much_memory_is_killed_and_says_so(
    engine: Engine, starter_image
) -> None:
    limits = ResourceLimits(memory_bytes=8 << 20)
    await start(engine, "sh", "-c", GROWS, limits=limits)
    status = await engine.wait_container("web")
    assert (status.exit_code, status.is_out_of_memory_killed) == (137, True)
    assert (await engine.inspect_container("web")).summary.is_out_of_memory_killed


async def test_a_fork_bomb_stays_within_its_limit_and_can_be_killed(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    limits = ResourceLimits(pids=20, memory_bytes=64 << 20)
    identity = await start(engine, "sh", "-c", f"{FORKS}; sleep 1000", limits=limits)
    with contextlib.suppress(ContainerStateError):
        assert len(await engine.list_processes("web")) <= 20
        await engine.kill_container("web")
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.EXITED
    assert groups_of(identity) == []
    assert read_container_state(config, identity).process_id == 0


async def test_a_paused_container_can_be_stopped_killed_and_removed(
    engine: Engine, starter_image
) -> None:
    script = "trap 'exit 4' TERM; echo heeds it; while :; do sleep 0.05; done"
    await start(engine, "sh", "-c", script)
    async for _lines in engine.follow_logs("web", is_following=True):
        break
    await engine.pause_container("web")
    with pytest.raises(ContainerStateError):
        await engine.pause_container("web")
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.PAUSED
    assert (await engine.stop_container("web")).exit_code == 4
    for end in (engine.kill_container("web"), engine.remove_container("web", is_forced=True)):
        await engine.start_container("web")
        await engine.pause_container("web")
        await end
    assert await engine.list_containers() == ()


async def test_of_twenty_that_want_a_name_one_gets_it(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    request = ContainerRequest(image="starter", name="web", command=("true",))
    async with Engine.open(config) as other:
        results = await asyncio.gather(
            *(side.create_container(request) for side in (engine, other) for _ in range(10)),
            return_exceptions=True,
        )
    assert sum(isinstance(result, NameInUseError) for result in results) == 19
    (kept,) = await engine.list_containers()
    for parent in (config.root, config.run):
        assert [path.name for path in (parent / "containers").iterdir()] == [kept.container_id]
    assert left_in_staging(config.root) == []


async def test_starting_and_removing_at_once_ends_in_one_of_the_two(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    async with Engine.open(config) as other:
        for _ in range(8):
            created = await engine.create_container(
                ContainerRequest(image="starter", name="web", command=("sleep", "infinity"))
            )
            results = await asyncio.gather(
                engine.start_container("web"),
                other.remove_container("web"),
                other.start_container("web"),
                engine.remove_container("web", is_forced=True),
                return_exceptions=True,
            )
            allowed = (type(None), ContainerNotFoundError, ContainerStateError)
            assert [result for result in results if not isinstance(result, allowed)] == []
            with contextlib.suppress(ContainerNotFoundError):
                await other.remove_container("web", is_forced=True)
            assert groups_of(created.container_id) == []
            assert not config.container_directory(created.container_id).exists()
            assert not config.container_run_directory(created.container_id).exists()


async def test_cancelling_at_any_moment_leaves_a_whole_state(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    for turns in range(0, 60, 3):
        identity = (
            await engine.create_container(
                ContainerRequest(image="starter", name="web", command=("sleep", "infinity"))
            )
        ).container_id
        for operation in (engine.start_container, engine.stop_container, engine.remove_container):
            with contextlib.suppress(asyncio.CancelledError, EngineError):
                work = asyncio.ensure_future(operation("web"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                work.cancel()
                await work
        with contextlib.suppress(ContainerNotFoundError):
            await engine.remove_container("web", is_forced=True)
        assert groups_of(identity) == []
        assert not config.container_directory(identity).exists()
    assert left_in_staging(config.root) == []


async def test_cancelling_a_load_at_any_moment_leaves_the_store_as_it_was(
    engine: Engine, config: EngineConfig, setuid_archive: Path
) -> None:
    for turns in (0, 1, 3, 10, 30, 100, 300, 1000):
        loading = asyncio.ensure_future(engine.load_images(setuid_archive))
        for _ in range(turns):
            await asyncio.sleep(0)
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        if not await engine.list_images():
            assert list(config.layers_directory.iterdir()) == []
        else:
            await engine.remove_image("setuid:1")
        assert list(config.layers_directory.iterdir()) == []
        # The engine's own sweep may be at work beside.
        assert left_in_staging(config.root) == []
