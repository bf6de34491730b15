"""`build --output`: the files of a result, or an archive of it."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.command_line import CommandLine

pytestmark = pytest.mark.usefixtures("starter_image")

_STAGES = (
    "FROM starter AS made\nRUN mkdir /out && echo made > /out/f\n"
    "FROM scratch\nCOPY --from=made /out /\n"
)


@pytest.fixture
def lamella(store_paths):
    return CommandLine(store_paths)


@pytest.fixture
def context(tmp_path):
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(_STAGES)
    return str(directory)


def test_files_of_the_result_are_put_into_a_directory(lamella, context, tmp_path):
    done = lamella("build", "-o", str(tmp_path / "out"), context)

    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "out" / "f").read_text() == "made\n"
    assert lamella.text("ps", "-aq") == ""
    assert lamella.text("images", "-q", "--no-trunc") != done.stdout.decode()
    assert done.stdout.decode().strip() not in lamella.text("images", "-aq", "--no-trunc")


def test_files_of_the_result_are_written_as_a_tar(lamella, context):
    done = lamella("build", "-o", "-", context)

    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.extractfile("f").read() == b"made\n"


def test_an_archive_is_loaded_again_and_the_image_stays(lamella, context, tmp_path):
    path = tmp_path / "image.tar"
    done = lamella("build", "-t", "web", "-o", f"type=oci,dest={path}", context)

    assert done.returncode == 0, done.stderr.decode()
    assert lamella.text("rmi", "web")
    assert "web:latest" in lamella.text("load", "-i", str(path))
