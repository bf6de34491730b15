"""Capabilities, system call filters, masks and privileges, as a program in a container has them."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from engine.errors import InvalidInputError
from engine.linux.capabilities import capability_number, read_capabilities
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from engine.types import ContainerRequest, ProcessOptions

if TYPE_CHECKING:
    from engine.api import EngineApi

    from .conftest import Run

STATUS = "cat /proc/self/status"


def mask(numbers: frozenset[int]) -> str:
    return f"{sum(1 << number for number in numbers):016x}"


def numbers(*names: str) -> frozenset[int]:
    return frozenset(capability_number(name) for name in names)


def fields(status: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))


@pytest.mark.parametrize(
    ("added", "dropped", "expected"),
    [
        (("NET_RAW",), (), DEFAULT_CAPABILITIES | numbers("NET_RAW")),
        (
            ("cap_net_admin",),
            ("CAP_CHOWN",),
            (DEFAULT_CAPABILITIES - numbers("CHOWN")) | numbers("NET_ADMIN"),
        ),
        ((), ("ALL",), frozenset()),
        (("CHOWN",), ("all",), numbers("CHOWN")),
        (("CHOWN",), ("CHOWN",), DEFAULT_CAPABILITIES),
    ],
)
async def test_capabilities_are_added_and_dropped(
    run: Run, added: tuple[str, ...], dropped: tuple[str, ...], expected: frozenset[int]
) -> None:
    status = fields((await run(STATUS, cap_add=added, cap_drop=dropped)).text)
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {mask(expected)}
    assert {status["CapInh"], status["CapAmb"]} == {"0" * 16}


@pytest.mark.root
async def test_all_capabilities_are_those_that_there_are_but_for_the_dropped(run: Run) -> None:
    own = read_capabilities()
    available = own.bounding & own.permitted
    said = await run(STATUS, cap_add=("ALL",), cap_drop=("SYS_BOOT",))
    assert fields(said.text)["CapEff"] == mask(available - numbers("SYS_BOOT"))


async def test_the_filter_lets_through_what_comes_with_a_capability(run: Run) -> None:
    script = "hostname another && hostname"
    assert "another" not in (await run(script)).lines
    assert (await run(script, cap_add=("SYS_ADMIN",))).lines == ["another"]


@pytest.mark.root
async def test_a_capability_that_nobody_here_has_is_refused(
    engine: EngineApi, starter_image: object
) -> None:
    own = read_capabilities()
    if capability_number("SYS_RESOURCE") in own.bounding & own.permitted:
        pytest.skip("this run has every capability that the test knows")
    options = ProcessOptions(cap_add=("SYS_RESOURCE",))
    with pytest.raises(InvalidInputError, match="not available in the current environment"):
        await engine.create_container(ContainerRequest(image="starter", options=options))
    assert await engine.list_containers() == ()


async def test_without_a_filter_there_is_none(run: Run) -> None:
    assert fields((await run(STATUS, seccomp_profile="unconfined")).text)["Seccomp"] == "0"
    assert fields((await run(STATUS)).text)["Seccomp"] == "2"


def profile(*rules: dict[str, object], default: str = "SCMP_ACT_ALLOW") -> str:
    return json.dumps({"defaultAction": default, "syscalls": rules})


@pytest.mark.parametrize("has_no_new_privileges", [False, True])
async def test_a_profile_decides_what_system_calls_do(
    run: Run, *, has_no_new_privileges: bool
) -> None:
    document = profile(
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["sync"], "action": "SCMP_ACT_KILL_PROCESS"},
        {
            "names": ["fchmodat", "chmod", "fchmodat2"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 2, "op": "SCMP_CMP_EQ", "value": 0o4755}],
        },
    )
    script = (
        "mkdir /new 2>&1; touch /file; chmod 0755 /file && echo changed;"
        " chmod 4755 /file 2>&1; { sync; echo $?; } 2>/dev/null; grep Seccomp: /proc/self/status"
    )
    said = await run(script, seccomp_profile=document, has_no_new_privileges=has_no_new_privileges)
    assert "No space left on device" in said.lines[0]
    assert said.lines[1] == "changed"
    assert any("chmod" in line and "Operation not permitted" in line for line in said.lines)
    assert "159" in said.lines  # 128 and SIGSYS
    assert said.lines[-1].split() == ["Seccomp:", "2"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "Decoding seccomp profile failed"),
        ('{"defaultAction": "SCMP_ACT_NONE"}', "unknown action 'SCMP_ACT_NONE'"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "needs a listener"),
    ],
)
async def test_a_profile_that_is_none_is_refused_before_anything_is_made(
    engine: EngineApi, starter_image: object, document: str, text: str
) -> None:
    options = ProcessOptions(seccomp_profile=document)
    with pytest.raises(InvalidInputError, match=text):
        await engine.create_container(ContainerRequest(image="starter", options=options))
    assert await engine.list_containers() == ()


async def test_no_new_privileges_is_off_until_asked_for(run: Run) -> None:
    assert fields((await run(STATUS)).text)["NoNewPrivs"] == "0"
    assert fields((await run(STATUS, has_no_new_privileges=True)).text)["NoNewPrivs"] == "1"


async def test_system_paths_can_be_left_as_they_are(run: Run) -> None:
    script = "wc -c < /proc/timer_list; grep ' /proc' /proc/self/mounts | wc -l"
    masked = (await run(script)).lines
    assert (masked[0], int(masked[1]) > 1) == ("0", True)
    # Who is not the host's root is told that the file is not for them, on the other stream.
    unmasked = (await run(script, has_unconfined_system_paths=True)).lines
    assert "1" in unmasked


@pytest.mark.root
async def test_a_privileged_container_has_everything(run: Run) -> None:
    own = read_capabilities()
    script = (
        "cat /proc/self/status; for p in /sys /sys/fs/cgroup; do"
        ' grep " $p " /proc/self/mounts | head -n 1; done; ls /dev; wc -c < /proc/interrupts;'
        " test -w /proc/sys/kernel/panic && echo writable"
    )
    said = await run(script, is_privileged=True)
    status = fields(said.text)
    assert status["CapEff"] == mask(own.bounding & own.permitted)
    assert status["Seccomp"] == "0"
    words = [line.split() for line in said.lines]
    mounts = {word[1]: word[3] for word in words if len(word) == 6 and word[1].startswith("/sys")}
    assert set(mounts) == {"/sys", "/sys/fs/cgroup"}
    assert all(options.startswith("rw") for options in mounts.values())
    inside = set(said.lines)
    for name in os.listdir("/dev"):
        is_node = not os.path.isdir(f"/dev/{name}") and not os.path.islink(f"/dev/{name}")
        if is_node and name != "console":
            assert name in inside, name
    assert said.lines[-1] == "writable"
    assert int(said.lines[-2]) > 0


@pytest.mark.root
async def test_a_privileged_container_can_use_a_profile_of_its_own(run: Run) -> None:
    document = profile({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28})
    said = await run("mkdir /new", is_privileged=True, seccomp_profile=document)
    assert "No space left on device" in said.text
