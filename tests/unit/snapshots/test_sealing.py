"""A writable directory becomes a layer as it lies there."""

import hashlib
import io
import os
import socket
import stat
import tarfile

import pytest

from engine.snapshots.index import read_index
from engine.snapshots.layer_tar import write_layer_tar
from engine.snapshots.sealing import LayerSealer
from engine.types import FileKind

EPOCH = 1_000_000
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices and owners")


class Layer:
    def __init__(self, path):
        self.path = path
        self.diff = path / "diff"
        self.diff.mkdir(parents=True)

    def seal(self, *lowers, places=(), started_at_ns=0, epoch_ns=EPOCH * 10**9):
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sealer = LayerSealer(
                descriptor,
                lower_paths=[str(lower.diff) for lower in lowers],
                epoch_ns=epoch_ns,
                started_at_ns=started_at_ns,
            )
            sealer.settle(places)
            self.is_empty = sealer.is_empty
            return sealer.digest()
        finally:
            os.close(descriptor)

    def tar(self):
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        written = io.BytesIO()
        try:
            write_layer_tar(descriptor, written.write, "the layer")
        finally:
            os.close(descriptor)
        return written.getvalue()

    def names(self):
        with tarfile.open(fileobj=io.BytesIO(self.tar())) as tar:
            return tar.getnames()


@pytest.fixture
def layer(tmp_path):
    return Layer(tmp_path / "layer")


@pytest.fixture
def lower(tmp_path):
    return Layer(tmp_path / "lower")


def test_the_tar_of_a_layer_has_its_diff_id(layer):
    (layer.diff / "etc").mkdir()
    (layer.diff / "etc" / "motd").write_bytes(b"hello")
    (layer.diff / "link").symlink_to("etc/motd")

    sealed = layer.seal()

    tar = layer.tar()
    assert sealed.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert sealed.tar_bytes == len(tar)
    assert (sealed.size_bytes, sealed.entry_count) == (5, 3)
    assert layer.names() == ["etc", "etc/motd", "link"]


def test_the_index_has_what_the_tar_has(layer):
    (layer.diff / "file").write_bytes(b"hello")
    layer.seal()

    (entry,) = read_index(str(layer.path / "index")).entries
    assert (entry.path, entry.kind, entry.size_bytes) == (b"file", FileKind.FILE, 5)
    assert entry.content_digest == hashlib.sha256(b"hello").digest()


def test_the_same_files_give_the_same_bytes_whenever_they_were_made(tmp_path):
    digests = []
    for number, order in enumerate((("a", "b", "c"), ("c", "b", "a"))):
        layer = Layer(tmp_path / str(number))
        for name in order:
            (layer.diff / name).write_text(name)
        digests.append(layer.seal().diff_id)

    assert digests[0] == digests[1]


def test_times_after_the_epoch_are_set_back_in_the_tar_and_on_disk(layer):
    new, old = layer.diff / "new", layer.diff / "old"
    for path, seconds in ((new, EPOCH + 5), (old, EPOCH - 5)):
        path.write_bytes(b"")
        os.utime(path, ns=(0, seconds * 10**9 + 123))

    layer.seal()

    assert new.stat().st_mtime_ns == EPOCH * 10**9
    assert old.stat().st_mtime_ns == (EPOCH - 5) * 10**9
    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as tar:
        assert [member.mtime for member in tar] == [EPOCH, EPOCH - 5]


def test_times_stay_if_there_is_no_epoch(layer):
    (layer.diff / "file").write_bytes(b"")
    os.utime(layer.diff / "file", ns=(0, (EPOCH + 5) * 10**9 + 123))

    layer.seal(epoch_ns=None)

    assert (layer.diff / "file").stat().st_mtime_ns == (EPOCH + 5) * 10**9


def test_hard_links_stay_what_they_are(layer):
    (layer.diff / "a").write_bytes(b"hello")
    (layer.diff / "b").hardlink_to(layer.diff / "a")

    sealed = layer.seal()

    assert sealed.size_bytes == 5
    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as tar:
        assert [(member.name, member.linkname) for member in tar] == [("a", ""), ("b", "a")]


def test_sockets_are_left_out(layer):
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(layer.diff, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
        os.mkfifo(layer.diff / "pipe")

        layer.seal()

    assert layer.names() == ["pipe"]
    assert os.listdir(layer.diff) == ["pipe"]


def test_nothing_written_is_an_empty_layer(layer, lower):
    layer.seal(lower)

    assert layer.is_empty


def test_a_directory_that_was_only_copied_up_is_no_change(layer, lower):
    for one in (layer, lower):
        (one.diff / "var" / "log").mkdir(parents=True)

    layer.seal(lower)

    assert layer.is_empty
    assert os.listdir(layer.diff) == []


def test_a_directory_with_another_mode_is_a_change(layer, lower):
    for one in (layer, lower):
        (one.diff / "var").mkdir()
    (layer.diff / "var").chmod(0o700)

    layer.seal(lower)

    assert layer.names() == ["var"]


def test_a_file_that_was_copied_up_unchanged_is_no_change(layer, lower):
    for one in (layer, lower):
        (one.diff / "file").write_bytes(b"hello")
        os.utime(one.diff / "file", ns=(5, 5 * 10**9))
    (layer.diff / "new").write_bytes(b"")

    layer.seal(lower, started_at_ns=10 * 10**9)

    assert layer.names() == ["new"]
    assert os.listdir(layer.diff) == ["new"]


def test_what_the_engine_mounted_on_leaves_nothing(layer, lower):
    (lower.diff / "srv").mkdir()
    (layer.diff / "srv" / "cache" / "deep").mkdir(parents=True)
    (layer.diff / "run").mkdir()
    (layer.diff / "run" / "secret").write_bytes(b"")
    (layer.diff / "run" / "kept").write_bytes(b"kept")

    layer.seal(lower, places=(b"/srv/cache/deep", b"/run/secret"))

    assert layer.names() == ["run", "run/kept"]


def test_a_place_behind_a_link_is_found(layer, lower):
    (lower.diff / "run").mkdir()
    (lower.diff / "var").mkdir()
    (lower.diff / "var" / "run").symlink_to("/run")
    (layer.diff / "run" / "cache").mkdir(parents=True)

    layer.seal(lower, places=(b"/var/run/cache",))

    assert layer.is_empty


def test_a_place_that_a_program_has_filled_stays(layer):
    (layer.diff / "cache").mkdir()
    (layer.diff / "cache" / "file").write_bytes(b"x")

    layer.seal(places=(b"/cache",))

    assert layer.names() == ["cache", "cache/file"]


@needs_root
def test_what_was_removed_is_marked(layer, lower):
    (lower.diff / "etc").mkdir()
    (lower.diff / "etc" / "motd").write_bytes(b"hello")
    (layer.diff / "etc").mkdir()
    os.mknod(layer.diff / "etc" / "motd", stat.S_IFCHR, 0)

    sealed = layer.seal(lower)

    assert layer.names() == ["etc", "etc/.wh.motd"]
    assert sealed.entry_count == 1


@needs_root
def test_a_directory_that_replaced_another_says_so(layer, lower):
    (lower.diff / "srv").mkdir()
    (layer.diff / "srv").mkdir()
    os.setxattr(layer.diff / "srv", "trusted.overlay.opaque", b"y")

    layer.seal(lower)

    assert layer.names() == ["srv", "srv/.wh..wh..opq"]
    assert read_index(str(layer.path / "index")).entries[0].is_opaque


@needs_root
def test_owners_devices_and_attributes_are_kept(layer):
    (layer.diff / "file").write_bytes(b"x")
    os.chown(layer.diff / "file", 1000, 1001)
    os.setxattr(layer.diff / "file", "user.note", b"v")
    os.mknod(layer.diff / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    layer.seal()

    with tarfile.open(fileobj=io.BytesIO(layer.tar())) as tar:
        file, null = tar.getmembers()
    assert (file.uid, file.gid, file.uname, file.gname) == (1000, 1001, "", "")
    assert file.pax_headers["SCHILY.xattr.user.note"] == "v"
    assert (null.devmajor, null.devminor) == (1, 3)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_another_content_and_the_old_time_stays(layer, lower, kind):
    for one, content in ((lower, "old"), (layer, "new")):
        path = one.diff / "one"
        path.write_text(content) if kind == "file" else path.symlink_to(content)
        os.utime(path, (5, 5), follow_symlinks=False)

    layer.seal(lower, started_at_ns=10**12)

    assert layer.names() == ["one"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_was_copied_up_and_never_changed_goes(layer, lower, kind):
    for one in (lower, layer):
        path = one.diff / "one"
        path.write_text("old") if kind == "file" else path.symlink_to("old")
        os.utime(path, (5, 5), follow_symlinks=False)

    layer.seal(lower, started_at_ns=10**12)

    assert layer.is_empty


def test_a_large_file_among_small_ones_has_the_digests_of_what_it_holds(layer):
    contents = {"a": b"first", "b": os.urandom(9 << 20) + b"end", "c": b"last"}
    for name, content in contents.items():
        (layer.diff / name).write_bytes(content)

    sealed = layer.seal()

    tar = layer.tar()
    assert sealed.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        assert {one.name: members.extractfile(one).read() for one in members} == contents
    entries = read_index(str(layer.path / "index")).entries
    assert {os.fsdecode(one.path): one.content_digest for one in entries} == {
        name: hashlib.sha256(content).digest() for name, content in contents.items()
    }
