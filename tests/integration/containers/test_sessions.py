"""Programs in real containers: what an exec may do, terminals, replay, and what kills leave."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from engine.containers.states import read_container_state
from engine.errors import ContainerStateError, SessionLostError, StartError
from engine.types import ContainerRequest, ContainerStatus, ExecRequest, OutputStream, TerminalSize

pytestmark = pytest.mark.usefixtures("starter_image")
SIZE = TerminalSize(columns=101, rows=31)


@contextlib.asynccontextmanager
async def running(engine, *command, **fields):
    fields.setdefault("name", "web")
    await engine.create_container(
        ContainerRequest(image="starter", command=command or ("sleep", "1000"), **fields)
    )
    await engine.start_container(fields["name"])
    yield
    await engine.remove_container(fields["name"], is_forced=True)


async def output_of(engine, *command, **fields):
    """What a program in the container `web` writes, and how it ends."""
    async with engine.exec_container("web", ExecRequest(command=command, **fields)) as session:
        found = await all_of(session)
        return found, session.exit_code


async def all_of(session):
    found = b""
    while (part := await session.read()) is not None:
        found += part.data
    return found


async def read_until(session, wanted):
    found = b""
    while wanted not in found:
        part = await session.read()
        assert part is not None, found
        found += part.data
    return found


def words_of(status: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in status.decode().splitlines())
    return {name: value.strip() for name, _, value in lines}


async def test_an_exec_has_the_containers_privileges_namespaces_and_groups(engine):
    async with running(engine):
        own, _ = await output_of(engine, "cat", "/proc/1/status")
        its, _ = await output_of(engine, "cat", "/proc/self/status")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"):
            assert words_of(its)[name] == words_of(own)[name], name
        script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/$0/ns/$n; done"
        own, _ = await output_of(engine, "sh", "-c", script, "1")
        its, _ = await output_of(engine, "sh", "-c", script, "self")
        assert its == own
        assert len(own.split()) == 6
        own, _ = await output_of(engine, "cat", "/proc/1/cgroup")
        its, _ = await output_of(engine, "cat", "/proc/self/cgroup")
        assert its == own


async def test_an_exec_has_three_descriptors_and_no_parent_in_sight(engine):
    async with running(engine):
        found, _ = await output_of(engine, "sh", "-c", "ls /proc/$$/fd; grep PPid /proc/$$/status")
        assert found.split() == [b"0", b"1", b"2", b"PPid:", b"0"]


async def test_user_directory_and_environment_are_its_own(engine):
    async with running(engine, environment=("FROM=container", "KEPT=yes")):
        found, _ = await output_of(
            engine,
            "sh",
            "-c",
            "id -u; id -g; pwd; echo $FROM $KEPT",
            user="12:34",
            working_directory="/tmp",
            environment=("FROM=exec",),
        )
        assert found.split() == [b"12", b"34", b"/tmp", b"exec", b"yes"]


async def test_a_program_that_could_not_be_started_is_nobodys_zombie(engine):
    async with running(engine):
        with pytest.raises(StartError):
            await output_of(engine, "/nowhere")
        found, _ = await output_of(engine, "sh", "-c", "cat /proc/[0-9]*/stat")
        states = [line.rpartition(b")")[2].split()[0] for line in found.splitlines()]
        assert len(states) >= 2
        assert b"Z" not in states


async def test_a_directory_that_is_not_there_is_not_made(engine):
    async with running(engine):
        with pytest.raises(StartError, match="cannot enter the working directory /nowhere"):
            await output_of(engine, "true", working_directory="/nowhere")
        found, _ = await output_of(engine, "ls", "/")
        assert b"nowhere" not in found


async def test_a_privileged_exec_has_all_capabilities_and_no_filter(engine):
    async with running(engine):
        its, _ = await output_of(engine, "cat", "/proc/self/status", is_privileged=True)
        assert words_of(its)["Seccomp"] == "0"
        plain, _ = await output_of(engine, "cat", "/proc/self/status")
        assert int(words_of(its)["CapEff"], 16) > int(words_of(plain)["CapEff"], 16)


async def test_streams_are_kept_apart_and_a_signal_is_told(engine):
    async with running(engine):
        request = ExecRequest(command=("sh", "-c", "echo out; echo err >&2; kill -9 $$"))
        async with engine.exec_container("web", request) as session:
            found = dict.fromkeys(OutputStream, b"")
            while (part := await session.read()) is not None:
                found[part.stream] += part.data
            assert found == {OutputStream.STDOUT: b"out\n", OutputStream.STDERR: b"err\n"}
            assert session.exit_code == 137


async def test_much_goes_there_and_back_through_a_slow_reader(engine):
    sent = os.urandom(1 << 20) * 4
    async with running(engine):
        request = ExecRequest(command=("cat",), is_stdin_open=True)
        async with engine.exec_container("web", request) as session:

            async def send():
                await session.write(sent)
                await session.end_input()

            sending = asyncio.create_task(send())
            assert await all_of(session) == sent
            await sending


async def test_what_an_exec_wrote_last_is_not_lost_on_one_that_reads_later(engine):
    async with running(engine):
        request = ExecRequest(command=("sh", "-c", "head -c 900000 /dev/zero; echo end"))
        async with engine.exec_container("web", request) as session:
            first = await session.read()
            ended = await engine.list_processes("web")
            assert ended
            rest = await all_of(session)
            assert len(first.data) + len(rest) == 900_004
            assert rest.endswith(b"end\n")


async def test_a_program_is_told_of_a_new_size(engine):
    async with (
        running(engine, "sh", has_terminal=True, is_stdin_open=True),
        engine.attach_container("web", size=SIZE) as session,
    ):
        await session.write(b"trap 'echo re''sized' WINCH; echo re''ady\n")
        await read_until(session, b"ready\r\n")
        await session.resize(TerminalSize(columns=60, rows=20))
        await session.write(b"\n")
        await read_until(session, b"resized\r\n")


async def test_the_console_is_the_terminal(engine):
    async with (
        running(engine, "sh", has_terminal=True, is_stdin_open=True),
        engine.attach_container("web", size=SIZE) as session,
    ):
        await session.write(b"ls -l /dev/console /proc/self/fd/0; echo hel''lo > /dev/console\n")
        found = await read_until(session, b"hello\r\n")
        assert b"/dev/pts/0" in found
        assert b"crw" in found


async def test_who_attaches_again_sees_what_was_written_before(engine):
    async with running(engine, "sh", has_terminal=True, is_stdin_open=True):
        async with engine.attach_container("web") as session:
            await session.write(b"echo one-$((1+1))\n")
            await read_until(session, b"one-2\r\n")
        async with engine.attach_container("web") as session:
            part = await session.read()
            assert part.is_replay
            found = part.data + await read_until(session, b"one-2\r\n")
            assert found.count(b"one-2") == 1


async def test_two_viewers_see_the_same(engine):
    async with (
        running(engine, "sh", has_terminal=True, is_stdin_open=True),
        engine.attach_container("web", has_replay=False) as one,
        engine.attach_container("web", has_replay=False) as two,
    ):
        await one.write(b"echo from-$((40+2))\n")
        await read_until(two, b"from-42\r\n")
        await two.write(b"echo back-$((40+3))\n")
        await read_until(one, b"back-43\r\n")


async def test_one_that_was_quicker_than_who_attaches_is_seen_all_the_same(engine):
    for _ in range(5):
        await engine.create_container(
            ContainerRequest(image="starter", name="job", command=("sh", "-c", "echo x; exit 3"))
        )
        await engine.start_container("job")
        async with engine.attach_container("job", is_from_start=True) as session:
            assert await all_of(session) == b"x\n"
            assert session.exit_code == 3
        await engine.remove_container("job", is_forced=True)


async def test_the_containers_stdin_ends_with_its_session(engine):
    fields = {"is_stdin_open": True, "is_stdin_closed_with_session": True}
    async with running(engine, "cat", **fields):
        async with engine.attach_container("web") as session:
            await session.write(b"x\n")
            await read_until(session, b"x\n")
        assert (await engine.wait_container("web")).exit_code == 0


async def test_a_session_ends_with_its_container(engine):
    async with running(engine):
        request = ExecRequest(command=("sleep", "1000"))
        async with engine.exec_container("web", request) as session:
            await engine.kill_container("web")
            assert await all_of(session) == b""
            assert session.exit_code == 137


async def session_process(engine, store_paths):
    """The process that serves the only exec session of `web`."""
    record = await engine._containers.find("web")
    state = read_container_state(engine._services.config, record.container_id)
    children = Path(f"/proc/{state.monitor_process_id}/task/{state.monitor_process_id}/children")
    async with asyncio.timeout(10):
        while True:
            # Its starter may be there for a moment after it has handed the session over.
            found = {int(word) for word in children.read_text().split()} - {state.process_id}
            if len(found) == 1:
                return found.pop()
            await asyncio.sleep(0)


async def test_a_killed_session_takes_its_program_along_and_not_the_container(engine, store_paths):
    async with running(engine):
        request = ExecRequest(command=("sleep", "777"))
        async with engine.exec_container("web", request) as session:
            os.kill(await session_process(engine, store_paths), signal.SIGKILL)
            with pytest.raises(SessionLostError, match="session was lost"):
                await session.read()
        async with engine.exec_container("web", ExecRequest(command=("true",))) as session:
            await all_of(session)
        processes = await engine.list_processes("web")
        assert not any("777" in process.command for process in processes)
        summary = (await engine.inspect_container("web")).summary
        assert summary.status is ContainerStatus.RUNNING


async def test_a_killed_monitor_ends_sessions_and_container(engine):
    async with running(engine, "sh", has_terminal=True, is_stdin_open=True):
        record = await engine._containers.find("web")
        state = read_container_state(engine._services.config, record.container_id)
        async with engine.attach_container("web") as session:
            await session.write(b"echo here\n")
            await read_until(session, b"here\r\n")
            os.kill(state.monitor_process_id, signal.SIGKILL)
            with pytest.raises(SessionLostError):
                await all_of(session)
        assert (await engine.wait_container("web")).error == "monitor was killed"


HANG_UP_SCRIPT = (
    "trap 'echo hung-up > /told; exit' HUP; echo ready; "
    "until test -e /go; do sleep 0.02; done; echo went-on > /told"
)


async def leave_a_program(engine, *, is_detached):
    """Leave one that runs on a terminal, then let it go on; returns what it met."""
    async with running(engine):
        request = ExecRequest(
            command=("sh", "-c", HANG_UP_SCRIPT), has_terminal=True, is_stdin_open=True
        )
        async with engine.exec_container("web", request, size=SIZE) as session:
            await read_until(session, b"ready")
            if is_detached:
                await session.detach()
        script = "until test -s /told; do sleep 0.02; done; cat /told"
        if is_detached:
            script = "touch /go; " + script
        async with asyncio.timeout(20):
            found, _ = await output_of(engine, "sh", "-c", script)
        return found


async def test_a_program_on_a_terminal_is_hung_up_when_nobody_is_left(engine):
    assert await leave_a_program(engine, is_detached=False) == b"hung-up\n"


async def test_a_program_that_was_detached_from_goes_on(engine):
    assert await leave_a_program(engine, is_detached=True) == b"went-on\n"


async def test_the_containers_own_terminal_is_never_hung_up(engine):
    fields = {"has_terminal": True, "is_stdin_open": True, "is_stdin_closed_with_session": True}
    async with running(engine, "sh", "-c", HANG_UP_SCRIPT + "; sleep 1000", **fields):
        async with engine.attach_container("web") as session:
            await read_until(session, b"ready")
        script = "touch /go; until test -s /told; do sleep 0.02; done; cat /told"
        async with asyncio.timeout(20):
            assert await output_of(engine, "sh", "-c", script) == (b"went-on\n", 0)


async def test_many_at_once(engine):
    async with running(engine):
        results = await asyncio.gather(
            *(output_of(engine, "sh", "-c", f"echo {n}; exit {n}") for n in range(12))
        )
        assert results == [(f"{n}\n".encode(), n) for n in range(12)]


async def test_an_exec_into_what_has_ended_is_refused(engine):
    async with running(engine, "true"):
        await engine.wait_container("web")
        with pytest.raises(ContainerStateError, match="is not running"):
            await output_of(engine, "true")
