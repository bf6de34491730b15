"""What is found out about the host, and how it is kept."""

import errno
import json
import os
import pwd
import shutil

import pytest

from engine import host
from engine.errors import SyscallError
from engine.host import probe_host


@pytest.fixture
def store(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


def probe(store):
    return probe_host(run=store / "run", scratch=store / "root")


def test_every_missing_feature_has_a_reason_and_a_remedy(store):
    facts = probe(store)
    assert {"kernel", "overlay", "seccomp", "user namespace"} <= {
        feature.name for feature in facts.features
    }
    for feature in facts.features:
        assert feature.detail
        assert bool(feature.remedy) is not feature.is_available


def test_nothing_is_left_of_the_trial(store):
    probe(store)
    assert list((store / "root").iterdir()) == []


def test_the_answer_is_kept_for_this_boot_and_store(store, monkeypatch):
    facts = probe(store)
    monkeypatch.setattr(host, "_probe_root", None)
    monkeypatch.setattr(host, "_probe_rootless", None)
    assert probe(store) == facts


def test_a_damaged_or_foreign_answer_is_found_out_afresh(store):
    facts = probe(store)
    kept = store / "run" / "host.json"
    for content in ("{", "[]", json.dumps({"key": "another boot"})):
        kept.write_text(content)
        assert probe(store) == facts


def test_a_run_directory_that_cannot_be_written_only_costs_time(store):
    shutil.rmtree(store / "run")
    assert probe(store).features


@pytest.mark.skipif(os.geteuid() != 0, reason="root mounts here; others in a namespace")
def test_a_file_system_that_overlay_cannot_use_means_copies(store, monkeypatch):
    def refuse(directory, *, uses_user_xattrs):
        raise SyscallError("mount overlay", errno.EINVAL, "upper")

    monkeypatch.setattr(host.overlay_trial, "try_overlay", refuse)
    facts = probe(store)
    assert facts.snapshotter == "copy"
    (feature,) = (feature for feature in facts.features if feature.name == "overlay")
    assert "layers are copied" in feature.detail
    assert "--root" in feature.remedy


def test_the_user_namespace_s_remedy_names_the_switch_that_is_off(monkeypatch):
    for switch, value in (
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("user.max_user_namespaces", "0"),
    ):
        path = "/proc/sys/" + switch.replace(".", "/")
        monkeypatch.setattr(
            host, "_read", lambda asked, path=path, value=value: value if asked == path else ""
        )
        feature = host._user_namespace_feature("EPERM")
        assert not feature.is_available
        assert switch in feature.remedy


def test_lingering_is_asked_for_only_where_systemd_ends_sessions(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_LINGER_DIRECTORY", tmp_path)
    monkeypatch.setattr(host, "is_booted_with_systemd", lambda: False)
    assert host.lingering_feature() is None
    monkeypatch.setattr(host, "is_booted_with_systemd", lambda: True)
    feature = host.lingering_feature()
    assert (feature.is_available, feature.remedy) == (False, "loginctl enable-linger")
    (tmp_path / pwd.getpwuid(os.geteuid()).pw_name).touch()
    assert host.lingering_feature().is_available


def test_overlay_is_found_below_a_path_of_any_length(store):
    deep = store / "root" / ("x:" * 100) / ("y" * 200)
    deep.mkdir(parents=True)
    facts = probe_host(run=store / "run", scratch=deep)
    assert facts.snapshotter == probe(store).snapshotter
