"""The jobs on volumes' files, called as functions."""

import json
import os
import signal

import msgspec
import pytest

from engine.snapshots.base import DIFF_NAME, INDEX_NAME
from engine.snapshots.index import MergedTree, encode_index, make_index
from engine.snapshots.job_parts import FillArguments
from engine.snapshots.scan import scan_tree
from engine.snapshots.volume_files import fill_volume, find_directory


@pytest.fixture
def layer(tmp_path):
    """A layer with files in /srv, and links to it and out of it."""
    directory = tmp_path / "layer"
    diff = directory / DIFF_NAME
    (diff / "srv" / "deep").mkdir(parents=True)
    (diff / "srv" / "file").write_text("content")
    os.link(diff / "srv" / "file", diff / "srv" / "deep" / "same")
    (diff / "var").mkdir()
    for name, target in (
        ("absolute", "/srv"),
        ("climbing", "../../../../srv/./deep/.."),
        ("chain", "absolute"),
        ("round", "round"),
        ("nowhere", "/nothing"),
    ):
        (diff / "var" / name).symlink_to(target)
    index = index_of(diff)
    (directory / INDEX_NAME).write_bytes(encode_index(index))
    return directory


def index_of(diff):
    root = os.open(diff, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return make_index(scan_tree(root))
    finally:
        os.close(root)


@pytest.fixture
def volume(tmp_path):
    (tmp_path / "volume" / "_data").mkdir(parents=True)
    return tmp_path / "volume"


def fill(layer, volume, staging, *, path="srv", report=lambda _step: None):
    staging.mkdir()
    arguments = FillArguments(layer_paths=(str(layer),), path_hex=os.fsencode(path).hex())
    descriptors = [os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in (volume, staging)]
    try:
        return json.loads(fill_volume(msgspec.json.encode(arguments), descriptors, report))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/srv", b"srv"),
        (b"srv//deep/", b"srv/deep"),
        (b"/var/absolute/deep", b"srv/deep"),
        (b"/var/climbing", b"srv"),
        (b"/var/chain", b"srv"),
        (b"/../../srv", b"srv"),
        (b"/", b""),
        (b"/var/round", None),
        (b"/var/nowhere", None),
        (b"/srv/file", None),
        (b"/srv/file/below", None),
    ],
)
def test_a_path_is_followed_inside_the_image_only(layer, path, found):
    tree = MergedTree.of([index_of(layer / DIFF_NAME)])
    assert find_directory(tree, path) == found


def test_an_empty_volume_gets_the_files_and_their_links(layer, volume, tmp_path):
    assert fill(layer, volume, tmp_path / "staging") is True
    first, second = volume / "_data" / "file", volume / "_data" / "deep" / "same"
    assert first.read_text() == "content"
    assert first.samefile(second)
    assert os.listdir(tmp_path / "staging") == []


def test_one_with_files_is_left_alone(layer, volume, tmp_path):
    (volume / "_data" / "mine").touch()
    assert fill(layer, volume, tmp_path / "staging") is False
    assert os.listdir(volume / "_data") == ["mine"]


def test_what_is_written_while_it_is_filled_stays_and_the_copy_goes(layer, volume, tmp_path):
    def write_meanwhile(step):
        if json.loads(step)["step"] == "copied":
            (volume / "_data" / "mine").touch()

    assert fill(layer, volume, tmp_path / "staging", report=write_meanwhile) is False
    assert os.listdir(volume / "_data") == ["mine"]


@pytest.mark.parametrize(("step", "expected"), [("copied", []), ("placed", ["deep", "file"])])
def test_a_fill_that_is_killed_leaves_nothing_or_all(layer, volume, tmp_path, step, expected):
    child = os.fork()
    if child == 0:

        def die_at(told):
            if json.loads(told)["step"] == step:
                os.kill(os.getpid(), signal.SIGKILL)

        fill(layer, volume, tmp_path / "first", report=die_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert sorted(os.listdir(volume / "_data")) == expected
    assert fill(layer, volume, tmp_path / "second") is not bool(expected)
    assert sorted(os.listdir(volume / "_data")) == ["deep", "file"]
