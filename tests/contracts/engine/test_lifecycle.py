"""What every engine does: the same cases against the real one and the one of memory."""

import asyncio
import contextlib

import pytest

from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    FeatureUnavailableError,
    ImageNotFoundError,
    InvalidInputError,
    NameInUseError,
)
from engine.types import (
    ContainerRequest,
    ContainerStatus,
    ContainerUpdate,
    ProcessOptions,
    ResourceLimits,
    RestartPolicy,
    Ulimit,
)
from tests.accounts import can_pause

# The first process of a pid namespace ignores signals that it does not handle.
WAITS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


def request(image, **fields):
    fields.setdefault("command", WAITS)
    fields.setdefault("name", "web")
    return ContainerRequest(image=image, **fields)


async def status(engine, reference="web"):
    return (await engine.inspect_container(reference)).summary.status


def skip_unless_it_can_pause(engine):
    if not can_pause(engine):
        pytest.skip("this host gives this user no control group that freezes (`lamella info`)")


@contextlib.asynccontextmanager
async def running(engine, image, **fields):
    created = await engine.create_container(request(image, **fields))
    await engine.start_container(created.container_id)
    try:
        yield created
    finally:
        with contextlib.suppress(ContainerNotFoundError):
            await engine.remove_container(created.container_id, is_forced=True)


async def test_a_new_container_is_created_and_never_ran(any_engine, image):
    created = await any_engine.create_container(request(image))
    (summary,) = await any_engine.list_containers()
    assert summary.container_id == created.container_id
    assert (summary.name, summary.image, summary.status) == (
        "web",
        image,
        ContainerStatus.CREATED,
    )
    assert summary.started_at is None
    assert summary.exit_code is None
    await any_engine.remove_container("web")
    assert await any_engine.list_containers() == ()


async def test_start_pause_unpause_stop_and_remove(any_engine, image):
    async with running(any_engine, image):
        assert await status(any_engine) is ContainerStatus.RUNNING
        if can_pause(any_engine):
            await any_engine.pause_container("web")
            assert await status(any_engine) is ContainerStatus.PAUSED
            await any_engine.unpause_container("web")
        assert await status(any_engine) is ContainerStatus.RUNNING
        ended = await any_engine.stop_container("web")
        # 137: the shell had not set its trap yet, so it was killed after the timeout.
        assert ended.exit_code in {0, 137, 143}
        summary = (await any_engine.inspect_container("web")).summary
        assert summary.status is ContainerStatus.EXITED
        assert summary.exit_code == ended.exit_code
        assert summary.finished_at is not None
        await any_engine.remove_container("web")
        with pytest.raises(ContainerNotFoundError):
            await any_engine.inspect_container("web")


@pytest.mark.parametrize("length", [64, 12, 4])
async def test_a_container_is_found_by_the_beginning_of_its_id(any_engine, image, length):
    created = await any_engine.create_container(request(image))
    found = await any_engine.inspect_container(created.container_id[:length])
    assert found.summary.name == "web"
    await any_engine.remove_container("web")


async def test_starting_what_runs_and_stopping_what_does_not_is_already_done(any_engine, image):
    async with running(any_engine, image):
        with pytest.raises(ContainerStateError) as caught:
            await any_engine.start_container("web")
        assert caught.value.is_already_done
        await any_engine.kill_container("web")
        with pytest.raises(ContainerStateError) as caught:
            await any_engine.stop_container("web")
        assert caught.value.is_already_done


async def test_pausing_is_refused_with_a_remedy_where_the_host_cannot(any_engine, image):
    (feature,) = (one for one in any_engine.host.features if one.name == "pause")
    assert feature.is_available == can_pause(any_engine)
    async with running(any_engine, image):
        if feature.is_available:
            await any_engine.pause_container("web")
            assert await status(any_engine) is ContainerStatus.PAUSED
            return
        with pytest.raises(FeatureUnavailableError, match="control group") as caught:
            await any_engine.pause_container("web")
        assert caught.value.hint == feature.remedy


async def test_what_a_paused_container_refuses(any_engine, image):
    skip_unless_it_can_pause(any_engine)
    async with running(any_engine, image):
        await any_engine.pause_container("web")
        with pytest.raises(ContainerStateError, match="cannot start a paused container"):
            await any_engine.start_container("web")
        with pytest.raises(ContainerStateError, match="is already paused"):
            await any_engine.pause_container("web")
        with pytest.raises(ContainerStateError, match="must be unpaused first"):
            await any_engine.remove_container("web")


async def test_what_a_running_container_refuses(any_engine, image):
    async with running(any_engine, image):
        with pytest.raises(ContainerStateError, match="is not paused"):
            await any_engine.unpause_container("web")
        with pytest.raises(ContainerStateError, match="stop the container before removing"):
            await any_engine.remove_container("web")


async def test_what_a_created_container_refuses(any_engine, image):
    await any_engine.create_container(request(image))
    for call in (
        any_engine.kill_container,
        any_engine.pause_container,
        any_engine.list_processes,
    ):
        with pytest.raises(ContainerStateError, match="is not running"):
            await call("web")
    await any_engine.remove_container("web")


async def test_a_killed_container_ends_with_137(any_engine, image):
    async with running(any_engine, image):
        await any_engine.kill_container("web")
        summary = (await any_engine.inspect_container("web")).summary
        assert (summary.status, summary.exit_code) == (ContainerStatus.EXITED, 137)


async def test_a_paused_container_can_be_killed(any_engine, image):
    skip_unless_it_can_pause(any_engine)
    async with running(any_engine, image):
        await any_engine.pause_container("web")
        await any_engine.kill_container("web")
        assert await status(any_engine) is ContainerStatus.EXITED


async def test_restarting_runs_it_again(any_engine, image):
    async with running(any_engine, image):
        before = (await any_engine.inspect_container("web")).summary.started_at
        await any_engine.restart_container("web")
        after = (await any_engine.inspect_container("web")).summary
        assert after.status is ContainerStatus.RUNNING
        assert after.started_at > before


async def test_waiting_returns_when_it_ends(any_engine, image):
    async with running(any_engine, image):
        waiting = asyncio.create_task(any_engine.wait_container("web"))
        await asyncio.sleep(0)
        await any_engine.kill_container("web")
        assert (await waiting).exit_code == 137


async def test_one_to_be_removed_on_exit_is_gone_when_waiting_returns(any_engine, image):
    async with running(any_engine, image, is_removed_on_exit=True):
        waiting = asyncio.create_task(any_engine.wait_container("web"))
        await asyncio.sleep(0)
        await any_engine.kill_container("web")
        await waiting
        assert await any_engine.list_containers() == ()


async def test_a_name_belongs_to_one_container(any_engine, image):
    await any_engine.create_container(request(image))
    with pytest.raises(NameInUseError):
        await any_engine.create_container(request(image))
    other = await any_engine.create_container(request(image, name=None))
    assert other.name
    with pytest.raises(NameInUseError):
        await any_engine.rename_container(other.name, "web")
    await any_engine.rename_container("web", "site")
    assert {summary.name for summary in await any_engine.list_containers()} == {
        "site",
        other.name,
    }
    for name in ("site", other.name):
        await any_engine.remove_container(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "-"},
        {"environment": ("NAME",)},
        {"working_directory": "relative"},
        {"limits": ResourceLimits(memory_bytes=1)},
        {"limits": ResourceLimits(cpuset_cpus="none")},
        {"options": ProcessOptions(cap_add=("BOGUS",))},
        {"options": ProcessOptions(uts_mode="host"), "hostname": "box"},
        {"stop_signal": "SIGNOTHING"},
    ],
)
async def test_a_request_that_cannot_work_changes_nothing(any_engine, image, fields):
    with pytest.raises(InvalidInputError):
        await any_engine.create_container(request(image, **fields))
    assert await any_engine.list_containers() == ()


async def test_options_of_the_process_are_shown_as_they_were_asked_for(any_engine, image):
    options = ProcessOptions(
        cap_drop=("ALL",),
        ulimits=(Ulimit(name="core", soft=0, hard=0),),
        has_no_new_privileges=True,
        shared_memory_bytes=1 << 20,
    )
    await any_engine.create_container(request(image, name="site", options=options))
    assert (await any_engine.inspect_container("site")).options == options
    await any_engine.remove_container("site")


async def test_what_is_not_there_is_said_by_its_name(any_engine):
    with pytest.raises(ImageNotFoundError, match="nothing-here"):
        await any_engine.create_container(ContainerRequest(image="nothing-here"))
    for call in (
        any_engine.start_container,
        any_engine.stop_container,
        any_engine.remove_container,
        any_engine.wait_container,
        any_engine.inspect_container,
    ):
        with pytest.raises(ContainerNotFoundError, match="nothing-here"):
            await call("nothing-here")


async def test_subscribers_hear_of_every_step_in_order(any_engine, image):
    with any_engine.subscribe() as events:
        async with running(any_engine, image):
            if can_pause(any_engine):
                await any_engine.pause_container("web")
                await any_engine.unpause_container("web")
            await any_engine.kill_container("web")
            await any_engine.remove_container("web")
        heard = []
        async for event in events:
            if event.subject == "container":
                heard.append(event.action)
            if event.action == "destroy":
                break
    freezing = ["pause", "unpause"] if can_pause(any_engine) else []
    assert heard == ["create", "start", *freezing, "kill", "die", "destroy"]


async def test_a_sample_is_taken_only_of_what_runs(any_engine, image):
    async with running(any_engine, image) as created:
        (sample,) = await any_engine.sample_stats((created.container_id, "f" * 64))
        assert sample is not None
        assert sample.container_id == created.container_id
        await any_engine.kill_container("web")
        assert await any_engine.sample_stats((created.container_id,)) == ()


async def test_limits_and_policy_of_one_that_does_not_run_can_be_changed(any_engine, image):
    await any_engine.create_container(request(image))
    update = ContainerUpdate(
        limits=ResourceLimits(pids=17), restart_policy=RestartPolicy(name="unless-stopped")
    )
    await any_engine.update_container("web", update)
    details = await any_engine.inspect_container("web")
    assert (details.limits.pids, details.restart_policy.name) == (17, "unless-stopped")
    with pytest.raises(InvalidInputError, match="you must provide one or more flags"):
        await any_engine.update_container("web", ContainerUpdate())
    with pytest.raises(InvalidInputError, match="unknown policy 'sometimes'"):
        await any_engine.update_container(
            "web", ContainerUpdate(restart_policy=RestartPolicy(name="sometimes"))
        )
    with pytest.raises(ContainerNotFoundError):
        await any_engine.update_container("nobody", update)


async def test_a_container_that_is_removed_when_it_ends_has_no_restart_policy(any_engine, image):
    with pytest.raises(InvalidInputError, match="cannot specify both --restart and --rm"):
        await any_engine.create_container(
            request(image, is_removed_on_exit=True, restart_policy=RestartPolicy(name="always"))
        )
