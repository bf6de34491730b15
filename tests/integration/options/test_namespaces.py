"""Namespaces shared with the host and between containers."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    InvalidInputError,
)
from engine.events import Event
from engine.types import ContainerRequest, ContainerStatus, ProcessOptions
from tests.integration.faults.conftest import groups_of
from tests.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import EngineApi

    from .conftest import Run

NAMESPACES = "for n in cgroup ipc pid uts; do readlink /proc/self/ns/$n; done"
SLEEPS = ("sh", "-c", "echo kept > /dev/shm/kept; sleep 1000 & sleep 1000 & echo ready; wait")


def host(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


async def first_line(engine: EngineApi, name: str) -> None:
    """Wait until a container has written something."""
    async for _batch in engine.follow_logs(name, is_following=True):
        return


@asynccontextmanager
async def donor(engine: EngineApi, **options: str) -> AsyncIterator[int]:
    """A container `donor` that runs; yields its process id."""
    await engine.create_container(
        ContainerRequest(
            image="starter", name="donor", command=SLEEPS, options=ProcessOptions(**options)
        )
    )
    await engine.start_container("donor")
    process_id = (await engine.inspect_container("donor")).process_id
    assert process_id
    await first_line(engine, "donor")
    yield process_id


async def test_every_namespace_is_its_own_until_asked_otherwise(run: Run) -> None:
    said = await run(NAMESPACES)
    assert not {host(kind) for kind in ("cgroup", "ipc", "pid", "uts")} & {*said.lines}


@pytest.mark.root
async def test_the_hosts_processes_are_seen_and_all_of_its_own_end_with_the_first(
    run: Run, engine: EngineApi, starter_image: object
) -> None:
    script = "readlink /proc/self/ns/pid; cat /proc/$$/comm; test -d /proc/$PPID && echo host"
    said = await run(script, pid_mode="host")
    assert said.lines[0] == host("pid")
    assert "host" in said.lines
    await engine.create_container(
        ContainerRequest(
            image="starter",
            name="two",
            command=("sh", "-c", "trap 'exit 3' TERM; sleep 1000 & echo $!; wait"),
            options=ProcessOptions(pid_mode="host"),
        )
    )
    await engine.start_container("two")
    await first_line(engine, "two")
    ids = [process.process_id for process in await engine.list_processes("two")]
    assert (await engine.stop_container("two")).exit_code == 3
    assert not any(is_alive(process_id) for process_id in ids)


@pytest.mark.root
async def test_with_the_hosts_processes_a_killed_monitor_leaves_none_of_the_containers(
    engine: EngineApi, starter_image: object
) -> None:
    created = await engine.create_container(
        ContainerRequest(
            image="starter",
            name="one",
            command=("sh", "-c", "sleep 1000 & echo ready; wait"),
            options=ProcessOptions(pid_mode="host"),
        )
    )
    await engine.start_container("one")
    await first_line(engine, "one")
    ids = [process.process_id for process in await engine.list_processes("one")]
    assert len(ids) == 2
    monitor = psutil.Process((await engine.inspect_container("one")).process_id).parent()
    assert monitor is not None
    with engine.subscribe() as events:
        monitor.kill()
        async for event in events:
            if isinstance(event, Event) and event.action == "die":
                break
    details = await engine.inspect_container("one")
    assert details.summary.status is ContainerStatus.EXITED
    assert not any(is_alive(process_id) for process_id in ids)
    assert groups_of(created.container_id) == []


async def test_the_hosts_name_can_be_shared(run: Run) -> None:
    said = await run("hostname; echo $HOSTNAME; readlink /proc/self/ns/uts", uts_mode="host")
    assert said.lines == [os.uname().nodename, os.uname().nodename, host("uts")]


async def test_the_hosts_shared_memory_can_be_shared(run: Run) -> None:
    name = f"/dev/shm/lamella-test-{os.getpid()}"
    Path(name).write_text("from the host\n")
    try:
        said = await run(f"readlink /proc/self/ns/ipc; cat {name}", ipc_mode="host")
    finally:
        os.unlink(name)
    assert said.lines == [host("ipc"), "from the host"]


async def test_without_shared_memory_there_is_none(run: Run) -> None:
    said = await run("readlink /proc/self/ns/ipc; ls -d /dev/shm", ipc_mode="none")
    assert said.lines[0] != host("ipc")
    assert "No such file or directory" in said.text


async def test_the_hosts_control_groups_can_be_seen(run: Run) -> None:
    said = await run("readlink /proc/self/ns/cgroup", cgroup_namespace_mode="host")
    assert said.lines == [host("cgroup")]
    assert (await run(NAMESPACES, cgroup_namespace_mode="private")).lines[0] != host("cgroup")


@pytest.mark.root
async def test_the_hosts_user_namespace_is_what_root_has_anyway(run: Run) -> None:
    said = await run("readlink /proc/self/ns/user", user_namespace_mode="host")
    assert said.lines == [host("user")]


async def test_shared_memory_and_queues_of_a_container_can_be_joined(
    run: Run, engine: EngineApi, starter_image: object
) -> None:
    async with donor(engine, ipc_mode="shareable") as process_id:
        expected = os.readlink(f"/proc/{process_id}/ns/ipc")
        said = await run(
            "readlink /proc/self/ns/ipc; cat /dev/shm/kept; echo two > /dev/shm/two; hostname",
            ipc_mode="container:donor",
        )
        assert said.lines[:2] == [expected, "kept"]
        assert said.status.exit_code == 0
        assert said.lines[2] != "donor"
        there = Path(f"/proc/{process_id}/root/dev/shm/two").read_text()
        assert there == "two\n"


@pytest.mark.parametrize("mode", ["", "private", "none"])
async def test_a_container_that_does_not_share_its_memory_is_not_joined(
    run: Run, engine: EngineApi, starter_image: object, mode: str
) -> None:
    await engine.create_container(
        ContainerRequest(
            image="starter",
            name="donor",
            command=("sleep", "1000"),
            options=ProcessOptions(ipc_mode=mode),
        )
    )
    await engine.start_container("donor")
    with pytest.raises(InvalidInputError, match="non-shareable IPC"):
        await run("true", ipc_mode="container:donor")


async def test_processes_of_a_container_can_be_joined_and_outlive_nobody(
    run: Run, engine: EngineApi, starter_image: object
) -> None:
    if not (engine.host.is_root or engine.host.cgroup_mode == "v2"):
        pytest.skip("without a control group nothing would end the joined processes")
    async with donor(engine) as process_id:
        expected = os.readlink(f"/proc/{process_id}/ns/pid")
        said = await run(
            "readlink /proc/self/ns/pid; cat /proc/1/comm; test $$ -gt 1 && echo later;"
            " sleep 1000 & exit 4",
            pid_mode="container:donor",
        )
        assert said.lines == [expected, "sh", "later"]
        assert said.status.exit_code == 4
        assert len(await engine.list_processes("donor")) == 3
        assert (await engine.inspect_container("donor")).summary.status is ContainerStatus.RUNNING


@pytest.mark.root
async def test_one_that_joined_ends_with_the_container_that_it_joined(
    engine: EngineApi, starter_image: object
) -> None:
    async with donor(engine):
        await engine.create_container(
            ContainerRequest(
                image="starter",
                name="two",
                command=("sleep", "1000"),
                options=ProcessOptions(pid_mode="container:donor"),
            )
        )
        await engine.start_container("two")
        await engine.kill_container("donor")
        assert (await engine.wait_container("two")).exit_code == 137
        with pytest.raises(ContainerStateError, match="is not running") as caught:
            await engine.start_container("two")
        assert "lamella start donor" in caught.value.hint
        await engine.start_container("donor")
        await engine.start_container("two")


async def test_a_container_that_is_not_there_cannot_be_joined(
    run: Run, engine: EngineApi, starter_image: object
) -> None:
    with pytest.raises(ContainerNotFoundError):
        await run("true", pid_mode="container:nosuch")
    await engine.create_container(ContainerRequest(image="starter", name="donor"))
    with pytest.raises(ContainerStateError, match="is not running"):
        await run("true", ipc_mode="container:donor")
    await engine.remove_container("donor")


async def test_a_name_that_moves_on_is_not_followed(
    run: Run, engine: EngineApi, starter_image: object
) -> None:
    async with donor(engine, ipc_mode="shareable") as process_id:
        expected = os.readlink(f"/proc/{process_id}/ns/ipc")
        await engine.create_container(
            ContainerRequest(
                image="starter",
                name="two",
                command=("readlink", "/proc/self/ns/ipc"),
                options=ProcessOptions(ipc_mode="container:donor"),
            )
        )
        await engine.rename_container("donor", "other")
        await engine.start_container("two")
        assert (await engine.wait_container("two")).exit_code == 0
        texts = [line.text async for lines in engine.follow_logs("two") for line in lines]
        assert texts == [expected.encode()]
