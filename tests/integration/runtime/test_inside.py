"""What a program sees from within: each default of the isolation, read by the container itself."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import StartError
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from engine.runtime.spec import FileMount

from .conftest import altered
from .test_lifecycle import run_to_its_end

if TYPE_CHECKING:
    from engine.runtime.supervisor import Supervisor

    from .conftest import Place


async def said(supervisor: Supervisor, place: Place, script: str, *, user: str = "") -> str:
    """Run a shell script in a container and return what it prints."""
    spec = altered(place.spec("one", "sh", "-c", script), user=user)
    await run_to_its_end(supervisor, place, spec)
    return place.log(spec)


def fields(status: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))


async def test_root_has_eleven_capabilities_and_none_to_inherit(
    supervisor: Supervisor, place: Place
) -> None:
    status = fields(await said(supervisor, place, "cat /proc/self/status"))
    expected = f"{sum(1 << number for number in DEFAULT_CAPABILITIES):016x}"
    assert len(DEFAULT_CAPABILITIES) == 11
    assert (status["CapPrm"], status["CapEff"], status["CapBnd"]) == (expected,) * 3
    assert (status["CapInh"], status["CapAmb"]) == ("0" * 16, "0" * 16)


@pytest.mark.root
async def test_another_user_has_no_capabilities(supervisor: Supervisor, place: Place) -> None:
    status = fields(await said(supervisor, place, "cat /proc/self/status", user="1000"))
    none = "0" * 16
    assert (status["CapPrm"], status["CapEff"], status["CapInh"], status["CapAmb"]) == (none,) * 4
    assert status["Uid"].split() == ["1000"] * 4


async def test_system_calls_are_filtered(supervisor: Supervisor, place: Place) -> None:
    status = fields(await said(supervisor, place, "cat /proc/self/status"))
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "0"


async def test_only_the_three_standard_descriptors_are_open(
    supervisor: Supervisor, place: Place
) -> None:
    # One more is the directory that ls itself reads.
    listed = await said(supervisor, place, "exec ls /proc/self/fd")
    assert listed.split() == ["0", "1", "2", "3"]


async def test_every_namespace_is_the_containers_own(supervisor: Supervisor, place: Place) -> None:
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    (place.layer / "bin" / "readlink").symlink_to("busybox")
    inside = (await said(supervisor, place, script)).split()
    assert len(inside) == len(kinds)
    for kind, name in zip(kinds, inside, strict=True):
        assert name != os.readlink(f"/proc/self/ns/{kind}")


async def test_masked_paths_show_nothing(supervisor: Supervisor, place: Place) -> None:
    (place.layer / "bin" / "wc").symlink_to("busybox")
    script = (
        "for p in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do"
        " [ -e $p ] && wc -c <$p; done; for d in /proc/acpi /proc/scsi /sys/firmware"
        " /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu0/thermal_throttle; do"
        " [ -d $d ] && ls $d; done; touch /sys/firmware/x 2>/dev/null && echo written; exit 0"
    )
    assert set((await said(supervisor, place, script)).split()) == {"0"}


async def test_kernel_settings_cannot_be_written(supervisor: Supervisor, place: Place) -> None:
    script = (
        "for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/sys/vm/swappiness"
        " /sys/kernel/mm/transparent_hugepage/enabled; do"
        " [ -e $p ] && { echo x 2>/dev/null >$p && echo wrote $p; }; done;"
        " mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null && echo made; exit 0"
    )
    assert await said(supervisor, place, script) == ""


async def test_devices_are_the_default_ones(supervisor: Supervisor, place: Place) -> None:
    listed = await said(supervisor, place, "ls /dev; echo gone >/dev/null && cat /dev/null")
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert listed.split() == names.split()


@pytest.mark.root
async def test_a_device_that_is_not_allowed_cannot_be_opened(
    supervisor: Supervisor, place: Place
) -> None:
    # The container has no CAP_MKNOD, so the node comes with its image.
    os.mknod(place.layer / "loop", 0o060666, os.makedev(7, 0))
    said_so = await said(supervisor, place, "cat /loop 2>&1; cat /dev/null && echo fine")
    assert said_so == "cat: can't open '/loop': Operation not permitted\nfine"


async def test_the_host_name_and_a_loopback_are_there(supervisor: Supervisor, place: Place) -> None:
    for name in ("hostname", "ip"):
        (place.layer / "bin" / name).symlink_to("busybox")
    told = await said(supervisor, place, "hostname; ip -o link; ip -o addr")
    assert told.startswith("one\n")
    assert re.findall(r"^\d+: (\S+)", told, re.MULTILINE) == ["lo:", "lo", "lo"]
    assert "UP" in told


async def test_the_launchers_program_cannot_be_written(
    supervisor: Supervisor, place: Place
) -> None:
    # What an entry point that is a link to /proc/self/exe would try (CVE-2019-5736).
    state = await supervisor.start(place.spec("one", "sleep", "1000"))
    for process_id in (supervisor.launcher_process_id, state.monitor_process_id):
        with pytest.raises(OSError, match=r"Read-only|not permitted|denied|busy"):
            os.open(f"/proc/{process_id}/exe", os.O_WRONLY)
    os.kill(state.process_id, signal.SIGKILL)


async def test_a_working_directory_in_a_descriptor_leads_nowhere(
    supervisor: Supervisor, place: Place
) -> None:
    for number in range(3, 24):
        spec = altered(
            place.spec(f"n{number}", "sh", "-c", "cat etc/shadow"),
            working_directory=f"/proc/self/fd/{number}",
        )
        with pytest.raises(StartError):
            await supervisor.start(spec)


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
async def test_a_link_in_the_place_of_a_mount_is_refused(
    supervisor: Supervisor, place: Place, name: str
) -> None:
    (place.layer / name).rmdir()
    (place.layer / name).symlink_to("etc")
    with pytest.raises(StartError, match=f"the image's /{name} is not a directory"):
        await supervisor.start(place.spec("one", "true"))
    assert not (place.root / "containers" / "one" / "upper" / "etc" / "null").exists()


async def test_a_bound_file_follows_links_inside_the_root_only(
    supervisor: Supervisor, place: Place
) -> None:
    source = place.root / "resolv.conf"
    source.write_text("nameserver 192.0.2.1\n")
    (place.layer / "etc" / "resolv.conf").symlink_to("/../../../run/resolv.conf")
    (place.layer / "run").mkdir()
    mount = FileMount(source=str(source), target="/etc/resolv.conf", is_read_only=False)
    spec = replace(
        place.spec("one", "cat", "/run/resolv.conf"),
        file_mounts=(mount,),
    )
    await run_to_its_end(supervisor, place, spec)
    assert place.log(spec) == "nameserver 192.0.2.1"
    assert not Path("/run/resolv.conf").exists()


async def test_a_fifo_for_a_passwd_file_does_not_block_the_start(
    supervisor: Supervisor, place: Place
) -> None:
    (place.layer / "etc" / "passwd").unlink()
    os.mkfifo(place.layer / "etc" / "passwd")
    assert await said(supervisor, place, "echo fine") == "fine"


async def test_a_read_only_root_cannot_be_written(supervisor: Supervisor, place: Place) -> None:
    spec = place.spec("one", "sh", "-c", "touch /x 2>/dev/null && echo wrote; echo y >/dev/shm/y")
    spec = replace(spec, rootfs=replace(spec.rootfs, is_read_only=True))
    state = await run_to_its_end(supervisor, place, spec)
    assert (state.exit_code, place.log(spec)) == (0, "")


async def test_nothing_is_mounted_on_the_host(supervisor: Supervisor, place: Place) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    spec = place.spec("one", "sleep", "1000")
    state = await supervisor.start(spec)
    assert Path("/proc/self/mountinfo").read_text() == before
    os.kill(state.process_id, signal.SIGKILL)
