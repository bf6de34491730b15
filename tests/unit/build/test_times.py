"""The times that a build writes."""

import hashlib
import zlib

import pytest

from engine.build.times import DEFAULT_EPOCH_SECONDS, BuildTimes, build_times
from engine.types import BuildRequest

COMMIT = (
    b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
    b"author A <a@example.com> 1500000000 +0200\n"
    b"committer B <b@example.com> 1600000000 +0000\n\n"
    b"committer C <c@example.com> 1700000000 +0000\n"
)


def commit(context, document=COMMIT):
    stored = b"commit %d\0%b" % (len(document), document)
    name = hashlib.sha1(stored, usedforsecurity=False).hexdigest()
    directory = context / ".git/objects" / name[:2]
    directory.mkdir(parents=True)
    (directory / name[2:]).write_bytes(zlib.compress(stored))
    (context / ".git/refs/heads").mkdir(parents=True)
    (context / ".git/refs/heads/main").write_text(f"{name}\n")
    (context / ".git/HEAD").write_text("ref: refs/heads/main\n")


def test_files_are_of_1980_if_nobody_says_anything(tmp_path):
    times = build_times(BuildRequest(context=tmp_path))

    assert times == BuildTimes(
        latest_seconds=DEFAULT_EPOCH_SECONDS, created_seconds=DEFAULT_EPOCH_SECONDS
    )


def test_a_commit_makes_the_image_younger_and_no_file(tmp_path):
    commit(tmp_path)

    times = build_times(BuildRequest(context=tmp_path))

    assert times == BuildTimes(latest_seconds=DEFAULT_EPOCH_SECONDS, created_seconds=1_600_000_000)


@pytest.mark.parametrize("head", ["ref: refs/heads/other\n", "ref: /etc/passwd\n", "0\n", ""])
def test_a_repository_that_cannot_be_read_says_nothing(tmp_path, head):
    commit(tmp_path)
    (tmp_path / ".git/HEAD").write_text(head)

    assert build_times(BuildRequest(context=tmp_path)).created_seconds == DEFAULT_EPOCH_SECONDS


def test_what_the_request_says_is_for_files_and_image(tmp_path):
    commit(tmp_path)
    said = BuildRequest(context=tmp_path, epoch_seconds=0, arguments=(("SOURCE_DATE_EPOCH", "7"),))
    argument = BuildRequest(context=tmp_path, arguments=(("SOURCE_DATE_EPOCH", "7"),))

    assert build_times(said) == BuildTimes(latest_seconds=0, created_seconds=0)
    assert build_times(argument) == BuildTimes(latest_seconds=7, created_seconds=7)


def test_times_may_be_as_they_happen(tmp_path):
    request = BuildRequest(context=tmp_path, keeps_times=True, epoch_seconds=7)

    assert build_times(request) == BuildTimes(latest_seconds=None, created_seconds=None)
