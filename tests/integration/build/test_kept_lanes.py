"""The lane of a build serves the next one: as if it were new, and not for long."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from engine.api.build_lanes import BuildLanes
from engine.types import BuildOutput, BuildRequest
from tests.integration.faults.conftest import children_named
from tests.leaks import groups_of
from tests.processes import ended

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildEvent
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

DEADLINE_SECONDS = 60


async def said(engine: EngineApi, *commands: str, **options: object) -> str:
    """What the steps of a build write that never comes from the cache."""
    heard: list[BuildEvent] = []
    options.setdefault("network", "none")
    await engine.build_image(
        BuildRequest(
            dockerfile_content="".join(
                ("FROM starter\n", *(f"RUN {command}\n" for command in commands))
            ).encode(),
            uses_cache=False,
            **options,  # type: ignore[arg-type]
        ),
        listener=heard.append,
    )
    return b"".join(event.data for event in heard if isinstance(event, BuildOutput)).decode()


def lanes(store: StorePaths) -> list[str]:
    return sorted(os.listdir(store.run / "containers"))


NAMESPACE = "readlink /proc/self/ns/net"
"""Which lane a step is in."""


async def test_the_next_build_has_the_lane_of_the_last_one(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    first = await said(engine, NAMESPACE)
    (lane,) = lanes(store_paths)

    assert await said(engine, NAMESPACE) == first
    assert lanes(store_paths) == [lane]
    await engine._close_builds()  # type: ignore[attr-defined]
    assert lanes(store_paths) == []
    assert [*groups_of(frozenset((lane,)))] == []


async def test_nothing_that_a_build_did_to_its_files_is_seen_by_the_next(
    engine: EngineApi,
) -> None:
    look = "cd /etc; ls -l hosts hostname resolv.conf | cut -c1-10; cat hosts hostname resolv.conf"
    before = await said(engine, look)
    await said(
        engine,
        "cd /etc; for i in hosts hostname resolv.conf; do echo changed > $i; chmod 000 $i; done; "
        "echo x > /dev/shm/x; echo y > /dev/y; (sleep 1000 &)",
    )

    assert "changed" not in before
    assert await said(engine, look, "ls /dev/shm; [ ! -e /dev/y ] && ! ps | grep sleep") == before


async def test_a_build_that_wants_another_network_has_another_lane(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    alone = await said(engine, NAMESPACE)
    (lane,) = lanes(store_paths)

    assert await said(engine, NAMESPACE, network="host") != alone
    assert lanes(store_paths) != [lane]
    assert len(lanes(store_paths)) == 1
    named = await said(engine, "cat /etc/hosts", extra_hosts=(("there", "192.0.2.7"),))
    assert "192.0.2.7\tthere" in named
    assert "there" not in await said(engine, "cat /etc/hosts")


async def test_a_lane_that_was_killed_meanwhile_is_not_used(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    first = await said(engine, NAMESPACE)
    (lane,) = lanes(store_paths)
    launcher = engine._supervisor.launcher_process_id  # type: ignore[attr-defined]
    (process_id,) = children_named(launcher, "lamella-lane")
    os.kill(process_id, signal.SIGKILL)
    await ended(process_id)

    assert await said(engine, NAMESPACE) != first
    assert lane not in lanes(store_paths)
    assert [*groups_of(frozenset((lane,)))] == []


async def test_the_lane_of_a_cancelled_build_ends_with_it(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    runs = asyncio.Event()

    def listen(event: BuildEvent) -> None:
        if isinstance(event, BuildOutput):
            runs.set()

    request = BuildRequest(dockerfile_content=b"FROM starter\nRUN echo ready; sleep 1000")
    building = asyncio.create_task(engine.build_image(request, listener=listen))
    await asyncio.wait_for(runs.wait(), DEADLINE_SECONDS)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    assert lanes(store_paths) == []


async def test_a_lane_that_no_build_comes_for_ends(
    engine: EngineApi, store_paths: StorePaths
) -> None:
    engine._lanes = BuildLanes(  # type: ignore[attr-defined]
        engine._services,  # type: ignore[attr-defined]
        engine._supervisor,  # type: ignore[attr-defined]
        engine._network_records,  # type: ignore[attr-defined]
        engine._report,  # type: ignore[attr-defined]
        idle_seconds=0,
    )
    await said(engine, "true", network="default")

    async with asyncio.timeout(DEADLINE_SECONDS):
        while lanes(store_paths):  # noqa: ASYNC110
            await asyncio.sleep(0)
