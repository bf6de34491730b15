"""Copies and commits of an ordinary user, in a user namespace with many ids and with one.

Every command has a launcher, and so a user namespace, of its own: what was started by one is
copied from by another.
"""

import json
import stat
import tarfile

MAKES = """
mkdir -p /srv/deep; echo one > /srv/deep/file; ln -s deep/file /srv/link; chmod 700 /srv/deep
rm /etc/passwd; echo made; exec sleep 1000
"""


def test_files_go_in_and_out_of_containers_that_run_and_that_do_not(session):
    session.done("run", "-d", "--name", "web", "starter", "sh", "-c", MAKES)
    while "made" not in session.done("logs", "web"):
        pass
    here = session.store.parent / f"copies-{session.store.name}"
    session.python("-c", f"import os; os.makedirs({str(here)!r}, exist_ok=True)")
    try:
        for turn in ("running", "exited"):
            session.done("cp", "-q", "web:/srv", f"{here}/{turn}")
            assert (here / turn / "deep/file").read_text() == "one\n"
            assert (here / turn / "deep").stat().st_uid == session.user_id
            assert (here / turn / "link").is_symlink()
            session.done("cp", "-q", f"{here}/{turn}", "web:/back")
            session.done(
                "cp",
                "-q",
                f"web:/back/{turn}/." if turn == "exited" else "web:/back/.",
                f"{here}/again-{turn}",
            )
            assert (here / f"again-{turn}/deep/file").read_text() == "one\n"
            changes = session.done("diff", "web").splitlines()
            assert {"A /back", "A /srv/deep/file", "D /etc/passwd"} <= set(changes)
            session.lamella("kill", "web")
            session.done("wait", "web")
    finally:
        session.python("-c", f"import shutil; shutil.rmtree({str(here)!r})")


def test_a_commit_is_what_the_container_was(session):
    session.done("run", "-d", "--name", "web", "starter", "sh", "-c", MAKES)
    while "made" not in session.done("logs", "web"):
        pass
    made = session.lamella("commit", "-m", "why", "web", "mine")
    assert made.returncode == 0, made.stderr
    features = json.loads(session.done("info", "--format", "json"))["features"]
    can_pause = all(one["is_available"] for one in features if one["name"] == "pause")
    assert can_pause is not ("was not paused" in made.stderr)
    script = "cat /srv/deep/file; readlink /srv/link; test ! -e /etc/passwd && echo gone"
    assert session.done("run", "--rm", "mine", "sh", "-c", script).split() == [
        "one",
        "deep/file",
        "gone",
    ]
    (top, *_rest) = session.done("history", "mine").splitlines()[1:]
    assert "why" in top
    session.done("create", "--name", "two", "mine")
    assert session.done("diff", "two") == ""


def test_an_export_has_the_owners_of_the_container(session):
    session.done("create", "--name", "web", "starter")
    archive = session.store / "web.tar"
    session.done("export", "-o", str(archive), "web")
    with tarfile.open(archive) as found:
        members = {member.name: member for member in found}
    assert members["bin"].isdir()
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    archive.unlink()
