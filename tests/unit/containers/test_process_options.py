"""Process options of a request: what is refused in Docker's words, and what the rest becomes."""

import pytest

from engine.containers.privileges import hidden_paths, resolve_capabilities, seccomp_filter
from engine.containers.process_options import check_host, check_options
from engine.errors import FeatureUnavailableError, InvalidInputError
from engine.linux.capabilities import CAPABILITY_NAMES, capability_number
from engine.runtime.isolation import DEFAULT_CAPABILITIES
from engine.types import DeviceRequest, ProcessOptions, Ulimit

EVERY = frozenset(range(len(CAPABILITY_NAMES)))


def numbers(*names: str) -> frozenset[int]:
    return frozenset(capability_number(name) for name in names)


def device(host: str = "/dev/fuse", container: str = "/dev/fuse", access: str = "rwm"):
    return (DeviceRequest(host_path=host, container_path=container, access=access),)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cap_add": ("BOGUS",)}, 'unknown capability: "CAP_BOGUS"'),
        ({"cap_drop": ("cap_x",)}, 'unknown capability: "CAP_X"'),
        ({"cap_add": ("",)}, 'unknown capability: "CAP_"'),
        ({"seccomp_profile": "{}"}, "Decoding seccomp profile failed"),
        ({"group_add": ("",)}, "invalid group"),
        ({"group_add": ("a\nb",)}, "invalid group"),
        ({"ulimits": (Ulimit(name="files", soft=1, hard=1),)}, "invalid ulimit type: files"),
        (
            {"ulimits": (Ulimit(name="nofile", soft=2, hard=1),)},
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (
            {"ulimits": (Ulimit(name="nofile", soft=-1, hard=1),)},
            "ulimit soft limit must be less than or equal to hard limit: -1 > 1",
        ),
        ({"ulimits": (Ulimit(name="nofile", soft=-2, hard=-2),)}, "invalid ulimit: nofile=-2"),
        ({"devices": device("fuse")}, "'fuse' is not an absolute path"),
        ({"devices": device(container="dev/fuse")}, "'dev/fuse' is not an absolute path"),
        ({"devices": device(container="/dev/../etc/x")}, "is not an absolute path"),
        ({"devices": device(container="/dev/")}, "cannot be put in the place of /dev/"),
        ({"devices": device(access="rx")}, "bad mode specified: rx"),
        ({"devices": device(access="")}, "bad mode specified"),
        ({"pid_mode": "private"}, "--pid: invalid PID mode: private"),
        ({"pid_mode": "container:"}, "--pid: invalid PID mode"),
        ({"ipc_mode": "shared"}, "--ipc: invalid IPC mode: shared"),
        ({"uts_mode": "container:web"}, "--uts: invalid UTS mode"),
        ({"user_namespace_mode": "keep-id"}, "--userns: invalid USER mode: keep-id"),
        ({"cgroup_namespace_mode": "container:web"}, "--cgroupns: invalid CGROUP mode"),
        ({"sysctls": (("kernel.panic", "1"),)}, "sysctl 'kernel.panic=1' is not allowed"),
        ({"sysctls": (("vm.swappiness", "1"),)}, "is not allowed"),
        ({"sysctls": (("net.ipv4/../../kernel/panic", "1"),)}, "is not allowed"),
        ({"sysctls": (("net.", "1"),)}, "is not allowed"),
        (
            {"sysctls": (("kernel.shmmax", "1"),), "ipc_mode": "host"},
            "is not in a separate kernel namespace",
        ),
        (
            {"sysctls": (("fs.mqueue.msg_max", "1"),), "ipc_mode": "container:web"},
            "is not in a separate kernel namespace",
        ),
        ({"oom_score_adjustment": 1001}, "range for oom score adj is"),
        ({"oom_score_adjustment": -1001}, "range for oom score adj is"),
        ({"shared_memory_bytes": -1}, "SHM size can not be less than 0"),
    ],
)
def test_what_can_work_nowhere_is_refused_with_what_to_do(options, text):
    with pytest.raises(InvalidInputError, match=text) as caught:
        check_options(ProcessOptions(**options), hostname=None)
    assert caught.value.exit_code == 125
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cap_add": ("ALL", "cap_net_raw"), "cap_drop": ("chown",)},
        {"ulimits": (Ulimit(name="nofile", soft=-1, hard=-1),)},
        {"ulimits": (Ulimit(name="core", soft=0, hard=-1),)},
        {"devices": device(container="/opt/fuse", access="r")},
        {"pid_mode": "host", "ipc_mode": "container:web", "uts_mode": "host"},
        {"ipc_mode": "none"},
        {"sysctls": (("net.ipv4.conf.eth0:1.forwarding", "1"), ("kernel.shm_rmid_forced", "1"))},
        {"oom_score_adjustment": -1000},
    ],
)
def test_what_can_work_is_let_through(options):
    check_options(ProcessOptions(**options), hostname=None)


def test_a_name_of_its_own_contradicts_the_hosts():
    with pytest.raises(InvalidInputError, match="conflicting options: hostname and the UTS mode"):
        check_options(ProcessOptions(uts_mode="host"), hostname="box")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, DEFAULT_CAPABILITIES),
        ({"cap_add": ("NET_RAW",)}, DEFAULT_CAPABILITIES | numbers("NET_RAW")),
        ({"cap_drop": ("Chown",)}, DEFAULT_CAPABILITIES - numbers("CHOWN")),
        ({"cap_drop": ("ALL",)}, frozenset()),
        ({"cap_drop": ("ALL",), "cap_add": ("KILL",)}, numbers("KILL")),
        ({"cap_add": ("ALL",)}, EVERY),
        ({"cap_add": ("all",), "cap_drop": ("SYS_ADMIN",)}, EVERY - numbers("SYS_ADMIN")),
        ({"cap_add": ("ALL",), "cap_drop": ("ALL",)}, EVERY),
        ({"is_privileged": True, "cap_drop": ("CHOWN",)}, EVERY),
    ],
)
def test_capabilities_come_out_as_dockers(options, expected):
    assert resolve_capabilities(ProcessOptions(**options), EVERY) == expected


def test_what_the_host_has_not_is_left_out_of_the_defaults_and_refused_when_named():
    fewer = EVERY - numbers("CHOWN", "NET_ADMIN")
    assert numbers("CHOWN").isdisjoint(resolve_capabilities(ProcessOptions(), fewer))
    assert resolve_capabilities(ProcessOptions(cap_add=("ALL",)), fewer) == fewer
    with pytest.raises(InvalidInputError, match='environment: "CAP_NET_ADMIN"'):
        resolve_capabilities(ProcessOptions(cap_add=("net_admin",)), fewer)


def test_privileged_has_no_filter_unless_one_is_named():
    profile = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    assert seccomp_filter(ProcessOptions(is_privileged=True), EVERY) == ""
    assert seccomp_filter(ProcessOptions(is_privileged=True, seccomp_profile=profile), EVERY)
    assert seccomp_filter(ProcessOptions(seccomp_profile="unconfined"), EVERY) == ""
    assert seccomp_filter(ProcessOptions(), EVERY) != seccomp_filter(
        ProcessOptions(), DEFAULT_CAPABILITIES
    )


def test_nothing_is_hidden_from_the_privileged_and_the_unconfined():
    for options in (
        ProcessOptions(is_privileged=True),
        ProcessOptions(has_unconfined_system_paths=True),
    ):
        assert hidden_paths(options) == ((), ())
    masked, read_only = hidden_paths(ProcessOptions())
    assert "/proc/kcore" in masked
    assert "/proc/sys" in read_only


def test_what_a_host_cannot_give_is_refused_with_a_remedy():
    root = {"is_rootless": False, "has_cgroup": True, "has_seccomp": True}
    user = {**root, "is_rootless": True}
    check_host(ProcessOptions(user_namespace_mode="host", pid_mode="host"), **root)
    for options, facts in (
        ({"user_namespace_mode": "host"}, user),
        ({"pid_mode": "host"}, {**user, "has_cgroup": False}),
        ({"seccomp_profile": "{}"}, {**root, "has_seccomp": False}),
    ):
        with pytest.raises(FeatureUnavailableError, match="is not available here") as caught:
            check_host(ProcessOptions(**options), **facts)
        assert caught.value.hint
