"""Builds of an ordinary user, in a user namespace with many ids and with one."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.rootless.conftest import Session

OWNERS = """\
FROM starter
COPY --chown=33:34 site /srv/
WORKDIR /work
RUN --mount=type=secret,id=word,uid=1000,gid=1001,mode=0400 \\
    --mount=type=cache,target=/cache,uid=1000,mode=0750 \\
    stat -c %u:%g:%a /run/secrets/word /cache /srv/page && cat /run/secrets/word
"""
OTHER_USER = """\
FROM starter
RUN mkdir /mine && chown -R 1000:1000 /mine
USER 1000
RUN --mount=type=secret,id=word,uid=1000 --mount=type=cache,target=/cache,uid=1000 \\
    id -u && cat /run/secrets/word && touch /cache/x /mine/y
"""
PLAIN = """\
FROM starter AS files
RUN mkdir -p /out/deep && echo one > /out/deep/file && rm /etc/passwd
WORKDIR /srv
COPY site/ ./
FROM starter
COPY --from=files /out /copied
COPY --link --chmod=700 site/page /page
RUN --mount=from=files,target=/below,rw --mount=type=tmpfs,target=/scratch \\
    cp /below/srv/page /kept && echo x > /below/y && echo y > /scratch/z
RUN test ! -e /below/y && cat /copied/deep/file /page /kept
"""


@pytest.fixture
def context(session: Session) -> Iterator[Path]:
    """A context that the user may read."""
    top = session.store.parent / f"context-{session.store.name}"
    (top / "site").mkdir(parents=True)
    (top / "site/page").write_text("page\n")
    (top / "word").write_text("open sesame")
    (top / "site").chmod(0o755)
    # It saves an image there.
    top.chmod(0o777)
    try:
        yield top
    finally:
        shutil.rmtree(top)


def built(session: Session, context: Path, text: str, *words: str) -> str:
    """Build with success, and return what was said."""
    (context / "Dockerfile").write_text(text)
    done = session.lamella("build", "--progress", "plain", *words, str(context))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_steps_run_and_copy_and_the_second_build_is_all_cache(session, context):
    said = built(session, context, PLAIN, "--network", "none", "-t", "site")

    for line in ("one", "page"):
        assert line in said
    script = "cat /kept; stat -c %a /page"
    assert session.done("run", "--rm", "site", "sh", "-c", script).split() == ["page", "700"]
    again = built(session, context, PLAIN, "--network", "none", "-t", "site")
    assert "7 of 9 steps cached" in again
    assert "no problems" in session.done("fsck")


def test_layers_become_one_and_what_was_removed_stays_so(session, context):
    text = (
        "FROM starter AS base\nRUN mkdir -p /a/b /c && echo 1 > /a/b/f && echo 2 > /c/g\n"
        "FROM base\nRUN rm -rf /a /c/g && mkdir /a && echo 3 > /a/new\n"
        "RUN rm -rf /var && mkdir /var && echo 4 > /var/only\n"
    )
    built(session, context, text, "--network", "none", "--squash", "-t", "squashed")

    script = "echo /a/* /c/* /var/only; cat /a/new /var/only"
    said = session.done("run", "--rm", "--network", "none", "squashed", "sh", "-c", script)
    assert said.split() == ["/a/new", "/c/*", "/var/only", "3", "4"]
    assert "no problems" in session.done("fsck")
    layers = {
        name: len(
            json.loads(session.done("inspect", "--type", "image", name))[0]["RootFS"]["Layers"]
        )
        for name in ("starter", "squashed")
    }
    assert layers["squashed"] == layers["starter"] + 1


@pytest.fixture
def mapping(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["session"]


def test_owners_are_kept_where_there_are_ids_for_them_and_said_where_not(session, context, mapping):
    word = ("--secret", f"id=word,src={context}/word")
    said = built(session, context, OWNERS, "--network", "none", *word, "-t", "owners")

    owners = ["1000:1001:400", "1000:0:750", "33:34:644"]
    if mapping == "single":
        owners = [f"0:0:{one.rpartition(':')[2]}" for one in owners]
        assert "secret word: this user has no ids 1000:1001, so root owns it" in said
        assert "cache /cache: this user has no ids 1000:0, so root owns it" in said
        assert "some owners are not available to this user" in said
    assert re.findall(r"\d+:\d+:\d{3}\b", said) == owners
    assert "open sesame" in said
    # Whatever can be had here: the image says whom the file belongs to.
    session.done("save", "-o", f"{context}/owners.tar", "owners")
    with tarfile.open(context / "owners.tar") as archive:
        (page,) = (
            member
            for name in archive.getnames()
            if name.endswith(".tar") or "blobs" in name
            for member in members_of(archive, name)
            if member.name == "srv/page"
        )
    assert (page.uid, page.gid) == (33, 34)


def members_of(archive: tarfile.TarFile, name: str) -> list[tarfile.TarInfo]:
    """Entries of a layer in an archive; nothing if it is none."""
    file = archive.extractfile(name)
    if file is None:
        return []
    try:
        with tarfile.open(fileobj=file) as layer:
            return layer.getmembers()
    except tarfile.ReadError:
        return []


def test_a_step_of_another_user_runs_or_says_why_it_cannot(session, context, mapping):
    word = ("--secret", f"id=word,src={context}/word")
    if mapping == "range":
        said = built(session, context, OTHER_USER, "--network", "none", *word)
        assert "1000" in said
        return
    (context / "Dockerfile").write_text(OTHER_USER)
    done = session.lamella("build", "--network", "none", *word, str(context))
    assert done.returncode == 1
    assert "programs have one user id here" in done.stderr


@pytest.mark.parametrize("network", ["default", "none", "host"])
def test_steps_have_a_network_or_hear_why_not(session, context, network):
    text = "FROM starter\nRUN cat /proc/net/dev && false\n"
    (context / "Dockerfile").write_text(text)
    done = session.lamella("build", "--progress", "plain", "--network", network, str(context))

    assert done.returncode == 1
    assert " lo:" in done.stderr
    features = json.loads(session.done("info", "--format", "json"))["features"]
    (feature,) = (one for one in features if one["name"] == "network")
    is_told = not feature["is_available"] and network == "default"
    assert ("only its loopback device" in done.stderr) is is_told
