"""What is written into which file, on a tree that behaves as far as files go."""

import os
import time
from pathlib import Path

import pytest

from engine.cgroups.groups import create_group
from engine.cgroups.host import CgroupHost, Hierarchy
from engine.cgroups.limit_files import cpu_weight
from engine.cgroups.limits import CgroupSpec, DeviceRule
from engine.cgroups.stats import StatsReader
from engine.errors import SyscallError

ALL = "cpuset cpu io memory pids"
V2_FILES = {
    "cgroup.controllers": ALL,
    "cgroup.subtree_control": "",
    "cgroup.procs": "",
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "cpu.max": "max 100000\n",
    "pids.max": "max\n",
}
V1_FILES = {
    "tasks": "",
    "cgroup.procs": "",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.memsw.limit_in_bytes": "9223372036854771712\n",
    "cpu.cfs_period_us": "50000\n",
    "cpu.cfs_quota_us": "-1\n",
    "pids.max": "max\n",
    "devices.deny": "",
    "devices.allow": "",
    "cpuset.cpus": "",
    "cpuset.mems": "",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make a host whose new directories come with the files of a control group."""
    mkdir = os.mkdir

    def make(version, controllers, files):
        def make_group(path, mode=0o777, **options):
            mkdir(path, mode, **options)
            for name, text in files.items():
                Path(path, name).write_text(text)

        monkeypatch.setattr(os, "mkdir", make_group)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        hierarchy = Hierarchy(
            version=version,
            mount_point=str(tmp_path),
            root="/",
            controllers=tuple(controllers.split()),
            parent=f"{tmp_path}/lamella",
        )
        mode = f"v{version}"
        return CgroupHost(mode=mode, hierarchies=(hierarchy,), parent="/lamella", missing=())

    return make


SPEC = CgroupSpec(name="c", memory_bytes=64 << 20, cpu_quota_microseconds=150_000, pids=50)


def test_limits_on_v2(tree, tmp_path):
    group = create_group(tree(2, ALL, V2_FILES), SPEC)
    written = {
        name: (tmp_path / "lamella/c" / name).read_text().split("\n")[0]
        for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    }
    assert written == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(64 << 20),
        "cpu.max": "150000 100000",
        "pids.max": "50x",  # A plain file keeps what is longer than what is written.
    }
    assert group.warnings == ()
    assert group.join_descriptors == ()
    assert group.unified_path == f"{tmp_path}/lamella/c"
    group.close()


def test_controllers_are_handed_down_from_the_top(tree, tmp_path):
    create_group(tree(2, ALL, V2_FILES), CgroupSpec(name="c"))
    for directory in (tmp_path, tmp_path / "lamella"):
        # Each is a write of its own, the last one stands in a plain file.
        assert (directory / "cgroup.subtree_control").read_text().startswith("+cpuset")


def test_limits_on_v1(tree, tmp_path):
    host = tree(1, "memory cpu pids devices cpuset", V1_FILES)
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    rule = DeviceRule(kind="c", major=1, minor=-1, access="rwm")
    group = create_group(
        host,
        CgroupSpec(
            name="c", memory_bytes=10**19, cpu_quota_microseconds=50_000, device_rules=(rule,)
        ),
    )
    directory = tmp_path / "lamella/c"
    assert (directory / "memory.limit_in_bytes").read_text().startswith(str(10**19))
    assert (directory / "memory.memsw.limit_in_bytes").read_text().startswith(str(2 * 10**19))
    assert (directory / "cpu.cfs_period_us").read_text().startswith("100000")
    assert (directory / "cpu.cfs_quota_us").read_text().startswith("50000")
    assert (directory / "pids.max").read_text() == "max\n"
    assert (directory / "devices.deny").read_text() == "a"
    assert (directory / "devices.allow").read_text() == "c 1:* rwm"
    assert (directory / "cpuset.cpus").read_text() == "0-3"
    assert len(group.join_descriptors) == 1
    group.close()


def test_weights_sets_and_swap_in_the_words_of_v2(tree, tmp_path):
    names = ("cpuset.cpus", "cpuset.mems", "cpu.weight", "io.weight", "memory.low")
    files = {**V2_FILES, **dict.fromkeys(names, "")}
    spec = CgroupSpec(
        name="c",
        memory_bytes=64 << 20,
        memory_swap_bytes=64 << 20,
        memory_reservation_bytes=32 << 20,
        memory_swappiness=10,
        cpu_shares=1024,
        cpuset_cpus="0-2",
        cpuset_memory_nodes="1",
        block_weight=1000,
    )
    group = create_group(tree(2, ALL, files), spec)
    directory = tmp_path / "lamella/c"
    assert [(directory / name).read_text() for name in names] == [
        "0-2",
        "1",
        "100",
        "10000",
        str(32 << 20),
    ]
    assert (directory / "memory.swap.max").read_text().startswith("0")
    assert group.warnings == (
        "cgroup v2 has no swappiness of a container: --memory-swappiness is discarded",
    )


def test_weights_and_sets_in_the_words_of_v1(tree, tmp_path):
    names = ("memory.soft_limit_in_bytes", "memory.swappiness", "cpu.shares", "blkio.bfq.weight")
    files = {**V1_FILES, **dict.fromkeys(names, "")}
    host = tree(1, "memory cpu pids devices cpuset blkio", files)
    (tmp_path / "cpuset.cpus").write_text("0-3\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    spec = CgroupSpec(
        name="c",
        memory_reservation_bytes=32 << 20,
        memory_swappiness=0,
        cpu_shares=2,
        cpuset_cpus="1",
        block_weight=10,
    )
    group = create_group(host, spec)
    directory = tmp_path / "lamella/c"
    assert [(directory / name).read_text() for name in names] == [str(32 << 20), "0", "2", "10"]
    assert (directory / "cpuset.cpus").read_text().startswith("1")
    assert (directory / "cpuset.mems").read_text() == "0"
    assert group.warnings == ()
    group.close()


def test_a_kernel_without_weights_for_disks_says_so(tree):
    group = create_group(tree(2, ALL, V2_FILES), CgroupSpec(name="c", block_weight=500))
    assert len(group.warnings) == 1
    assert group.warnings[0].endswith("Weight discarded.")


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000), (10**9, 10_000), (1, 1)]
)
def test_shares_of_v1_become_weights_of_v2(shares, weight):
    assert cpu_weight(shares) == weight


def test_a_limit_whose_controller_is_missing_is_a_warning_and_no_failure(tree):
    group = create_group(tree(2, "io", {**V2_FILES, "cgroup.controllers": "io"}), SPEC)
    assert [warning.rpartition(": ")[2] for warning in group.warnings] == [
        "the memory limit is discarded",
        "the cpu limit is discarded",
        "the pids limit is discarded",
    ]


def test_a_value_that_the_kernel_refuses_is_an_error(tree):
    files = {name: text for name, text in V2_FILES.items() if name != "pids.max"}
    with pytest.raises(SyscallError, match=r"pids\.max"):
        create_group(tree(2, ALL, files), SPEC)


def test_counters_are_read_alike_on_both_versions(tree, tmp_path):
    v1 = {
        **V1_FILES,
        "memory.usage_in_bytes": "5000\n",
        "memory.stat": "cache 1\ninactive_file 7\ntotal_inactive_file 1000\n",
        "pids.current": "3\n",
        "cpuacct.usage": "2000000\n",
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
    }
    v2 = {
        **V2_FILES,
        "memory.current": "5000\n",
        "memory.stat": "anon 1\ninactive_file 1000\n",
        "pids.current": "3\n",
        "cpu.stat": "usage_usec 2000\nnr_throttled 0\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n",
    }
    samples = []
    for name, version, controllers, files in (
        ("one", 1, "memory cpu cpuacct pids blkio", v1),
        ("two", 2, ALL, v2),
    ):
        host = tree(version, controllers, files)
        group = create_group(host, CgroupSpec(name=name))
        reader = StatsReader(group, 0)
        sample = reader.sample()
        reader.close()
        assert sample.memory_limit_bytes is None
        samples.append(
            (
                sample.cpu_ns,
                sample.memory_bytes,
                sample.process_count,
                sample.block_read_bytes,
                sample.block_written_bytes,
            )
        )
    assert samples == [(2_000_000, 4000, 3, 10, 20)] * 2


def test_page_cache_out_of_use_is_asked_for_as_often_as_it_can_have_changed(
    tree, tmp_path, monkeypatch
):
    files = {**V2_FILES, "memory.current": "5000\n", "memory.stat": "inactive_file 1000\n"}
    reader = StatsReader(create_group(tree(2, ALL, files), CgroupSpec(name="c")), 0)
    now = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    assert reader.sample().memory_bytes == 4000
    group = tmp_path / "lamella/c"
    (group / "memory.stat").write_text("inactive_file 3000\n")
    assert reader.sample().memory_bytes == 4000
    (group / "memory.current").write_text("6000\n")
    assert reader.sample().memory_bytes == 3000
    (group / "memory.stat").write_text("inactive_file 500\n")
    now += 6_000_000_000
    assert reader.sample().memory_bytes == 5500
    reader.close()
