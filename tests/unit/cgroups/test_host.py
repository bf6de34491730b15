import pytest

from engine.cgroups import host as cgroup_host
from engine.cgroups.host import detect_cgroups, read_membership
from engine.cgroups.stats import parse_block_v1, parse_block_v2, parse_network


@pytest.fixture
def host(tmp_path):
    def detect(mounts, membership, user_id):
        (tmp_path / "mountinfo").write_text(mounts.format(base=tmp_path))
        (tmp_path / "membership").write_text(membership)
        return detect_cgroups(
            mountinfo_path=str(tmp_path / "mountinfo"),
            membership_path=str(tmp_path / "membership"),
            user_id=user_id,
        )

    return detect


V1 = (
    "32 31 0:29 / {base}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:31 / {base}/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V2 = "35 31 0:38 / {base}/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"


def make_directories(tmp_path):
    for name in ("cpu", "cpuset", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("cpu memory pids\n")


@pytest.mark.parametrize(("mounts", "mode"), [(V1, "v1"), (V2, "v2"), (V1 + V2, "hybrid")])
def test_root_finds_what_the_host_has(host, tmp_path, mounts, mode):
    make_directories(tmp_path)
    found = host(mounts, "0::/\n", 0)
    assert found.mode == mode
    assert found.parent == "/lamella"
    if mode != "v2":
        assert found.hierarchies[0].controllers == ("cpuset",)
        assert {"cpu", "cpuacct"} <= found.controllers


def test_a_host_without_control_groups_says_so(host):
    found = host("1 0 254:0 / / rw - ext4 /dev/vda rw\n", "", 0)
    assert found.mode == "none"
    assert not found.can_freeze
    assert found.missing[0].remedy


def test_a_user_gets_the_group_that_his_session_was_given(host, tmp_path):
    make_directories(tmp_path)
    own = tmp_path / "unified/user.slice/run.scope"
    own.mkdir(parents=True)
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (own / name).touch()
    (own / "cgroup.controllers").write_text("memory pids\n")
    for group in ("/user.slice/run.scope", "/user.slice/run.scope/lamella-session"):
        found = host(V2, f"0::{group}\n", 1000)
        assert found.parent == "/user.slice/run.scope/lamella"
        assert found.controllers == {"memory", "pids"}
        assert [feature.name for feature in found.missing] == ["cpu"]


@pytest.mark.parametrize(
    ("has_systemd", "remedy"), [(True, "Delegate=yes"), (False, "Run Lamella as root")]
)
def test_a_user_without_a_group_is_told_how_to_get_one(
    host, tmp_path, monkeypatch, has_systemd, remedy
):
    make_directories(tmp_path)
    monkeypatch.setattr(cgroup_host, "is_booted_with_systemd", lambda: has_systemd)
    found = host(V2, "0::/\n", 1000)
    assert found.hierarchies == ()
    assert remedy in found.missing[0].remedy


def test_membership_is_by_controller(tmp_path):
    (tmp_path / "cgroup").write_text("2:cpu,cpuacct:/a:b\n1:name=systemd:/c\n0::/d\n")
    assert read_membership(str(tmp_path / "cgroup")) == {
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        "name=systemd": "/c",
        "": "/d",
    }


def test_counters_are_summed_over_devices():
    assert parse_block_v1(b"8:0 Read 5\n8:0 Write 7\n8:16 Read 1\nTotal 13\n") == (6, 7)
    assert parse_block_v2(b"8:0 rbytes=5 wbytes=7 rios=1\n8:16 rbytes=1 wbytes=0\n") == (6, 7)
    assert parse_network(b"  lo: 9 0 0 0 0 0 0 0 9\neth0: 4 0 0 0 0 0 0 0 2 0\n") == (4, 2)
