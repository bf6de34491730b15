"""A container's life through the real launcher, monitor and init."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.cgroups.groups import open_group
from engine.errors import ContainerStateError, OperationInProgressError, StartError
from engine.linux.inotify import IN_CREATE, IN_MOVED_TO, Inotify
from engine.runtime.protocol import MonitorCall
from tests.processes import ended

from .conftest import Place, altered

if TYPE_CHECKING:
    from engine.runtime.spec import ContainerSpec, StateRecord
    from engine.runtime.supervisor import Supervisor


async def run_to_its_end(supervisor: Supervisor, place: Place, spec: ContainerSpec) -> StateRecord:
    """Start a container, wait for its end by its monitor's pidfd, and read its state."""
    state = await supervisor.start(spec)
    await ended(state.monitor_process_id)
    return place.state(spec)


async def appears(path: Path) -> None:
    """Wait until a file is in a directory that exists, as inotify tells."""
    loop, told, watch = asyncio.get_running_loop(), asyncio.Event(), Inotify()
    watch.watch(path.parent, IN_CREATE | IN_MOVED_TO)
    loop.add_reader(watch.descriptor, told.set)
    try:
        while path.name not in await asyncio.to_thread(os.listdir, path.parent):
            await told.wait()
            told.clear()
            watch.read()
    finally:
        loop.remove_reader(watch.descriptor)
        watch.close()


async def stop(
    supervisor: Supervisor, spec: ContainerSpec, timeout_seconds: float = 0
) -> StateRecord:
    call = MonitorCall(call="stop", signal=signal.SIGTERM, timeout_seconds=timeout_seconds)
    return await supervisor.call(Path(spec.run_directory), spec.container_id, call)


async def test_a_program_runs_and_its_output_and_exit_code_are_kept(
    supervisor: Supervisor, place: Place
) -> None:
    spec = place.spec("one", "sh", "-c", "echo out; echo err >&2; exit 42")
    state = await run_to_its_end(supervisor, place, spec)
    assert (state.status, state.exit_code, state.error) == ("exited", 42, "")
    assert sorted(place.log(spec).split()) == ["err", "out"]


async def test_a_program_killed_by_a_signal_exits_with_128_and_its_number(
    supervisor: Supervisor, place: Place
) -> None:
    state = await run_to_its_end(
        supervisor, place, place.spec("one", "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    )
    assert state.exit_code == 137


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        ("no-such-program", 127, 'exec: "no-such-program": executable file not found in $PATH'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
    ],
)
async def test_a_command_that_cannot_be_executed_is_told_apart(
    supervisor: Supervisor, place: Place, command: str, exit_code: int, message: str
) -> None:
    spec = place.spec("one", command)
    with pytest.raises(StartError) as caught:
        await supervisor.start(spec)
    assert (caught.value.exit_code, caught.value.message) == (exit_code, message)
    state = place.state(spec)
    assert (state.status, state.exit_code) == ("created", exit_code)


async def test_stop_waits_for_the_program_and_kills_one_that_does_not_listen(
    supervisor: Supervisor, place: Place
) -> None:
    polite = place.spec(
        "polite", "sh", "-c", "trap 'exit 7' TERM; touch /up; while :; do sleep 0.1; done"
    )
    stubborn = place.spec("stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    await supervisor.start(polite)
    await supervisor.start(stubborn)
    await appears(Path(polite.rootfs.upper) / "up")
    assert (await stop(supervisor, polite, -1)).exit_code == 7
    assert (await stop(supervisor, stubborn, 0)).exit_code == 137


async def test_a_running_container_has_one_monitor(supervisor: Supervisor, place: Place) -> None:
    spec = place.spec("one", "sleep", "1000")
    await supervisor.start(spec)
    with pytest.raises(OperationInProgressError):
        await supervisor.start(spec)
    await stop(supervisor, spec)
    await supervisor.start(spec)
    await stop(supervisor, spec)


async def test_a_container_outlives_the_launcher_and_ends_with_its_monitor(
    supervisor: Supervisor, place: Place
) -> None:
    first, second = place.spec("first", "sleep", "1000"), place.spec("second", "sleep", "1000")
    state, other = await supervisor.start(first), await supervisor.start(second)
    os.kill(supervisor.launcher_process_id, signal.SIGKILL)
    os.kill(state.monitor_process_id, signal.SIGKILL)
    await ended(state.process_id)
    os.kill(other.process_id, 0)
    await supervisor.start(place.spec("third", "true"))
    assert (await stop(supervisor, second)).status == "exited"
    with pytest.raises(ContainerStateError):
        await stop(supervisor, first)
    # What a monitor would have removed itself; the engine does it when it recovers a container.
    group = open_group(state.cgroup_paths)
    group.destroy()


async def test_the_user_is_resolved_in_the_container(supervisor: Supervisor, place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs more than one mapped id")
    spec = altered(place.spec("one", "sh", "-c", "id; echo $HOME"), user="ann")
    await run_to_its_end(supervisor, place, spec)
    assert place.log(spec) == "uid=1000(ann) gid=1000(ann) groups=50(staff),1000(ann)\n/home"


async def test_a_missing_working_directory_is_made(supervisor: Supervisor, place: Place) -> None:
    spec = altered(place.spec("one", "sh", "-c", "pwd"), working_directory="/srv/app")
    await run_to_its_end(supervisor, place, spec)
    assert place.log(spec) == "/srv/app"
