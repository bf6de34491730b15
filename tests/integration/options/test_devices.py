"""Devices of the host's in a container."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from engine.errors import InvalidInputError
from engine.types import ContainerRequest, DeviceRequest, ProcessOptions

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi

    from .conftest import Run

NODE = "/dev/full"
"""Every host has it, and reading and writing tell it from all others."""


def device(host: str, container: str = "", access: str = "rwm") -> DeviceRequest:
    return DeviceRequest(host_path=host, container_path=container or host, access=access)


async def test_a_device_is_there_under_another_name(run: Run) -> None:
    script = "head -c 3 /dev/disks/one | wc -c; ls -l /dev/disks/one"
    said = await run(script, devices=(device(NODE, "/dev/disks/one"),))
    assert said.lines[0] == "3"
    assert said.lines[1].split()[4:6] == ["1,", "7"]


async def test_a_device_can_be_outside_of_dev_and_the_container_started_again(
    engine: EngineApi, starter_image: object
) -> None:
    await engine.create_container(
        ContainerRequest(
            image="starter",
            name="one",
            command=("sh", "-c", "head -c 3 /opt/node | wc -c"),
            options=ProcessOptions(devices=(device(NODE, "/opt/node"),)),
        )
    )
    for _ in range(2):
        await engine.start_container("one")
        assert (await engine.wait_container("one")).exit_code == 0
    text = b"".join([line.text async for lines in engine.follow_logs("one") for line in lines])
    assert text == b"33"


@pytest.mark.root
async def test_what_may_be_done_with_it_is_what_was_said(run: Run) -> None:
    # /dev/kmsg is not among those that every container may open.
    if not os.path.exists("/dev/kmsg"):
        pytest.skip("this host has no /dev/kmsg")
    opens = (
        "test -c /dev/kmsg || exit 0; (exec 3</dev/kmsg) 2>/dev/null && echo read;"
        " (exec 3>/dev/kmsg) 2>/dev/null && echo write; exit 0"
    )
    options = {"seccomp_profile": "unconfined", "cap_add": ("SYSLOG",)}
    assert (await run(opens, devices=(device("/dev/kmsg"),), **options)).lines == ["read", "write"]
    said = await run(opens, devices=(device("/dev/kmsg", access="w"),), **options)
    assert said.lines == ["write"]
    assert (await run(opens)).lines == []


@pytest.mark.root
async def test_of_a_directory_every_device_below_it_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "no-device").write_text("")
    for name in ("one", "below/two"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o640, os.makedev(1, 7))
    said = await run("ls -l /dev/all /dev/all/below", devices=(device(str(tmp_path), "/dev/all"),))
    nodes = [line.split() for line in said.lines if line.startswith("c")]
    assert [(node[0], node[-1]) for node in nodes] == [
        ("crw-r-----", "one"),
        ("crw-r-----", "two"),
    ]
    assert "no-device" not in said.text


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/dev/nosuch", "no such file or directory"), ("/etc/passwd", "not a device")],
)
async def test_what_is_no_device_is_refused_in_dockers_words(
    run: Run, path: str, reason: str
) -> None:
    text = f'error gathering device information while adding custom device "{path}": {reason}'
    with pytest.raises(InvalidInputError, match=text):
        await run("true", devices=(device(path),))


async def test_a_link_of_the_image_leads_no_device_out_of_its_root(
    run: Run, tmp_path: Path
) -> None:
    """The name is followed inside the container's root: nothing appears on the host."""
    said = await run("ls /etc/made-below", devices=(device(NODE, "/etc/made-below/node"),))
    assert said.lines == ["node"]
    assert not os.path.exists("/etc/made-below")
