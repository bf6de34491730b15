"""Operations on containers: states, events, locks and what is left when something fails."""

import asyncio
import dataclasses

import pytest

from engine.containers.creation import create_container
from engine.containers.lifecycle import (
    current_state,
    exclusively,
    kill_container,
    pause_container,
    restart_container,
    start_container,
    stop_container,
    unpause_container,
)
from engine.containers.manager import ContainerManager
from engine.containers.recovery import let_monitor_end, recover_container
from engine.containers.removal import remove_after_exit, remove_container, sweep_containers
from engine.containers.states import open_monitor_lock, write_container_state
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    EngineError,
    InvalidInputError,
    NameInUseError,
    StartError,
    StoreError,
)
from engine.events import EventBus
from engine.types import ContainerRequest, ContainerStatus, ResourceLimits


async def make(world, name="web", **request):
    created = await create_container(
        world.services, ContainerRequest(image="web", name=name, **request)
    )
    return await world.table.find(created.container_id)


async def test_a_new_container_has_its_files_and_its_event(world):
    record = await make(world)
    directory = world.config.container_directory(record.container_id)
    assert {entry.name for entry in directory.iterdir()} == {
        "hostname",
        "hosts",
        "resolv.conf",
        "rootfs",
        "state.json",
        "upper",
    }
    assert world.state(record).status == "created"
    assert world.events() == ["create"]
    assert not list(world.config.staging_directory.glob("create-*"))


async def test_a_taken_name_changes_nothing(world):
    record = await make(world)
    before = world.leftovers()
    with pytest.raises(NameInUseError):
        await make(world)
    assert world.leftovers() == before
    assert list(world.table.records) == [record.container_id]
    assert world.events() == ["create"]


async def test_a_drawn_name_that_is_taken_is_drawn_again(world, monkeypatch):
    names = iter(["able_cray", "able_cray", "bold_kay"])
    monkeypatch.setattr(
        "engine.containers.creation.draw_container_name", lambda attempt=0: next(names)
    )
    assert (await make(world, name=None)).name == "able_cray"
    assert (await make(world, name=None)).name == "bold_kay"


async def test_a_full_disk_while_creating_leaves_nothing(world, monkeypatch):
    async def fail(record, directory):
        raise StoreError("disk full")

    monkeypatch.setattr(world.services.rootfs, "prepare", fail)
    with pytest.raises(StoreError):
        await make(world)
    assert world.leftovers() == []
    assert world.events() == []


async def test_a_limit_that_the_host_lacks_is_a_warning(world):
    created = await create_container(
        world.services,
        ContainerRequest(image="web", limits=ResourceLimits(memory_bytes=64 << 20)),
    )
    assert created.warnings == ("--memory has no effect: no controller",)


async def test_start_pause_unpause_stop_give_docker_s_events(world):
    record = await make(world)
    await start_container(world.services, record)
    await pause_container(world.services, record)
    await unpause_container(world.services, record)
    status = await stop_container(world.services, record)
    assert status.exit_code == 143
    expected = ["create", "start", "pause", "unpause", "kill", "die", "stop"]
    assert world.events() == expected


async def test_starting_twice_says_that_it_is_done(world):
    record = await make(world)
    await start_container(world.services, record)
    with pytest.raises(ContainerStateError, match="already running") as caught:
        await start_container(world.services, record)
    assert caught.value.is_already_done


async def test_two_starts_at_once_start_it_once(world):
    record = await make(world)
    results = await asyncio.gather(
        start_container(world.services, record),
        start_container(world.services, record),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == [
        "ContainerStateError",
        "NoneType",
    ]
    assert world.events().count("start") == 1


async def test_a_start_that_fails_leaves_it_created_with_the_reason(world, cannot_start):
    record = await make(world)
    world.monitors.start_error = cannot_start
    with pytest.raises(StartError):
        await start_container(world.services, record)
    state = world.state(record)
    assert (state.status, state.exit_code, state.error) == ("created", 127, "exec: no such file")


async def test_a_container_to_be_removed_on_exit_goes_if_it_cannot_start(world, cannot_start):
    record = await make(world, is_removed_on_exit=True)
    world.monitors.start_error = cannot_start
    with pytest.raises(StartError):
        await ContainerManager(world.services, EventBus()).start(record.name)
    assert world.leftovers() == []
    assert world.events() == ["create", "destroy"]


async def test_restart_stops_and_starts(world):
    record = await make(world)
    await start_container(world.services, record)
    await restart_container(world.services, record)
    assert world.events() == ["create", "start", "kill", "die", "stop", "start", "restart"]
    assert world.state(record).status == "running"


async def test_a_signal_that_is_survived_leaves_it_running(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.ignores_signals = True
    await kill_container(world.services, record, signal="USR1")
    assert world.state(record).status == "running"
    with pytest.raises(InvalidInputError):
        await kill_container(world.services, record, signal="NOTHING")
    await kill_container(world.services, record)
    assert world.state(record).exit_code == 137
    with pytest.raises(ContainerStateError, match="is not running"):
        await kill_container(world.services, record)


async def test_removing_leaves_nothing(world):
    record = await make(world)
    await remove_container(world.services, record)
    assert world.leftovers() == []
    assert world.events() == ["create", "destroy"]
    with pytest.raises(ContainerNotFoundError):
        await start_container(world.services, record)
    assert world.leftovers() == []


async def test_a_running_container_is_removed_only_by_force(world):
    record = await make(world)
    await start_container(world.services, record)
    with pytest.raises(ContainerStateError, match="container is running: stop the container"):
        await remove_container(world.services, record)
    await remove_container(world.services, record, is_forced=True)
    assert world.leftovers() == []
    assert world.events() == ["create", "start", "kill", "die", "destroy"]


async def test_files_that_cannot_be_removed_make_it_dead_and_removal_can_be_tried_again(world):
    record = await make(world)
    world.removal_error = StoreError("busy")
    with pytest.raises(EngineError, match="unable to remove filesystem: busy"):
        await remove_container(world.services, record)
    state = world.state(record)
    assert (state.status, state.error) == ("dead", "unable to remove filesystem: busy")
    with pytest.raises(ContainerStateError, match="marked for removal"):
        await start_container(world.services, record)
    world.removal_error = None
    await remove_container(world.services, record)
    assert world.leftovers() == []


async def test_removing_waits_for_whoever_works_on_the_container(world):
    record = await make(world)
    async with exclusively(world.services, record):
        removal = asyncio.create_task(remove_container(world.services, record))
        await asyncio.sleep(0)
        assert not removal.done()
    await removal
    assert world.leftovers() == []


async def test_giving_up_the_wait_for_a_container_changes_nothing(world):
    record = await make(world)
    async with exclusively(world.services, record):
        removal = asyncio.create_task(remove_container(world.services, record))
        await asyncio.sleep(0)
        removal.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removal
    assert world.state(record).status == "created"
    await start_container(world.services, record)


async def test_a_name_can_be_changed_while_it_runs(world):
    record = await make(world)
    await make(world, name="other")
    manager = ContainerManager(world.services, EventBus())
    await manager.start("web")
    await manager.rename("web", "site")
    assert world.monitors.specs[record.container_id].name == "site"
    event = world.last_event()
    assert (event["action"], event["name"]) == ("rename", "site")
    assert event["attributes"]["oldName"] == "web"
    with pytest.raises(NameInUseError):
        await manager.rename("site", "other")
    with pytest.raises(InvalidInputError, match="same name as its current name"):
        await manager.rename("site", "site")
    with pytest.raises(InvalidInputError, match="may be empty"):
        await manager.rename("site", "")


async def test_a_killed_monitor_is_written_down_as_the_end(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.kill(record.container_id)
    state = await current_state(world.services, record)
    assert (state.status, state.exit_code, state.error) == ("exited", 137, "monitor was killed")
    assert world.events()[-1] == "die"
    assert world.last_event()["attributes"]["exitCode"] == "137"
    assert not await recover_container(world.services, record)


async def test_a_container_of_an_earlier_boot_ended_with_the_host(world):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.kill(record.container_id)
    state = dataclasses.replace(world.state(record), started_at_ns=1)
    write_container_state(world.config, record.container_id, state)
    assert (await current_state(world.services, record)).error == "host was restarted"


async def test_a_container_with_a_monitor_is_not_recovered(world):
    record = await make(world)
    await start_container(world.services, record)
    assert not await recover_container(world.services, record)
    assert world.state(record).status == "running"


@pytest.mark.parametrize("is_removed", [True, False])
async def test_who_writes_down_the_end_of_a_killed_monitor_is_waited_for(
    world, monkeypatch, is_removed
):
    record = await make(world)
    await start_container(world.services, record)
    world.monitors.kill(record.container_id)
    another_engine = open_monitor_lock(world.config, record.container_id)
    another_engine.acquire_now()
    is_waiting = asyncio.Event()

    async def wait(*arguments, **options):
        is_waiting.set()
        await let_monitor_end(*arguments, **options)

    monkeypatch.setattr("engine.containers.lifecycle.let_monitor_end", wait)
    if is_removed:
        work = remove_container(world.services, record, is_forced=True)
    else:
        work = stop_container(world.services, record)
    call, waiting = asyncio.ensure_future(work), asyncio.ensure_future(is_waiting.wait())
    await asyncio.wait({call, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    another_engine.release()
    if is_removed:
        await call
        assert world.leftovers() == []
    else:
        assert (await call).exit_code == 137


async def test_a_damaged_record_is_a_dead_container(world):
    record = await make(world)
    directory = world.config.container_directory(record.container_id)
    (directory / "state.json").write_text('{"status": 7}')
    state = await current_state(world.services, record)
    assert state.status == ContainerStatus.DEAD
    assert "damaged" in state.error
    await remove_container(world.services, record)
    assert world.leftovers() == []


async def test_only_who_asked_for_it_is_removed_after_the_exit(world):
    kept = await make(world, name="kept")
    dropped = await make(world, name="dropped", is_removed_on_exit=True)
    for record in (kept, dropped):
        await start_container(world.services, record)
        await remove_after_exit(world.services, record.container_id)
        world.monitors.end(record.container_id, 0)
        await remove_after_exit(world.services, record.container_id)
    assert list(world.table.records) == [kept.container_id]


async def test_the_sweep_puts_right_what_killed_processes_left(world):
    lost = await make(world, name="lost")
    lives = await make(world, name="lives")
    ended = await make(world, name="ended", is_removed_on_exit=True)
    half_removed = await make(world, name="half-removed")
    for record in (lost, lives, ended):
        await start_container(world.services, record)
    world.monitors.kill(lost.container_id)
    world.monitors.end(ended.container_id, 0)
    await world.remove_tree(world.config.container_directory(half_removed.container_id))
    unrecorded = world.config.container_directory("f" * 64)
    (unrecorded / "upper").mkdir(parents=True)
    stranger = world.config.root / "containers" / "notes"
    stranger.mkdir()

    await sweep_containers(world.services)

    assert set(world.table.records) == {lost.container_id, lives.container_id}
    assert world.state(lost).error == "monitor was killed"
    assert world.state(lives).status == "running"
    assert not unrecorded.exists()
    assert stranger.exists()


async def test_the_sweep_leaves_alone_what_somebody_works_on(world):
    record = await make(world)
    async with exclusively(world.services, record):
        del world.table.records[record.container_id]
        await sweep_containers(world.services)
    assert world.config.container_directory(record.container_id).exists()
    await sweep_containers(world.services)
    assert world.leftovers() == []


async def test_waiting_for_a_container_that_does_not_run_returns_at_once(world):
    record = await make(world)
    manager = ContainerManager(world.services, EventBus())
    assert (await manager.wait(record.name)).exit_code == 0
    await manager.start(record.name)
    world.monitors.end(record.container_id, 3)
    assert (await manager.wait(record.name)).exit_code == 3
