"""Containers that are started again when they have ended, with no application open."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from engine.errors import ContainerStateError
from engine.runtime.restart import BackOff
from engine.types import ContainerStatus, ExecRequest, RestartPolicy
from tests.integration.faults.conftest import children_named, groups_of

if TYPE_CHECKING:
    from engine.api import Engine
    from tests.integration.lifecycle.conftest import Store

ALWAYS = RestartPolicy(name="always")
UNLESS_STOPPED = RestartPolicy(name="unless-stopped")
WAITS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
FAILS = ("sh", "-c", "echo begun; exit 3")


def on_failure(retries: int = 0) -> RestartPolicy:
    return RestartPolicy(name="on-failure", maximum_retry_count=retries)


async def test_one_that_fails_is_tried_as_often_as_its_policy_says_and_no_sooner(
    store: Store,
) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *FAILS, restart_policy=on_failure(3))
    await store.until_monitor_has_ended(identity)
    assert store.actions(identity, "start", "die") == ["start", "die"] * 4
    times = [event.time_ns for event in store.events(identity, "start", "die")]
    back_off = BackOff()
    for died, started in zip(times[1:-1:2], times[2::2], strict=True):
        back_off = back_off.after_run(0)
        assert started - died >= back_off.delay_seconds * 1e9
    async with store.engine() as engine:
        details = await engine.inspect_container("web")
        lines = [line.text async for batch in engine.follow_logs("web") for line in batch]
    summary = details.summary
    assert (summary.status, summary.exit_code, summary.restart_count) == (
        ContainerStatus.EXITED,
        3,
        3,
    )
    assert lines == [b"begun"] * 4
    assert groups_of(identity) == []


async def test_one_that_ends_well_is_started_again_only_always(store: Store) -> None:
    async with store.engine() as engine:
        good = await store.start(engine, "true", restart_policy=on_failure())
        again = await store.start(engine, "true", name="again", restart_policy=ALWAYS)
    await store.until_monitor_has_ended(good)
    await store.until_told(again, "start", 3)
    assert store.actions(good, "start") == ["start"]
    assert store.events(again, "die")[0].attributes["exitCode"] == "0"


async def until_it_waits(store: Store, identity: str) -> None:
    """Wait for the sixth end: the restart after it is more than three seconds away."""
    await store.until_told(identity, "die", 6)
    assert store.state(identity).status == "restarting"


async def test_what_can_be_done_while_it_waits_for_its_restart(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *FAILS, restart_policy=ALWAYS)
        await until_it_waits(store, identity)
        summary = (await engine.inspect_container("web")).summary
        assert (summary.status, summary.exit_code, summary.restart_count) == (
            ContainerStatus.RESTARTING,
            3,
            6,
        )
        assert (await engine.inspect_container("web")).next_start_at is not None
        waits = f"Container {identity} is restarting, wait until the container is running"
        with pytest.raises(ContainerStateError, match=waits):
            await engine.pause_container("web")
        with pytest.raises(ContainerStateError, match=waits):
            async with engine.exec_container("web", ExecRequest(command=("true",))):
                pass
        with pytest.raises(ContainerStateError, match="restarting: stop the container before"):
            await engine.remove_container("web")
        with pytest.raises(ContainerStateError) as running:
            await engine.start_container("web")
        assert running.value.is_already_done
        await engine.rename_container("web", "site")
        assert (await engine.stop_container("site")).exit_code == 3
        assert store.actions(identity)[-2:] == ["rename", "stop"]
        assert store.actions(identity, "die") == ["die"] * 6
        assert (await engine.inspect_container("site")).summary.status is ContainerStatus.EXITED
        assert (await engine.inspect_container("site")).next_start_at is None


async def test_a_kill_calls_its_restart_off(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *FAILS, restart_policy=ALWAYS)
        await until_it_waits(store, identity)
        await engine.kill_container("web", signal="SIGHUP")
        assert store.state(identity).status == "restarting"
        await engine.kill_container("web")
        assert store.state(identity).status == "exited"


async def test_it_can_be_removed_by_force_and_started_anew(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *FAILS, restart_policy=ALWAYS)
        await until_it_waits(store, identity)
        await engine.restart_container("web")
        assert store.state(identity).restart_count < 6
        await engine.remove_container("web", is_forced=True)
        assert await engine.list_containers() == ()


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS_STOPPED, on_failure()], ids=str)
async def test_one_that_a_person_stops_stays_stopped(store: Store, policy: RestartPolicy) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, "sleep", "1000", restart_policy=policy)
        await engine.stop_container("web", timeout_seconds=0)
        state = store.state(identity)
        assert (state.status, state.is_stopped_by_person) == ("exited", True)
        await engine.start_container("web")
        assert not store.state(identity).is_stopped_by_person
        await engine.kill_container("web")
        assert store.state(identity).status == "exited"
    async with store.engine():
        assert store.state(identity).status == "exited"


async def test_waiting_ends_with_a_run_and_following_the_log_with_the_last(store: Store) -> None:
    async with store.engine() as engine:
        await store.start(engine, "sh", "-c", "sleep 0.3; echo end; exit 3",
                          restart_policy=on_failure(2))  # fmt: skip
        assert (await engine.wait_container("web")).exit_code == 3
        lines = [
            line.text
            async for batch in engine.follow_logs("web", is_following=True)
            for line in batch
        ]
        assert lines == [b"end"] * 3
        assert (await engine.inspect_container("web")).summary.restart_count == 2


async def test_one_that_cannot_be_started_again_says_why(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(
            engine, "sh", "-c", 'rm -f "$(command -v sh)"; exit 1', restart_policy=ALWAYS
        )
    await store.until_monitor_has_ended(identity)
    state = store.state(identity)
    assert (state.exit_code, state.status) == (127, "exited")
    assert 'exec: "sh"' in store.state(identity).error
    assert groups_of(identity) == []
    async with store.engine():
        assert store.state(identity).status == "exited"


@pytest.mark.root
async def test_a_killed_first_process_is_an_end_like_any_other(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS, restart_policy=on_failure())
    first = store.state(identity)
    await store.kill(first.process_id)
    await store.until_told(identity, "start", 2)
    second = store.state(identity)
    assert second.monitor_process_id == first.monitor_process_id
    assert second.process_id != first.process_id
    assert store.events(identity, "die")[0].attributes["exitCode"] == "137"


async def until_said(engine: Engine, line: bytes, count: int) -> None:
    """Wait until the container has written a line as often as that."""
    async for batch in engine.follow_logs("web", is_following=True):
        count -= sum(said.text == line for said in batch)
        if count <= 0:
            return


@pytest.mark.root
async def test_restarts_need_no_launcher(store: Store) -> None:
    async with store.engine() as engine:
        # Its first process ignores the signal until it has set its trap, and says when it has.
        says = ("sh", "-c", "trap 'exit 0' TERM; echo set; while :; do sleep 0.05; done")
        identity = await store.start(engine, *says, restart_policy=ALWAYS)
        await until_said(engine, b"set", 1)
        await store.kill(engine._supervisor.launcher_process_id)
        await store.kill(store.state(identity).process_id)
        await store.until_told(identity, "start", 2)
        await until_said(engine, b"set", 2)
        assert (await engine.stop_container("web")).exit_code == 0


@pytest.mark.root
async def test_a_monitor_that_is_killed_with_an_engine_open_is_taken_over_at_once(
    store: Store,
) -> None:
    async with store.engine():
        async with store.engine() as engine:
            identity = await store.start(engine, *WAITS, restart_policy=on_failure(1))
        first = store.state(identity)
        await store.kill(first.monitor_process_id)
        await store.until_told(identity, "start", 2)
        second = store.state(identity)
        assert (second.status, second.restart_count) == ("running", 1)
        assert second.monitor_process_id != first.monitor_process_id
        await store.kill(second.monitor_process_id)
        await store.until_told(identity, "die", 2)
    async with store.engine():
        assert store.state(identity).status == "exited"


@pytest.mark.root
async def test_a_monitor_that_is_killed_while_nobody_looks_is_taken_over_by_the_next_engine(
    store: Store,
) -> None:
    async with store.engine() as engine:
        runs = await store.start(engine, *WAITS, restart_policy=ALWAYS)
        waits = await store.start(engine, *FAILS, name="waits", restart_policy=ALWAYS)
        plain = await store.start(engine, *WAITS, name="plain")
    await until_it_waits(store, waits)
    for identity in (runs, waits, plain):
        await store.kill(store.state(identity).monitor_process_id)
    told = len(store.events(waits, "die"))
    async with store.engine() as engine:
        assert store.state(runs).status == "running"
        assert store.state(plain).error == "monitor was killed"
        # It had ended before its monitor was killed, and that had been told.
        assert len(store.events(waits, "start")) == told + 1
        await engine.kill_container("web")


async def starter_of(store: Store, identity: str) -> int:
    """The process that starts the container again, as soon as there is one."""
    # Nothing tells of it, and it must be caught while it lives.
    while True:
        monitor = store.state(identity).monitor_process_id
        with contextlib.suppress(FileNotFoundError):
            for starter in children_named(monitor, "lamella-starter"):
                return starter
        await asyncio.sleep(0)


@pytest.mark.root
@pytest.mark.timeout(300)  # a kill that comes too late doubles the next delay
async def test_a_starter_that_is_killed_at_any_moment_of_a_restart_leaves_nothing(
    store: Store,
) -> None:
    drawn = random.Random(12)
    async with store.engine() as engine:
        identity = await store.start(engine, "true", restart_policy=ALWAYS)
        for _ in range(8):
            starter = await starter_of(store, identity)
            for _ in range(drawn.randrange(60)):
                await asyncio.sleep(0)
            with contextlib.suppress(ProcessLookupError):  # it was through
                await store.kill(starter)
            starts = len(store.events(identity, "start"))
            await store.until_told(identity, "start", starts + 1)
        assert (await engine.stop_container("web")) is not None
        assert groups_of(identity) == []
        assert store.state(identity).status == "exited"
        await engine.start_container("web")


@pytest.mark.root
@pytest.mark.timeout(300)  # a kill that comes too late doubles the next delay
async def test_monitors_that_are_killed_at_any_moment_of_a_restart_leave_nothing(
    store: Store,
) -> None:
    drawn = random.Random(11)
    async with store.engine() as engine:
        identity = await store.start(engine, "true", restart_policy=ALWAYS)
        for _ in range(12):
            await store.until_told(identity, "die", len(store.events(identity, "die")) + 1)
            # From the end of one run to somewhere in the next.
            for _ in range(drawn.randrange(4000)):
                await asyncio.sleep(0)
            monitor = store.state(identity).monitor_process_id
            if monitor:
                await store.kill(monitor)
            starts = len(store.events(identity, "start"))
            await store.until_told(identity, "start", starts + 1)
        assert (await engine.stop_container("web")) is not None
        assert groups_of(identity) == []
        assert store.state(identity).status == "exited"
        await engine.start_container("web")


async def test_a_reboot_starts_what_its_policy_wants(store: Store) -> None:
    identities = {}
    async with store.engine() as engine:
        for policy in (RestartPolicy(), ALWAYS, UNLESS_STOPPED, on_failure()):
            identities[policy.name] = await store.start(
                engine, *WAITS, name=f"c-{policy.name}", restart_policy=policy
            )
            await engine.stop_container(f"c-{policy.name}")
    for identity in identities.values():
        store.restart_host(identity)
    async with store.engine() as engine:
        running = {
            name for name, identity in identities.items()
            if store.state(identity).status == "running"
        }  # fmt: skip
        assert running == {"always"}
        await engine.stop_container("c-always")
    # The same boot: nothing is started that a person has stopped.
    async with store.engine():
        assert store.state(identities["always"]).status == "exited"


@pytest.mark.root
async def test_what_ran_when_the_host_went_down_runs_again(store: Store) -> None:
    async with store.engine() as engine:
        identity = await store.start(engine, *WAITS, restart_policy=UNLESS_STOPPED)
    await store.kill(store.state(identity).monitor_process_id)
    store.restart_host(identity)
    async with store.engine(), store.engine():
        assert store.state(identity).status == "running"
        assert store.actions(identity, "start") == ["start", "start"]
    died = store.events(identity, "die")
    assert [event.attributes["exitCode"] for event in died] == ["137"]
