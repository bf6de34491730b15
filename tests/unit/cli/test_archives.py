"""`save` and `import` over the engine that answers from memory."""

import io
import os
import tarfile

import pytest

from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def engine():
    engine = FakeEngine()
    engine.add_image("web:latest")
    engine.add_image("db:1")
    return engine


@pytest.fixture
def lamella(capfd, engine):
    def call(*words):
        code = main(words, opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("file"), io.BytesIO())
    return path


def test_images_are_saved_to_a_file_or_to_standard_output(lamella, tmp_path):
    code, out, err = lamella("save", "-o", str(tmp_path / "saved"), "web:latest", "db:1")
    assert (code, out, err) == (0, "", "")
    assert (tmp_path / "saved").read_text() == "web:latest\ndb:1"
    assert lamella("save", "web:latest") == (0, "web:latest", "")


def test_an_archive_is_not_written_to_a_terminal(lamella, monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    code, out, err = lamella("save", "web:latest")
    assert code == 1
    assert out == ""
    assert "cowardly refusing to save to a terminal. Use the -o flag or redirect" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("save",), "needs at least 1 argument"),
        (("save", "--format", "zip", "web"), "unknown format: zip"),
        (("save", "--compress", "xz", "web"), "unknown compression: xz"),
        (("save", "-o", "", "web"), "the output file's name is empty"),
        (("save", "-o", "/tmp/never", "nobody"), "No such image: nobody"),
        (("import", "x.tar", ""), "the image's name is empty"),
        (("import", "https://example.org/x.tar"), "curl -fL https://example.org/x.tar"),
        (("import", "/not/there.tar"), "No such file or directory"),
        (("import", "--platform", "windows/amd64", "/x"), "operating system is not supported"),
    ],
)
def test_what_makes_no_sense_is_said(lamella, words, text):
    code, out, err = lamella(*words)
    assert code != 0
    assert out == ""
    assert text in err


def test_an_import_prints_the_id_and_takes_instructions(lamella, engine, root):
    code, out, err = lamella(
        "import", "-c", "CMD echo hi", "-m", "mine", "--platform", "linux/arm64", str(root), "new"
    )
    assert (code, err) == (0, "")
    made = next(image for image in engine.images.values() if "new:latest" in image.summary.names)
    assert out.strip() == made.summary.image_id
    assert made.config.command == ("/bin/sh", "-c", "echo hi")
    assert made.architecture == "arm64"
    assert made.layers[0].comment == "mine"
