"""Bad input at the command line: a clear error, the right exit code, and a store as it was."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.images.loading import HOST
from tests.unit.snapshots.tars import END, entry, hard_link, symlink

if TYPE_CHECKING:
    from tests.command_line import CommandLine

LAYER = entry(b"file", b"content") + END
FOREIGN = "arm64" if HOST == "amd64" else "amd64"


def archive(*layers: bytes, manifest: bytes | None = None, **changes) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": HOST,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        **changes,
    }
    names = [f"layer-{number}.tar" for number in range(len(layers))]
    item = {"Config": "config.json", "RepoTags": ["bad:1"], "Layers": names}
    members = {
        "manifest.json": json.dumps([item]).encode() if manifest is None else manifest,
        "config.json": json.dumps(config).encode(),
        **dict(zip(names, layers, strict=True)),
    }
    return b"".join(entry(name.encode(), content) for name, content in members.items()) + END


def check_refused(lamella: CommandLine, *words: str, code: int, said: str, **options) -> None:
    """Check that a command fails as it should, and leaves the store as it was."""
    before = tree(lamella.root)
    done = lamella(*words, **options)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b""), text
    assert text.startswith("Error: ")
    assert said in text
    assert "Traceback" not in text
    assert not any(ord(character) < 32 and character != "\n" for character in text)
    assert len(text) < 2000
    assert tree(lamella.root) == before


def tree(root: Path) -> set[str]:
    """Every path of a store but locks and the database's own files."""
    passing = ("lamella.db", "events.jsonl", "images.lock", ".gate")
    return {
        str(path.relative_to(root)) for path in root.rglob("*") if not path.name.startswith(passing)
    }


GOOD = archive(LAYER)
CLIMBS = symlink(b"out", b"/tmp") + entry(b"out/../../../../tmp/lamella-escaped", b"x") + END
BAD_ARCHIVES = {
    "empty": (b"", "it is empty"),
    "truncated": (GOOD[:1600], "truncated"),
    "noise": (bytes(range(1, 256)) * 9, "not a tar"),
    "gzip-cut": (b"\x1f\x8b\x08\0\0\0\0\0\0\3\1\2", "gzip"),
    "no-json": (archive(LAYER, manifest=b"{not json"), "not a valid JSON"),
    "deep-json": (archive(LAYER, manifest=b"[" * 500_000), "JSON"),
    "huge-json": (archive(LAYER, manifest=b'["' + b"x" * (20 << 20) + b'"]'), ""),
    "wrong-digest": (GOOD.replace(b"content", b"CONTENT"), "digest"),
    "other-architecture": (archive(LAYER, architecture=FOREIGN), FOREIGN),
    "climbs-up": (archive(entry(b"../../../lamella-escaped", b"x") + END), "lamella-escaped"),
    "climbs-by-link": (archive(CLIMBS), "lamella-escaped"),
    "hard-link-out": (archive(hard_link(b"shadow", b"../../../../etc/shadow") + END), "shadow"),
    "removes-parent": (archive(LAYER, entry(b".wh...", b"") + END), "impossible"),
    "second-layer-bad": (archive(LAYER, entry(b"../up", b"x") + END), "up"),
    "escapes-terminal": (archive(entry(b"../\x1b]0;gone\x07\x1b[31m", b"x") + END), ""),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_is_refused(name, lamella, tmp_path):
    content, said = BAD_ARCHIVES[name]
    path = tmp_path / f"{name}.tar"
    path.write_bytes(content)
    check_refused(lamella, "load", str(path), code=1, said=said)
    assert not Path("/tmp/lamella-escaped").exists()
    assert lamella("images", "-q").stdout == b""


def test_links_of_a_layer_lead_nowhere_outside_its_root(lamella, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    layer = symlink(b"out", os.fsencode(outside)) + entry(b"out/file", b"x") + END
    path = tmp_path / "links.tar"
    path.write_bytes(archive(layer))
    lamella("load", str(path))
    assert list(outside.iterdir()) == []


def test_a_pipe_that_is_cut_short_is_refused(lamella, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(GOOD[:1600],))
    writer.start()
    check_refused(lamella, "load", str(pipe), code=1, said="truncated")
    writer.join()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("load", "/no/such/file"), 1, "No such file"),
        (("load", "/dev/zero"), 1, "empty"),
        (("load", "/proc"), 1, "no image archive"),
        (("run", "--pull", "never", "no-such-image"), 125, "No such image"),
        (("run", "UPPER:case"), 125, "invalid reference format"),
        (("create", "a\x1b[31mb"), 125, "invalid reference format"),
        (("create", "--name", "a\x1b[31mb", "bad:1"), 125, "Invalid container name"),
        (("rmi", "no-such-image"), 1, "No such image"),
        (("rm", "no-such"), 1, "No such container"),
        (("start", "no-such"), 1, "No such container"),
        (("logs", "\x1b]0;x\x07"), 1, "No such container"),
        (("network", "create", "a\x1b[31mb"), 125, "invalid network name"),
        (("network", "create", "--subnet", "10.0.0.0/\x1b[2J", "net"), 125, "invalid CIDR"),
        (("network", "rm", "\x1b]0;x\x07"), 1, "not found"),
        (("network", "connect", "bridge", "\x1b[2J"), 1, "No such container"),
        (("port", "\x1b[2J"), 1, "No such container"),
        (("run", "-p", "\x1b[2J:80", "bad:1"), 125, "invalid hostPort"),
        (("run", "--network", "\x1b[2J", "--pull", "never", "bad:1"), 125, "not found"),
        (("no-such-command",), 125, "unknown command"),
        (("run", "--no-such-option"), 125, "unknown option"),
    ],
    ids=lambda value: (
        "-".join(value).encode("unicode_escape").decode()[:40] if isinstance(value, tuple) else ""
    ),
)
def test_bad_words_are_refused(words, code, said, lamella):
    check_refused(lamella, *words, code=code, said=said)


def test_a_working_directory_that_is_gone_matters_to_nobody_but_relative_paths(lamella, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    there = os.open(gone, os.O_PATH)
    gone.rmdir()
    try:
        inside = {"preexec_fn": lambda: os.fchdir(there)}
        assert lamella("ps", **inside).returncode == 0
        check_refused(lamella, "load", "relative.tar", code=1, said="No such file", **inside)
    finally:
        os.close(there)


def test_what_an_image_says_of_itself_is_drawn_without_its_escapes(lamella, tmp_path):
    path = tmp_path / "escapes.tar"
    evil = "\x1b]0;title\x07\x1b[2J\u202e"
    layer = entry(b"\x1b[31mred", b"x") + END
    history = [{"created_by": f"RUN {evil}", "comment": evil}]
    config = {"Cmd": ["/bin/\x1b[31mred", evil], "Env": [f"A={evil}"], "Labels": {evil: evil}}
    path.write_bytes(archive(layer, config=config, history=history, author=evil))
    assert lamella("load", str(path)).returncode == 0
    assert lamella("create", "--name", "web", "bad:1").returncode == 0
    for words in (
        ("images",),
        ("history", "bad:1"),
        ("history", "--no-trunc", "bad:1"),
        ("ps", "-a"),
        ("ps", "-a", "--no-trunc"),
        ("inspect", "bad:1"),
        ("inspect", "web"),
    ):
        done = lamella(*words)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode()
        assert not any(ord(character) < 32 and character != "\n" for character in text), words
        assert "\u202e" not in text, words
    # Cannot be started: it is refused with the name made harmless.
    done = lamella("start", "-a", "web")
    assert done.returncode == 127
    assert b"\x1b" not in done.stderr
