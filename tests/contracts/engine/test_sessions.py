"""What every engine does about programs in containers."""

import asyncio
import contextlib

import pytest

from engine.errors import ContainerStateError, InvalidInputError, StartError
from engine.types import ContainerRequest, ContainerStatus, ExecRequest, OutputStream, TerminalSize
from tests.accounts import can_pause

SIZE = TerminalSize(columns=91, rows=33)


@contextlib.asynccontextmanager
async def running(engine, image, *command, **fields):
    created = await engine.create_container(
        ContainerRequest(image=image, name="web", command=command, **fields)
    )
    await engine.start_container("web")
    try:
        yield created
    finally:
        await engine.remove_container("web", is_forced=True)


async def all_of(session):
    """Everything until the end, by stream."""
    found = dict.fromkeys(OutputStream, b"")
    while (output := await session.read()) is not None:
        found[output.stream] += output.data
    return found[OutputStream.STDOUT], found[OutputStream.STDERR]


async def read_until(session, wanted):
    received = b""
    while wanted not in received:
        output = await session.read()
        assert output is not None, received
        received += output.data
    return received


async def test_a_program_is_run_beside_the_containers_own(any_engine, image):
    async with running(any_engine, image, "sleep", "1000"):
        request = ExecRequest(command=("echo", "one", "two"))
        async with any_engine.exec_container("web", request) as session:
            assert not session.has_terminal
            assert await all_of(session) == (b"one two\n", b"")
            assert session.exit_code == 0
            assert await session.read() is None


@pytest.mark.parametrize(("program", "exit_code"), [("true", 0), ("false", 1)])
async def test_how_it_ends_is_told(any_engine, image, program, exit_code):
    request = ExecRequest(command=(program,))
    async with (
        running(any_engine, image, "sleep", "1000"),
        any_engine.exec_container("web", request) as session,
    ):
        await all_of(session)
        assert session.exit_code == exit_code


async def test_it_gets_input_and_its_end(any_engine, image):
    async with running(any_engine, image, "sleep", "1000"):
        request = ExecRequest(command=("cat",), is_stdin_open=True)
        async with any_engine.exec_container("web", request) as session:
            await session.write(b"there and back\n")
            assert await read_until(session, b"\n") == b"there and back\n"
            await session.end_input()
            assert await all_of(session) == (b"", b"")
            assert session.exit_code == 0


async def test_one_that_is_not_there_is_refused(any_engine, image):
    async with running(any_engine, image, "sleep", "1000"):
        with pytest.raises(StartError, match="executable file not found") as caught:
            async with any_engine.exec_container("web", ExecRequest(command=("nope",))):
                pass
        assert caught.value.exit_code == 127
        with pytest.raises(InvalidInputError, match="no command"):
            async with any_engine.exec_container("web", ExecRequest(command=())):
                pass


async def test_it_needs_a_container_that_runs(any_engine, image):
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    with pytest.raises(ContainerStateError, match="is not running"):
        async with any_engine.exec_container("web", ExecRequest(command=("true",))):
            pass
    with pytest.raises(ContainerStateError, match="is not running"):
        await any_engine.exec_detached("web", ExecRequest(command=("true",)))
    with pytest.raises(ContainerStateError, match="cannot attach to a stopped container"):
        async with any_engine.attach_container("web"):
            pass
    await any_engine.remove_container("web")


async def test_a_paused_container_is_refused(any_engine, image):
    if not can_pause(any_engine):
        pytest.skip("this host gives this user no control group that freezes (`lamella info`)")
    async with running(any_engine, image, "sleep", "1000"):
        await any_engine.pause_container("web")
        with pytest.raises(ContainerStateError, match="is paused, unpause the container"):
            async with any_engine.exec_container("web", ExecRequest(command=("true",))):
                pass
        with pytest.raises(ContainerStateError, match="cannot attach to a paused container"):
            async with any_engine.attach_container("web"):
                pass


async def test_a_detached_one_has_an_id(any_engine, image):
    async with running(any_engine, image, "sleep", "1000"):
        exec_id = await any_engine.exec_detached("web", ExecRequest(command=("true",)))
        assert len(exec_id) == 64


async def test_a_terminal_echoes_and_is_left_by_exit(any_engine, image):
    async with running(any_engine, image, "sleep", "1000"):
        request = ExecRequest(command=("sh",), has_terminal=True, is_stdin_open=True)
        async with any_engine.exec_container("web", request, size=SIZE) as session:
            assert session.has_terminal
            await session.write(b"exit 5\n")
            output, errors = await all_of(session)
            assert b"exit 5" in output
            assert errors == b""
            assert session.exit_code == 5


async def test_attaching_and_leaving_lets_the_program_go_on(any_engine, image):
    async with running(any_engine, image, "cat", is_stdin_open=True):
        for _ in range(2):
            async with any_engine.attach_container("web", has_replay=False) as session:
                await session.write(b"here\n")
                assert await read_until(session, b"\n") == b"here\n"
        summary = (await any_engine.inspect_container("web")).summary
        assert summary.status is ContainerStatus.RUNNING


async def test_the_end_of_an_attached_program_is_the_containers(any_engine, image):
    fields = {"is_stdin_open": True, "has_terminal": True}
    async with running(any_engine, image, "sh", **fields):
        async with any_engine.attach_container("web", size=SIZE) as session:
            await session.write(b"exit 7\n")
            await asyncio.wait_for(all_of(session), 20)
            assert session.exit_code == 7
        assert (await any_engine.wait_container("web")).exit_code == 7
