"""Volumes and mounts of an ordinary user, in a user namespace with many ids and with one."""

import json
import os

from tests.staging import left_in_staging


def test_a_volume_is_filled_shared_measured_and_removed_with_what_others_own(session):
    session.done("run", "--rm", "-v", "files:/etc", "starter", "sh", "-c", "echo x > /etc/mine")
    listed = session.done("run", "--rm", "-v", "files:/d", "starter", "ls", "/d").split()
    assert {"mine", "passwd"} <= set(listed)
    # A directory that only another id of the container may enter, where there are others.
    script = "mkdir /d/own; chown 1000:1000 /d/own 2>/dev/null; chmod 700 /d/own; exit 0"
    session.done("run", "--rm", "-v", "files:/d", "starter", "sh", "-c", script)
    (document,) = json.loads(session.done("volume", "inspect", "files"))
    assert os.path.dirname(document["mount_point"]) == str(session.store / "volumes" / "files")
    session.done("volume", "rm", "files")
    assert os.listdir(session.store / "volumes") == []
    assert left_in_staging(session.store) == []


def test_a_volume_whose_top_belongs_to_another_id_is_used_again_and_pruned(session):
    own = "chown 1000:1000 /d 2>/dev/null; echo y > /d/y; chmod 700 /d; exit 0"
    session.done("run", "--rm", "-v", "files:/d", "starter", "sh", "-c", own)
    assert session.done("run", "--rm", "-v", "files:/d", "starter", "cat", "/d/y") == "y"
    pruned = session.done("volume", "prune", "-af").splitlines()
    assert pruned[:2] == ["Deleted Volumes:", "files"]
    assert pruned[-1] == "Total reclaimed space: 2 B"
    assert os.listdir(session.store / "volumes") == []


def test_anonymous_volumes_go_with_their_container(session):
    session.done("run", "--rm", "-v", "/one", "starter", "touch", "/one/x")
    assert session.done("volume", "ls", "-q") == ""
    session.done("create", "--name", "web", "-v", "/one", "starter", "true")
    session.done("rm", "-v", "web")
    assert session.done("volume", "ls", "-q") == ""


def test_paths_of_the_host_and_tmpfs_are_mounted(session):
    source = session.store / "made" / "here"
    script = "echo z > /b/z; cat /b/z; touch /ro/x; stat -c %a /t; wc -c < /etc/one"
    told = session.lamella(
        *("run", "--rm", "-v", f"{source}:/b", "--tmpfs", "/t:size=1m,mode=1700"),
        *("--mount", "type=bind,src=/bin/busybox,dst=/etc/one,ro"),
        *("--mount", f"type=bind,src={session.store},dst=/ro,readonly"),
        *("starter", "sh", "-c", script),
    )
    assert "Read-only file system" in told.stderr
    lines = told.stdout.split()
    assert lines[:2] == ["z", "1700"]
    assert int(lines[2]) == os.stat("/bin/busybox").st_size


def test_what_this_user_may_not_mount_is_said_with_a_remedy(session):
    refused = session.lamella("run", "--rm", "-v", "/root/none:/b", "starter", "true")
    assert refused.returncode == 125
    assert "error while creating mount source path '/root/none'" in refused.stderr
    assert "hint: " in refused.stderr
    shared = session.lamella(
        *("run", "--rm", "--mount", "type=bind,src=/etc,dst=/b,bind-propagation=rshared"),
        *("starter", "true"),
    )
    assert shared.returncode == 125
    assert "is not a shared mount" in shared.stderr
    assert session.done("ps", "-aq") == ""
