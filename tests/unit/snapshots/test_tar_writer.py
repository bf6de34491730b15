import io
import os
import shutil
import stat
import subprocess
import tarfile

import pytest

from engine.snapshots.tar import TarReader
from engine.snapshots.tar_writer import TarEntry, TarWriter

LONG = "d" * 60 + "/" + "f" * 90
ODD = os.fsdecode(b"etc/caf\xe9")
MODIFIED_AT = 1_767_225_600


def entries(source):
    return (
        TarEntry(path="etc", mode=stat.S_IFDIR | 0o755),
        TarEntry(path="tmp", mode=stat.S_IFDIR | 0o1777),
        TarEntry(path="etc/passwd", mode=stat.S_IFREG | 0o644, content=b"root\n", user_id=7),
        TarEntry(path="etc/empty", mode=stat.S_IFREG | 0o4755),
        TarEntry(path="etc/copied", mode=stat.S_IFREG | 0o600, source=str(source), group_id=9),
        TarEntry(path=ODD, mode=stat.S_IFREG | 0o644, content=b"odd"),
        TarEntry(path="d" * 60, mode=stat.S_IFDIR | 0o755),
        TarEntry(path=LONG, mode=stat.S_IFREG | 0o644, content=b"long"),
        TarEntry(path="link", mode=stat.S_IFLNK | 0o777, link_target="etc/passwd"),
        TarEntry(path="far", mode=stat.S_IFLNK | 0o777, link_target="../" * 50 + "etc"),
        TarEntry(path="pipe", mode=stat.S_IFIFO | 0o644),
    )


@pytest.fixture
def archive(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 1000)
    path = tmp_path / "made.tar"
    with path.open("wb") as target:
        writer = TarWriter(target, modified_at=MODIFIED_AT)
        for entry in entries(source):
            writer.add(entry)
        writer.close()
    return path


def expected(tmp_path):
    kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
    return [
        (
            entry.path,
            kinds[stat.S_IFMT(entry.mode)],
            stat.S_IMODE(entry.mode),
            (entry.user_id, entry.group_id),
            entry.link_target,
            10_000 if entry.source else len(entry.content),
        )
        for entry in entries(tmp_path / "source")
    ]


def test_python_reads_the_same(archive, tmp_path):
    found = []
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as read:
        for member in read:
            kind = "d" if member.isdir() else "l" if member.issym() else "f"
            kind = "p" if member.isfifo() else kind
            owner = (member.uid, member.gid)
            found.append((member.name, kind, member.mode, owner, member.linkname, member.size))
            assert member.mtime == MODIFIED_AT
        assert read.extractfile("etc/copied").read() == b"0123456789" * 1000
        assert read.extractfile(LONG).read() == b"long"
    assert found == expected(tmp_path)


def test_gnu_tar_unpacks_the_same(archive, tmp_path):
    tar = shutil.which("tar")
    if tar is None or b"GNU tar" not in subprocess.check_output([tar, "--version"]):
        pytest.skip("needs GNU tar")
    target = tmp_path / "unpacked"
    target.mkdir()
    done = subprocess.run(
        [tar, "-x", "-p", "--no-same-owner", "-f", archive, "-C", target], capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for path, _kind, mode, _owner, link, _size in expected(tmp_path):
        status = os.lstat(target / path)
        if link:
            assert os.readlink(target / path) == link
        else:
            assert stat.S_IMODE(status.st_mode) == mode, path
            assert int(status.st_mtime) == MODIFIED_AT or stat.S_ISDIR(status.st_mode)
    assert (target / "etc/copied").read_bytes() == b"0123456789" * 1000
    assert (target / LONG).read_bytes() == b"long"


class Memory(io.BytesIO):
    """Bytes as a stream that can be skipped over."""

    def skip(self, size):
        return len(self.read(size))


def test_our_reader_reads_the_same(archive, tmp_path):
    kinds = {"directory": "d", "file": "f", "symlink": "l", "fifo": "p"}
    found = []
    reader = TarReader(Memory(archive.read_bytes()), label="made.tar")
    for entry in reader:
        content = b"".join(reader.pieces())
        found.append(
            (
                os.fsdecode(entry.name).rstrip("/"),
                kinds[entry.kind.value],
                entry.mode,
                (entry.user_id, entry.group_id),
                os.fsdecode(entry.link),
                len(content),
            )
        )
    assert found == expected(tmp_path)


def test_the_same_entries_are_the_same_bytes(tmp_path):
    entry = TarEntry(path=LONG, mode=stat.S_IFREG | 0o644, content=b"x")
    made = []
    for _ in range(2):
        target = io.BytesIO()
        writer = TarWriter(target, modified_at=MODIFIED_AT)
        writer.add(entry)
        writer.close()
        made.append(target.getvalue())
    assert made[0] == made[1]
    assert len(made[0]) % 10240 == 0
