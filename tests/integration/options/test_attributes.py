"""Groups, resource limits, kernel parameters, shared memory and scores, read from inside."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import StartError
from engine.types import ContainerRequest, ProcessOptions, Ulimit

if TYPE_CHECKING:
    from engine.api import EngineApi

    from .conftest import Run


@pytest.mark.root
async def test_further_groups_are_added_to_those_of_the_user(run: Run) -> None:
    said = await run("id -G; id -u", user="1000:7", group_add=("40", "tty"))
    groups, user = said.lines
    assert (groups.split()[0], {*groups.split()}, user) == ("7", {"7", "40", "5"}, "1000")


async def test_a_group_that_the_image_does_not_have_is_refused_by_name(run: Run) -> None:
    with pytest.raises(StartError, match="unable to find group nosuch: no matching entries"):
        await run("true", group_add=("nosuch",))


async def test_resource_limits_are_set(run: Run) -> None:
    limits = (Ulimit(name="nofile", soft=64, hard=128), Ulimit(name="core", soft=0, hard=0))
    said = await run("ulimit -n; ulimit -Hn; ulimit -Hc", ulimits=limits)
    assert (said.lines, said.warnings) == (["64", "128", "0"], ())


async def test_a_resource_limit_that_cannot_be_given_is_lowered_with_a_warning(run: Run) -> None:
    too_many = int(Path("/proc/sys/fs/nr_open").read_text()) * 2
    wanted = Ulimit(name="nofile", soft=64, hard=too_many)
    said = await run("ulimit -n; ulimit -Hn", ulimits=(wanted,))
    soft, hard = said.lines
    assert soft == "64"
    assert int(hard) in {resource.getrlimit(resource.RLIMIT_NOFILE)[1], too_many // 2}
    (warning,) = said.warnings
    assert warning.startswith(f"--ulimit nofile=64:{too_many} is lowered to 64:{hard}")


async def test_the_warning_is_on_the_container_too(
    engine: EngineApi, starter_image: object
) -> None:
    options = ProcessOptions(ulimits=(Ulimit(name="nofile", soft=-1, hard=-1),))
    await engine.create_container(ContainerRequest(image="starter", name="one", options=options))
    (warning,) = (await engine.inspect_container("one")).warnings
    assert warning.startswith("--ulimit nofile=unlimited:unlimited is lowered")


async def test_the_score_of_the_container_is_its_own(run: Run) -> None:
    assert (await run("cat /proc/self/oom_score_adj", oom_score_adjustment=321)).lines == ["321"]


async def test_kernel_parameters_of_its_own_namespaces_are_set(run: Run) -> None:
    sysctls = (("net.ipv4.ip_default_ttl", "77"), ("kernel.msgmax", "9999"))
    script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax"
    assert (await run(script, sysctls=sysctls)).lines == ["77", "9999"]
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text().strip() != "77"


async def test_what_is_said_of_a_default_parameter_goes_before_it(run: Run) -> None:
    sysctls = (("net.ipv4.ip_unprivileged_port_start", "99"),)
    said = await run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", sysctls=sysctls)
    assert said.lines == ["99"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("net.ipv4.nosuch", "1", "cannot set sysctl net.ipv4.nosuch=1: no such file"),
        ("net.ipv4.ip_default_ttl", "many", "ip_default_ttl=many: invalid argument"),
    ],
)
async def test_a_parameter_that_the_kernel_refuses_is_named(
    run: Run, name: str, value: str, text: str
) -> None:
    with pytest.raises(StartError, match=text) as caught:
        await run("true", sysctls=((name, value),))
    assert caught.value.exit_code == 125


async def test_shared_memory_has_the_size_that_was_asked_for(run: Run) -> None:
    script = "df -k /dev/shm | tail -n 1"
    assert (await run(script, shared_memory_bytes=5 << 20)).text.split()[1] == str(5 << 10)
    assert (await run(script, shared_memory_bytes=0)).text.split()[1] == str(64 << 10)


async def test_a_read_only_container_writes_only_below_dev(run: Run) -> None:
    script = (
        "for f in /x /etc/hosts /etc/resolv.conf /etc/hostname /run/x; do"
        " (echo y >> $f) 2>/dev/null && echo wrote $f; done;"
        " echo y > /dev/shm/x && echo y > /dev/x && echo fine"
    )
    assert (await run(script, is_read_only=True)).lines == ["fine"]
