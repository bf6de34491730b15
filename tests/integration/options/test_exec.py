"""A program that is run in a container besides its own has the options of the container."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerRequest, ExecRequest, ProcessOptions, Ulimit

if TYPE_CHECKING:
    from engine.api import EngineApi

SLEEPS = ("sleep", "1000")


async def exec_said(
    engine: EngineApi, script: str, *, is_privileged: bool = False, **options: object
) -> list[str]:
    """Run a script in a container that has these options; returns the lines that it prints."""
    await engine.create_container(
        ContainerRequest(
            image="starter", name="one", command=SLEEPS, options=ProcessOptions(**options)
        )
    )
    await engine.start_container("one")
    request = ExecRequest(command=("sh", "-c", script), is_privileged=is_privileged)
    text = b""
    async with engine.exec_container("one", request) as session:
        while (output := await session.read()) is not None:
            text += output.data
    return text.decode().splitlines()


async def test_limits_groups_and_score_are_those_of_the_container(
    engine: EngineApi, starter_image: object
) -> None:
    lines = await exec_said(
        engine,
        "ulimit -n; id -G; cat /proc/self/oom_score_adj",
        ulimits=(Ulimit(name="nofile", soft=64, hard=64),),
        group_add=("0",) if os.geteuid() else ("40",),
        oom_score_adjustment=123,
    )
    assert lines == ["64", "0" if os.geteuid() else "0 40", "123"]


async def test_the_profile_of_the_container_decides_here_too(
    engine: EngineApi, starter_image: object
) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    lines = await exec_said(
        engine,
        "mkdir /new 2>&1; grep -E '^(NoNewPrivs|CapEff):' /proc/self/status",
        seccomp_profile=profile,
        has_no_new_privileges=True,
        cap_drop=("ALL",),
    )
    assert "No space left on device" in lines[0]
    assert [line.split() for line in lines[1:]] == [["CapEff:", "0" * 16], ["NoNewPrivs:", "1"]]


@pytest.mark.root
async def test_namespaces_of_the_host_are_shared_here_too(
    engine: EngineApi, starter_image: object
) -> None:
    lines = await exec_said(
        engine,
        "for n in pid ipc uts cgroup; do readlink /proc/self/ns/$n; done",
        pid_mode="host",
        ipc_mode="host",
        uts_mode="host",
        cgroup_namespace_mode="host",
    )
    assert lines == [
        os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts", "cgroup")
    ]


async def test_a_privileged_program_has_what_the_monitor_can_give(
    engine: EngineApi, starter_image: object
) -> None:
    script = "grep -E '^(Seccomp|CapEff):' /proc/self/status"
    lines = await exec_said(engine, script, is_privileged=True, cap_drop=("ALL",))
    fields = dict(line.split() for line in lines)
    assert fields["Seccomp:"] == "0"
    assert int(fields["CapEff:"], 16).bit_count() > 11
