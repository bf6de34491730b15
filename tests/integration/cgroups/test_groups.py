import os
import signal
from pathlib import Path

import pytest

from engine.cgroups.groups import create_group, find_leftovers, join_self, open_group
from engine.cgroups.host import detect_cgroups
from engine.cgroups.limit_files import write_limits
from engine.cgroups.limits import CgroupSpec, DeviceRule
from engine.cgroups.stats import StatsReader, cpu_percent

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="an ordinary user has no group to test in"
)


@pytest.fixture
def host():
    found = detect_cgroups(group_name=f"lamella-test-{os.getpid()}")
    if not found.hierarchies:
        pytest.skip(found.missing[0].reason)
    return found


@pytest.fixture
def make(host):
    groups = []

    def make_group(**limits):
        group = create_group(host, CgroupSpec(name=f"c{len(groups)}", **limits))
        groups.append(group)
        return group

    yield make_group
    for group in groups:
        group.kill_all()
        group.destroy()
    assert not any(os.path.exists(tree.parent) for tree in host.hierarchies)


def spawn(group, program):
    """Run a shell program in the group."""
    joining = group.join_descriptors
    process_id = os.fork()
    if process_id == 0:
        try:
            join_self(joining)
            if group.unified_path:
                with open(f"{group.unified_path}/cgroup.procs", "w") as procs:
                    procs.write("0")
            os.execv("/bin/sh", ["sh", "-c", program])
        finally:
            os._exit(99)
    return process_id


def test_a_group_that_is_frozen_killed_and_destroyed_leaves_nothing(host, make):
    group = make(pids=50)
    child = spawn(group, "sleep 1000 & sleep 1000 & wait")
    while len(group.process_ids()) < 3:
        os.sched_yield()
    assert open_group(group.paths).process_ids() == group.process_ids()
    group.freeze()
    assert group.is_frozen
    group.thaw()
    assert not group.is_frozen
    group.freeze()
    assert group.kill_all()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not group.is_populated


def test_a_group_can_be_joined_when_another_program_has_only_begun_to_make_the_parent(host, make):
    for tree in host.hierarchies:
        os.mkdir(tree.parent)
    child = spawn(make(), "exit 7")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_fork_bomb_is_stopped_by_the_limit_and_killed(make):
    group = make(pids=20)
    child = spawn(group, "while :; do sh -c 'sleep 1000' & done 2>/dev/null; sleep 1000")
    path = group.path_of("pids")
    while "max 0" in Path(f"{path}/pids.events").read_text():
        os.sched_yield()
    assert len(group.process_ids()) <= 20
    assert group.kill_all()
    os.waitpid(child, 0)


def test_too_much_memory_ends_the_process_and_is_counted(make):
    group = make(memory_bytes=32 << 20)
    watch = group.out_of_memory_watch()
    child = spawn(group, "exec dd if=/dev/zero of=/dev/null bs=200M count=1")
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert watch is not None
    assert os.read(watch, 4096)
    assert group.out_of_memory_kills() == 1


def test_devices_that_no_rule_names_are_refused(make):
    group = make(device_rules=(DeviceRule(kind="c", major=1, minor=3, access="rwm"),))
    allowed = spawn(group, "exec 3</dev/null")
    refused = spawn(group, "exec 3</dev/zero")
    assert os.waitstatus_to_exitcode(os.waitpid(allowed, 0)[1]) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(refused, 0)[1]) != 0


def test_what_is_left_of_an_earlier_run_is_found_and_replaced(host, make):
    group = make()
    assert [found.paths for found in find_leftovers(host, frozenset())] == [group.paths]
    assert find_leftovers(host, frozenset({"c0"})) == ()
    child = spawn(group, "sleep 1000")
    while not group.process_ids():
        os.sched_yield()
    again = create_group(host, CgroupSpec(name="c0"))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert again.process_ids() == ()


def test_what_a_group_uses_is_counted(make):
    group = make(memory_bytes=64 << 20)
    child = spawn(group, "while :; do :; done")
    reader = StatsReader(group, child)
    try:
        first = later = reader.sample()
        while not later.cpu_ns or later.cpu_ns == first.cpu_ns:
            later = reader.sample()
        assert later.process_count == 1
        assert later.memory_limit_bytes == 64 << 20
        assert cpu_percent(first, later) > 0
    finally:
        reader.close()
        group.kill_all()
        os.waitpid(child, 0)


def test_a_process_that_wants_more_processor_than_its_limit_is_throttled(make):
    group = make(cpu_quota_microseconds=5_000)
    path = group.path_of("cpu")
    if path is None:
        pytest.skip("the host has no cpu controller")
    child = spawn(group, "while :; do :; done")
    throttled = 0
    while not throttled:
        counters = dict(line.split() for line in Path(f"{path}/cpu.stat").read_text().splitlines())
        throttled = int(counters["nr_throttled"])
        os.sched_yield()
    assert int(counters["nr_periods"]) >= throttled
    group.kill_all()
    os.waitpid(child, 0)


def test_limits_of_a_group_that_runs_can_be_raised_and_lowered(make):
    group = make(memory_bytes=32 << 20, memory_swap_bytes=32 << 20)
    for size in (64 << 20, 16 << 20):
        write_limits(group, CgroupSpec(name="c", memory_bytes=size, memory_swap_bytes=size))
        path = group.path_of("memory")
        name = "memory.max" if path == group.unified_path else "memory.limit_in_bytes"
        assert Path(f"{path}/{name}").read_text().strip() == str(size)
