"""Health checks: run by the monitor, with no application open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerStatus, ExecRequest, HealthCheck
from tests.accounts import can_pause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.lifecycle.conftest import Store

SOON = 0.05
PROBE = "exec_start: /bin/sh -c true"
WAITS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


def check(line: str, **fields: object) -> HealthCheck:
    fields.setdefault("interval_seconds", SOON)
    return HealthCheck(command=("CMD-SHELL", line), **fields)


def changes(store: Store, identity: str) -> list[str]:
    told = (event.action for event in store.events(identity))
    return [action.partition(": ")[2] for action in told if action.startswith("health_status: ")]


async def until_health(store: Store, identity: str, *expected: str) -> None:
    await store.until(lambda: changes(store, identity) == list(expected))


async def test_health_turns_with_no_application_open_and_only_changes_are_told(
    store: Store,
) -> None:
    flips = "test -e /tmp/ok && echo fine || { echo 'not yet'; exit 2; }"
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS, health=check(flips, retries=2))
        seldom = check("true", interval_seconds=1000)
        await store.start(engine, *WAITS, name="seldom", health=seldom)
        assert (await engine.inspect_container("seldom")).summary.health == "starting"
    await until_health(store, identity, "unhealthy")
    async with store.engine() as engine:
        await engine.exec_detached("web", ExecRequest(command=("touch", "/tmp/ok")))
    await until_health(store, identity, "unhealthy", "healthy")
    async with store.engine() as engine:
        await engine.exec_detached("web", ExecRequest(command=("rm", "/tmp/ok")))
    await until_health(store, identity, "unhealthy", "healthy", "unhealthy")
    async with store.engine() as engine:
        details = await engine.inspect_container("web")
        assert details.summary.health == "unhealthy"
        assert details.health is not None
        assert details.health.failing_streak >= 2
        assert len(details.health.probes) <= 5
        newest = details.health.probes[-1]
        assert (newest.exit_code, newest.output) == (2, "not yet\n")
        await engine.stop_container("web")
        assert (await engine.inspect_container("web")).summary.health == "unhealthy"


async def test_a_probe_runs_as_the_containers_program_does(store: Store) -> None:
    line = 'echo "$(id -u) $PWD $NAME"'
    async with store.engine() as engine:
        identity = await store.start(
            engine, *WAITS, health=check(line), user="1000", working_directory="/tmp",
            environment=("NAME=value",),
        )  # fmt: skip
        await until_health(store, identity, "healthy")
        (probe, *_) = (await engine.inspect_container("web")).health.probes
        assert probe.output == "1000 /tmp value\n"
        assert probe.finished_at >= probe.started_at


async def test_a_probe_that_takes_too_long_is_killed_and_has_failed(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(
            engine,
            *WAITS,
            health=check("echo slow; exec sleep 1000", timeout_seconds=2, retries=1),
        )
        await until_health(store, identity, "unhealthy")
        (probe, *_) = (await engine.inspect_container("web")).health.probes
        assert probe.exit_code == -1
        assert probe.output == "Health check exceeded timeout (2s): slow\n"
        state = store.state(identity)
        # One may have begun since: no more than that is there.
        commands = [process.command for process in await engine.list_processes("web")]
        assert sum("sleep 1000" in command for command in commands) <= 1
        assert state.health.results[0].exit_code == -1


@pytest.mark.parametrize(
    ("line", "exit_code", "beginning"),
    [
        (("CMD", "/nowhere"), -1, 'exec: "/nowhere"'),
        (("CMD", "sh", "-c", "exit 42"), 42, ""),
        (("CMD-SHELL", "head -c 9000 /dev/zero | tr '\\0' x; exit 1"), 1, "xxxx"),
    ],
)
async def test_a_probe_that_fails_says_how(
    store: Store, line: tuple[str, ...], exit_code: int, beginning: str
) -> None:
    health = HealthCheck(command=line, interval_seconds=SOON, retries=1)
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS, health=health)
        await until_health(store, identity, "unhealthy")
        (probe, *_) = (await engine.inspect_container("web")).health.probes
        assert probe.exit_code == exit_code
        assert probe.output.startswith(beginning)
        assert len(probe.output) <= 4096 + len("...")


async def test_nothing_is_probed_while_a_container_is_paused(store: Store) -> None:
    async with store.engine() as engine:
        if not can_pause(engine):
            pytest.skip("this host gives this user no control group that freezes")
        identity = await store.start(engine, *WAITS, health=check("true"))
        other = await store.start(engine, *WAITS, name="clock", health=check("true"))
        await until_health(store, identity, "healthy")
        await engine.pause_container("web")
        paused = store.events(identity, "pause")[0].time_ns
        # As long as five probes of a container that is not paused.
        started = len(store.actions(other, PROBE))
        await store.until(lambda: len(store.actions(other, PROBE)) >= started + 5)
        newest = store.state(identity).health.results[-1]
        assert newest.started_at_ns < paused
        assert (await engine.inspect_container("web")).summary.health == "healthy"
        await engine.unpause_container("web")
        thawed = store.events(identity, "unpause")[0].time_ns
        count = len(store.actions(identity, PROBE))
        await store.until(lambda: len(store.actions(identity, PROBE)) >= count + 2)
        assert store.state(identity).health.results[-1].started_at_ns > thawed


async def test_a_restart_asks_anew(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS, health=check("true"))
        await until_health(store, identity, "healthy")
        await engine.restart_container("web")
        await until_health(store, identity, "healthy", "healthy")
        assert (await engine.inspect_container("web")).summary.status is ContainerStatus.RUNNING


async def test_the_image_says_how_health_is_asked_for_unless_the_request_does(
    store: Store, make_image: Callable[..., Path]
) -> None:
    archive = make_image(
        {
            "Cmd": ["/bin/sleep", "1000"],
            "Healthcheck": {
                "Test": ["CMD", "/bin/test", "-e", "/ok"],
                "Interval": 40_000_000,
                "StartPeriod": 50_000_000,
                "StartInterval": 30_000_000,
                "Retries": 1,
            },
        }
    )
    async with store.engine() as engine:
        await engine.load_images(archive)
        image = await store.start(engine, image="checked:1")
        request = await store.start(
            engine, image="checked:1", name="other", health=HealthCheck(command=("CMD-SHELL", ":"))
        )
        none = await store.start(
            engine, image="checked:1", name="none", health=HealthCheck(command=("NONE",))
        )
        await until_health(store, image, "unhealthy")
        await until_health(store, request, "healthy")
        details = await engine.inspect_container("web")
        assert details.health_check == HealthCheck(
            command=("CMD", "/bin/test", "-e", "/ok"),
            interval_seconds=0.04,
            timeout_seconds=30.0,
            start_period_seconds=0.05,
            start_interval_seconds=0.03,
            retries=1,
        )
        assert (await engine.inspect_container("none")).health_check is None
        assert changes(store, none) == []
        for name in ("web", "other", "none"):
            await engine.kill_container(name)
