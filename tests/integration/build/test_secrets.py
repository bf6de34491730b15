"""Secrets are in no layer, no history, no log, no cache record, nor in what a build tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from engine.errors import BuildStepError
from engine.types import BuildRequest, BuildSecret, BuildSsh
from tests.command_line import CommandLine
from tests.integration.build.test_builds import files_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.api import EngineApi
    from engine.types import BuildEvent
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

IN_FILE = b"f1-very-secret-f1"
IN_VARIABLE = b"v2-very-secret-v2"
OF_AGENT = b"a3-very-secret-a3"
ALL = (IN_FILE, IN_VARIABLE, OF_AGENT)
DOCKERFILE = """\
# syntax=docker/dockerfile:1
FROM starter AS first
ARG PLACE=/run/secrets/file
RUN --mount=type=secret,id=file test $(wc -c < $PLACE) = 17; echo > /ok
RUN --mount=type=secret,id=file,target=/etc/deep/key,mode=0444,required cat /etc/deep/key >&-;:
RUN --mount=type=secret,id=variable,env=TOKEN test ${#TOKEN} = 17; env > /dev/null; echo > /ok2
FROM first
RUN --mount=type=ssh,id=agent test -S $SSH_AUTH_SOCK && echo > /ok3
RUN --mount=type=secret,id=variable <<END
#!/bin/sh
test $(wc -c < /run/secrets/variable) = 17
END
COPY --from=first /ok /copied
"""
FAILING = """\
FROM starter
RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN \\
    test -n "$TOKEN" && cp /run/secrets/file /dev/shm/used && echo > /left && exit 3
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A socket as that of an agent."""
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


@pytest.fixture
def secrets(tmp_path: Path) -> tuple[BuildSecret, ...]:
    key = tmp_path / "key"
    key.write_bytes(IN_FILE)
    return (
        BuildSecret(secret_id="file", path=key),
        BuildSecret(secret_id="variable", value=IN_VARIABLE),
    )


def everything_kept(store: StorePaths) -> list[Path]:
    """Files of a store that hold a secret: database, its log, layers, indexes, tars, events."""
    return [path for value in ALL for path in files_with(value, store.root, store.run)]


async def told(engine: EngineApi, image: str) -> str:
    """Whatever can be asked about builds and an image."""
    details = await engine.inspect_image(image)
    return f"{details} {await engine.list_builds()} {await engine.list_build_cache()}"


def is_in(text: str) -> bool:
    return any(value.decode() in text for value in ALL)


async def test_nothing_of_them_is_kept_or_told(engine, store_paths, secrets, agent):
    heard: list[BuildEvent] = []
    request = BuildRequest(
        dockerfile_content=DOCKERFILE.encode(), names=("made",), network="none",
        secrets=secrets, ssh=(BuildSsh(ssh_id="agent", socket=agent),),
    )  # fmt: skip
    # The second finds them in the cache, the third makes everything again.
    for uses_cache in (True, True, False):
        await engine.build_image(
            BuildRequest(**{**fields(request), "uses_cache": uses_cache}), listener=heard.append
        )
        assert await asyncio.to_thread(everything_kept, store_paths) == []

    assert not is_in(repr(heard))
    assert not is_in(await told(engine, "made"))
    other = (BuildSecret(secret_id="file", value=b"z" * 17), secrets[1])
    built = await engine.build_image(BuildRequest(**{**fields(request), "secrets": other}))
    assert built.cached_count == 6, "a secret's value makes no step another one"


def fields(request: BuildRequest) -> dict[str, object]:
    return {name: getattr(request, name) for name in BuildRequest.__dataclass_fields__}


async def test_what_a_failed_step_has_left_has_none_of_them(engine, store_paths, secrets):
    heard: list[BuildEvent] = []
    request = BuildRequest(
        dockerfile_content=FAILING.encode(), network="none", secrets=secrets,
        keeps_failed_step=True,
    )  # fmt: skip
    with pytest.raises(BuildStepError) as failed:
        await engine.build_image(request, listener=heard.append)

    assert failed.value.step_exit_code == 3
    assert failed.value.failed_image_id
    assert await asyncio.to_thread(everything_kept, store_paths) == []
    assert not is_in(f"{heard!r} {failed.value} {failed.value.hint}")
    assert not is_in(await told(engine, failed.value.failed_image_id))


async def test_those_of_a_killed_build_are_gone_when_the_next_engine_has_looked(
    store_paths, tmp_path, secrets
):
    (tmp_path / "Dockerfile").write_text(
        "FROM starter\nRUN --mount=type=secret,id=file echo ready; while :; do sleep 1; done\n"
    )
    process = CommandLine(store_paths).open(
        "build", "--progress", "plain", "--network", "none",
        "--secret", f"id=file,src={tmp_path}/key", str(tmp_path),
    )  # fmt: skip
    assert process.stderr is not None
    while not (line := await asyncio.to_thread(process.stderr.readline)).endswith(b"ready\n"):
        assert line
    assert await asyncio.to_thread(files_with, IN_FILE, store_paths.root) == []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()

    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await engine._services.staging.sweep()
        assert await asyncio.to_thread(everything_kept, store_paths) == []


def test_values_of_variables_are_not_said(store_paths, tmp_path):
    lamella = CommandLine(store_paths)
    lamella.environment["TOKEN"] = IN_VARIABLE.decode()
    (tmp_path / "Dockerfile").write_text(
        "FROM starter\nRUN --mount=type=secret,id=TOKEN,env=TOKEN test ${#TOKEN} = 17 && exit 4\n"
    )
    done = lamella("build", "--network", "none", "--secret", "id=TOKEN", str(tmp_path))

    assert done.returncode == 1
    assert b"exit code: 4" in done.stderr
    assert not is_in((done.stdout + done.stderr).decode())
    with contextlib.suppress(FileNotFoundError):
        assert everything_kept(store_paths) == []
