"""`--init`: process 1 reaps, passes signals on, and ends as the program does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from engine.errors import StartError
from engine.types import ExecRequest, OutputStream, ResourceLimits

if TYPE_CHECKING:
    from engine.api import Engine
    from tests.integration.lifecycle.conftest import Store

KILL_ORPHAN = (
    "for one in /proc/[0-9]*; do"
    " [ \"$(tr '\\0' ' ' <$one/cmdline)\" = 'sleep 1000 ' ] && kill -9 ${one#/proc/}; done"
)


async def log_of(engine: Engine) -> list[str]:
    return [line.text.decode() async for batch in engine.follow_logs("web") for line in batch]


async def test_process_1_is_the_init_and_its_child_the_program(store: Store) -> None:
    script = "cat /proc/1/comm; echo $(tr '\\0' ' ' </proc/1/cmdline); echo $$ $PPID; id -u"
    async with store.engine() as engine:
        await store.start(engine, "sh", "-c", script, has_init=True, user="1000")
        await engine.wait_container("web")
        assert await log_of(engine) == ["lamella-init", "lamella-init 2", "2 1", "1000"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -11 $$", 139)],
)
async def test_the_container_ends_as_its_program_does(
    store: Store, script: str, expected: int
) -> None:
    async with store.engine() as engine:
        await store.start(engine, "sh", "-c", script, has_init=True)
        assert (await engine.wait_container("web")).exit_code == expected


async def test_a_program_without_handlers_stops_at_once(store: Store) -> None:
    # As process 1 it would not even notice.
    async with store.engine() as engine:
        identity = await store.start(engine, "sleep", "1000", has_init=True)
        assert (await engine.stop_container("web", timeout_seconds=-1)).exit_code == 143
        assert store.actions(identity) == ["create", "start", "kill", "die", "stop"]


async def test_signals_reach_the_program(store: Store) -> None:
    traps = "trap 'echo hup' HUP; trap 'echo usr1; exit 5' USR1"
    script = f"{traps}; echo ready; while :; do sleep 0.02; done"
    async with store.engine() as engine:
        await store.start(engine, "sh", "-c", script, has_init=True)
        following = engine.follow_logs("web", is_following=True)
        lines: list[str] = []
        async for batch in following:
            lines += [line.text.decode() for line in batch]
            if lines[-1] == "ready":
                await engine.kill_container("web", signal="SIGHUP")
            if lines[-1] == "hup":
                await engine.kill_container("web", signal="SIGUSR1")
        assert lines == ["ready", "hup", "usr1"]
        assert (await engine.wait_container("web")).exit_code == 5


async def test_orphans_are_reaped(store: Store) -> None:
    # The program itself reaps nobody.
    script = "sh -c 'sleep 1000 & exit'; exec sleep 2000"
    async with store.engine() as engine:
        identity = await store.start(engine, "sh", "-c", script, has_init=True)
        first = store.state(identity).process_id
        orphan = None
        while orphan is None:
            processes = await engine.list_processes("web")
            orphan = next((one for one in processes if one.command == "sleep 1000"), None)
            orphan = orphan if orphan and orphan.parent_process_id == first else None
        pidfd = os.pidfd_open(orphan.process_id)
        await engine.exec_detached("web", ExecRequest(command=("sh", "-c", KILL_ORPHAN)))
        with contextlib.suppress(ProcessLookupError):
            # A zombie can be signalled still; one that was reaped is nobody.
            while True:
                signal.pidfd_send_signal(pidfd, 0)
                await asyncio.sleep(0)
        os.close(pidfd)


@pytest.mark.parametrize(
    ("command", "exit_code"), [(("/nowhere",), 127), (("/tmp",), 126), (("/etc/passwd",), 126)]
)
async def test_a_program_that_cannot_be_executed_is_told_as_without_an_init(
    store: Store, command: tuple[str, ...], exit_code: int
) -> None:
    async with store.engine() as engine:
        with pytest.raises(StartError) as failure:
            await store.start(engine, *command, has_init=True)
        assert failure.value.exit_code == exit_code
        with pytest.raises(StartError) as plain:
            await store.start(engine, *command, name="plain")
        assert failure.value.message == plain.value.message


async def test_a_limit_of_one_process_has_no_room_for_it(store: Store) -> None:
    async with store.engine() as engine:
        if "pids" in engine._services.cgroups.missing_limits:
            pytest.skip("this host limits no processes")
        with pytest.raises(StartError, match="cannot make a process for the program"):
            await store.start(engine, "true", has_init=True, limits=ResourceLimits(pids=1))


async def test_the_program_has_the_terminal(store: Store) -> None:
    script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.02; done"
    async with store.engine() as engine:
        await store.start(
            engine, "sh", "-c", script, has_init=True, has_terminal=True, is_stdin_open=True
        )
        output = b""
        async with engine.attach_container("web") as session:
            while (part := await session.read()) is not None:
                assert part.stream is OutputStream.STDOUT
                output += part.data
                if b"ready" in output and b"^C" not in output:
                    await session.write(b"\x03")
        assert b"interrupted" in output
        assert (await engine.wait_container("web")).exit_code == 9
