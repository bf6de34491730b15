"""A lane is there before the build that has it: no build has used it, and it does not stay long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from engine.api.build_lanes import BuildLanes
from engine.errors import EngineError, LauncherError
from engine.runtime.protocol import send_error
from engine.types import BuildOutput, BuildRequest
from tests.integration.faults.conftest import children_named
from tests.leaks import groups_of
from tests.processes import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.api import EngineApi
    from engine.types import BuildEvent
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

DEADLINE_SECONDS = 60


async def said(engine: EngineApi, *lines: str, **options: object) -> str:
    """What the steps of a build write that never comes from the cache."""
    heard: list[BuildEvent] = []
    options.setdefault("network", "none")
    await engine.build_image(
        BuildRequest(
            dockerfile_content="".join(
                ("FROM starter\n", *(f"RUN {line}\n" for line in lines))
            ).encode(),
            uses_cache=False,
            **options,  # type: ignore[arg-type]
        ),
        listener=heard.append,
    )
    return b"".join(event.data for event in heard if isinstance(event, BuildOutput)).decode()


async def until(is_so: Callable[[], bool]) -> None:
    # Nothing tells of what goes on behind a build.
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0)


class Lanes:
    """The lanes that there are of an engine."""

    def __init__(self, engine: EngineApi, store: StorePaths) -> None:
        self._engine = engine
        self._directory = store.run / "containers"

    @property
    def names(self) -> list[str]:
        return os.listdir(self._directory)

    async def spare(self) -> tuple[str, psutil.Process]:
        """Wait for the one that waits; its name and its process."""
        launcher = self._engine._supervisor.launcher_process_id  # type: ignore[attr-defined]
        await until(lambda: len(children_named(launcher, "lamella-lane")) == 1)
        lanes = self._engine._lanes  # type: ignore[attr-defined]
        await until(lambda: lanes._spare._making is None)
        (process_id,) = children_named(launcher, "lamella-lane")
        (name,) = self.names
        return name, psutil.Process(process_id)

    async def used(self, **options: object) -> set[str]:
        """The lanes that there are while the step of a build runs."""
        names: set[str] = set()

        def listen(event: BuildEvent) -> None:
            if isinstance(event, BuildOutput):
                names.update(self.names)

        request = BuildRequest(
            dockerfile_content=b"FROM starter\nRUN echo runs",
            uses_cache=False,
            **options,  # type: ignore[arg-type]
        )
        await self._engine.build_image(request, listener=listen)
        return names


@pytest.fixture
def lanes(engine: EngineApi, store_paths: StorePaths) -> Lanes:
    return Lanes(engine, store_paths)


async def test_the_next_build_has_the_lane_that_was_made_for_it(
    engine: EngineApi, lanes: Lanes
) -> None:
    used = await lanes.used()
    name, _process = await lanes.spare()

    assert name not in used
    assert await lanes.used() == {name}
    # It has gone with its build, and another one waits.
    another, _process = await lanes.spare()
    assert another != name
    await engine._close_builds()  # type: ignore[attr-defined]
    assert lanes.names == []
    assert [*groups_of(frozenset((name, another)))] == []


@pytest.mark.root
async def test_it_has_the_network_and_the_names_of_the_build_that_has_it(
    engine: EngineApi, lanes: Lanes
) -> None:
    devices = "ls /sys/class/net"
    assert await said(engine, devices) == "lo\n"
    _name, process = await lanes.spare()
    # Whoever is born in it is born in its network namespace.
    await until(lambda: process.children() != [])
    namespace = os.readlink(f"/proc/{process.pid}/ns/net")
    connected = await said(
        engine, "readlink /proc/self/ns/net", devices, "cat /etc/hosts",
        network="default", extra_hosts=(("there", "192.0.2.7"),),
    )  # fmt: skip
    await lanes.spare()

    assert connected.startswith(f"{namespace}\neth0\nlo\n")
    assert "192.0.2.7\tthere" in connected
    assert "there" not in await said(engine, "cat /etc/hosts", network="default")


async def test_a_build_that_wants_another_one_does_not_have_it(
    engine: EngineApi, lanes: Lanes
) -> None:
    await said(engine, "true")
    name, process = await lanes.spare()

    assert name not in await lanes.used(network="host")
    assert not process.is_running()
    another, _process = await lanes.spare()
    assert another != name
    sizes = await said(engine, "df -k /dev/shm", shared_memory_bytes=1 << 20)
    assert " 1024 " in sizes


async def test_one_that_was_killed_meanwhile_is_not_used(engine: EngineApi, lanes: Lanes) -> None:
    await said(engine, "true")
    name, process = await lanes.spare()
    os.kill(process.pid, signal.SIGKILL)
    await ended(process.pid)

    assert await said(engine, "echo runs") == "runs\n"
    assert name not in lanes.names
    assert [*groups_of(frozenset((name,)))] == []


async def test_one_that_could_not_go_on_is_not_used(engine: EngineApi, lanes: Lanes) -> None:
    await said(engine, "true")
    name, process = await lanes.spare()
    kept = engine._lanes._spare._idle._kept  # type: ignore[attr-defined]
    ours = kept.lane._channel
    # As one says it that cannot have its first process.
    theirs = socket.socket(fileno=os.dup(ours.fileno()))
    ours_now, far_end = socket.socketpair()
    with theirs, far_end:
        os.dup2(ours_now.fileno(), ours.fileno(), inheritable=False)
        ours_now.close()
        send_error(far_end, EngineError("no process is to be had"))
        assert kept.lane.has_ended
    assert await said(engine, "echo runs") == "runs\n"
    await ended(process.pid)
    assert name not in lanes.names


async def test_one_that_cannot_be_attached_any_more_is_replaced(
    engine: EngineApi, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await said(engine, "true")
    name, _process = await lanes.spare()
    attach = BuildLanes._attach
    tried: list[str] = []

    async def attach_or_fail(self: BuildLanes, lane: object, request: object) -> object:
        tried.append(lane.lane_id)  # type: ignore[attr-defined]
        if lane.lane_id == name:  # type: ignore[attr-defined]
            raise LauncherError("the process that ran the step was killed")
        return await attach(self, lane, request)  # type: ignore[arg-type]

    monkeypatch.setattr(BuildLanes, "_attach", attach_or_fail)
    assert await said(engine, "echo runs") == "runs\n"
    assert tried[0] == name
    assert len(tried) == 2
    assert name not in lanes.names


async def test_one_that_no_build_comes_for_ends(engine: EngineApi, lanes: Lanes) -> None:
    engine._lanes = BuildLanes(  # type: ignore[attr-defined]
        engine._services,  # type: ignore[attr-defined]
        engine._supervisor,  # type: ignore[attr-defined]
        engine._network_records,  # type: ignore[attr-defined]
        engine._report,  # type: ignore[attr-defined]
        idle_seconds=0,
    )
    launcher = engine._supervisor.launcher_process_id  # type: ignore[attr-defined]
    await said(engine, "true")
    # The build's own has gone.
    assert lanes.names == []

    await until(lambda: lanes.names != [])
    await until(lambda: lanes.names == [])
    assert children_named(launcher, "lamella-lane") == set()


@contextlib.contextmanager
def mounted(directory: Path) -> Iterator[Path]:
    """A file system that nobody who was there before it sees: its mount is told to nobody."""
    directory.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "none", directory), check=True)
    try:
        subprocess.run(("mount", "--make-private", directory), check=True)
        yield directory
    finally:
        subprocess.run(("umount", directory), check=True)


@pytest.mark.root
async def test_what_is_mounted_on_the_host_after_its_birth_is_seen_by_steps(
    engine: EngineApi, lanes: Lanes, tmp_path: Path
) -> None:
    with mounted(tmp_path / "outer") as outer:
        await said(engine, "true")
        _name, process = await lanes.spare()
        await until(lambda: process.children() != [])
        (waiting,) = process.children()
        with mounted(outer / "inner") as context:
            # Nor does it keep the host's file systems from being taken away.
            await ended(waiting.pid)
            (context / "file").write_text("mounted later\n")

            assert await said(
                engine, "--mount=type=bind,target=/context cat /context/file", context=context
            ) == "mounted later\n"  # fmt: skip
            assert not process.is_running()
        _name, process = await lanes.spare()
        await until(lambda: process.children() != [])
    await until(lambda: process.children() == [])
