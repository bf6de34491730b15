import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile

import msgspec
import pytest

from engine.build.add_sources import mark_archives
from engine.build.archive_streams import ArchiveStream, is_archive
from engine.build.copy_jobs import CopyArguments, CopyRoot
from engine.build.selection import (
    SourceQuery,
    digest_selection,
    inline_source,
    select_sources,
)
from engine.errors import ArchiveError, BuildCopyError, BuildSourceChangedError
from engine.snapshots.index import read_index
from engine.snapshots.streams import zstd
from tests.unit.build.layers import make_layer, run_copy, shown, tar_of
from tests.unit.build.trees import opened_context, write_files

COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


def member(name, content=b"", **values):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in {"mtime": 50, **values}.items():
        setattr(info, key, value)
    return info, content


def directory(name, **values):
    return member(name, type=tarfile.DIRTYPE, **{"mode": 0o750, **values})


def link(name, target, **values):
    return member(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777, **values)


def hard_link(name, target):
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def archive(*members, **options):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", **options) as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return content.getvalue()


def add(context, layer, destination, *sources, lowers=(), files=(), before=None, **options):
    """What ADD does."""
    with opened_context(context) as tree:
        selection = select_sources(tree, SourceQuery(sources=sources))
        digest_selection(tree, selection)
        mark_archives(tree.root, selection)
        selection.sources += [inline_source(*file) for file in files]
        if before is not None:
            before()
        arguments = CopyArguments(
            label="ADD",
            lower_paths=tuple(str(lower / "diff") for lower in lowers),
            destination_hex=destination.encode().hex(),
            roots=(CopyRoot(),),
            **{"latest_seconds": 1000, **options},
        )
        return run_copy(arguments, make_layer(layer), selection, (tree.root,))


def opened(path):
    return open(path, "rb")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_archives_are_known_by_their_content(tmp_path, compression):
    content = COMPRESSIONS[compression](archive(member("a", b"one")))
    (tmp_path / "no-name").write_bytes(content)

    with opened(tmp_path / "no-name") as file:
        assert is_archive(file.fileno())
        stream = ArchiveStream(file.fileno(), label="it")
        assert hashlib.sha256(content).digest() == stream.finish()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"x" * 5000,
        bytes(10240),
        gzip.compress(b"", mtime=0),
        gzip.compress(bytes(10240), mtime=0),
        gzip.compress(b"text" * 1000, mtime=0),
        gzip.compress(archive(member("a")), mtime=0)[:40],
        lzma.compress(b"text"),
        bz2.compress(b""),
        b"BZh9 is how bzip2 begins",
        b"\x1f\x8b\x08 damaged",
    ],
)
def test_what_is_no_archive_is_not_taken_for_one(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)

    with opened(tmp_path / "a.tar.gz") as file:
        assert not is_archive(file.fileno())


def test_several_streams_one_after_another_are_one(tmp_path):
    content = archive(member("a", b"one" * 1000))
    for compress in (bz2.compress, lzma.compress, gzip.compress):
        (tmp_path / "a").write_bytes(compress(content[:700]) + compress(content[700:]))
        with opened(tmp_path / "a") as file:
            stream = ArchiveStream(file.fileno(), label="it")
            parts = []
            while part := stream.read(999):
                parts.append(part)
        assert b"".join(parts) == content


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress, gzip.compress, zstd.compress])
def test_what_is_cut_short_or_damaged_is_said(tmp_path, compress):
    whole = compress(os.urandom(20_000))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    # What zstd.compress makes has no checksum.
    contents = [whole[:-30], bytes(damaged)][: 1 if compress is zstd.compress else 2]
    for content in contents:
        (tmp_path / "a").write_bytes(content)
        with opened(tmp_path / "a") as file, pytest.raises(ArchiveError):
            ArchiveStream(file.fileno(), label="it").finish()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_is_unpacked_into_the_destination(context, layer, compression):
    content = archive(
        directory("./"),
        directory("d", uid=3, gid=4),
        member("d/a", b"one", uid=1, gid=2, mode=0o4755, mtime=5000),
        link("d/l", "a"),
        hard_link("d/h", "d/a"),
        member("not/in/it", b"two", mode=0o600),
    )
    (context / "x").write_bytes(COMPRESSIONS[compression](content))

    copied = add(context, layer, "/to", "x")

    assert shown(layer) == [
        "d755 0:0 to",
        "d750 3:4 to/d",
        "-4755 1:2 to/d/a",
        "l777 0:0 to/d/l -> a",
        "h644 0:0 to/d/h -> to/d/a",
        "d755 0:0 to/not",
        "d755 0:0 to/not/in",
        "-600 0:0 to/not/in/it",
    ]
    assert copied.layer.diff_id == f"sha256:{hashlib.sha256(tar_of(layer)).hexdigest()}"
    assert (layer / "diff/to/d/h").read_bytes() == b"one"
    # Times are kept, up to the latest.
    assert (layer / "diff/to/d/a").stat().st_mtime == 1000
    assert (layer / "diff/to/d").stat().st_mtime == 50
    assert read_index(str(layer / "index")).entry_count == copied.layer.entry_count == 8


def test_an_empty_archive_is_copied_as_a_file(context, layer):
    (context / "empty.tar.gz").write_bytes(gzip.compress(b""))

    add(context, layer, "/to/", "empty.tar.gz")

    assert shown(layer) == ["d755 0:0 to", "-644 0:0 to/empty.tar.gz"]


def test_owners_that_are_asked_for_are_those_of_what_is_unpacked(context, layer):
    (context / "x").write_bytes(archive(member("a", uid=5, gid=6), link("l", "a", uid=5, gid=6)))

    add(context, layer, "/to/", "x", owner="7:8")

    assert shown(layer) == ["d755 7:8 to", "-644 7:8 to/a", "l777 7:8 to/l -> a"]


def test_links_of_the_image_lead_where_they_do_there(context, layer, lower):
    write_files(lower / "diff", "lib -> usr/lib", "usr/lib/old", "etc/")
    content = archive(directory("lib2"), member("lib/new", b"new"), member("etc/file", b"file"))
    (context / "x").write_bytes(content)

    add(context, layer, "/", "x", lowers=[lower])

    names = [line.split()[-1] for line in shown(layer)]
    assert names == ["lib2", "usr", "usr/lib", "usr/lib/new", "etc", "etc/file"]
    assert not (layer / "diff/lib").exists()


def test_what_the_archive_names_itself_is_replaced(context, layer, lower):
    write_files(lower / "diff", "lib -> usr/lib", "usr/lib/old", "file", "dir/inner")
    content = archive(
        directory("lib"),
        member("lib/x"),
        directory("file"),
        member("file/y"),
        member("dir", b"now"),
    )
    (context / "x").write_bytes(content)

    add(context, layer, "/", "x", lowers=[lower])

    names = [line.split()[-1] for line in shown(layer)]
    assert names == ["lib", "lib/x", "file", "file/y", "dir"]
    assert (layer / "diff/dir").read_bytes() == b"now"


def test_links_of_the_archive_do_not_lead_out_of_the_destination(context, layer):
    content = archive(
        link("up", "../../.."),
        link("root", "/"),
        member("up/a"),
        member("root/b"),
        link("c", "root"),
    )
    (context / "x").write_bytes(content)

    add(context, layer, "/top/to", "x")

    names = [line.split()[2] for line in shown(layer)]
    assert names == [
        "top",
        "top/to",
        "top/to/up",
        "top/to/root",
        "top/to/a",
        "top/to/b",
        "top/to/c",
    ]


@pytest.mark.parametrize(
    "content",
    [
        archive(member("../a")),
        archive(member("a/../../b")),
        archive(hard_link("a", "../../etc/passwd")),
        archive(hard_link("a", "not-there")),
        archive(member("a", b"x" * 5000))[:3000],
        archive(member(".wh.a")),
        archive(member("d/.wh..wh..opq")),
        archive(member("a", type=tarfile.CHRTYPE, devmajor=0, devminor=0)),
    ],
)
def test_an_archive_that_does_harm_is_refused(context, layer, content):
    (context / "x").write_bytes(content)

    with pytest.raises((ArchiveError, BuildCopyError)):
        add(context, layer, "/to", "x")

    assert os.listdir(layer) == ["diff"]
    assert os.listdir(layer / "diff") == []


def test_archives_and_files_go_together(context, layer):
    (context / "x.tar").write_bytes(archive(member("a", b"archive"), member("c", b"archive")))
    write_files(context, "a = file", "d/b", "d/in -> b")

    add(context, layer, "/to/", "a", "x.tar", "d", files=[("c", b"here")])

    assert {name: (layer / "diff/to" / name).read_bytes() for name in ("a", "b", "c", "in")} == {
        "a": b"archive",
        "b": b"d/b",
        "c": b"here",
        "in": b"d/b",
    }
    assert hashlib.sha256(tar_of(layer)).hexdigest()


def test_an_archive_that_was_replaced_is_said_to_have_changed(context, layer):
    (context / "x").write_bytes(archive(member("a", b"one")))

    with pytest.raises(BuildSourceChangedError, match="x changed while it was read"):
        add(
            context,
            layer,
            "/",
            "x",
            before=lambda: (context / "x").write_bytes(archive(member("a", b"two"))),
        )


def test_what_an_archive_holds_is_part_of_the_digest(context):
    (context / "x").write_bytes(archive(member("a", b"one")))
    with opened_context(context) as tree:
        selection = select_sources(tree, SourceQuery(sources=("x",)))
        digest_selection(tree, selection)
        as_file = selection.digest()
        mark_archives(tree.root, selection)
        assert selection.sources[0].is_archive
        assert selection.digest() != as_file
        (context / "x").rename(context / "y")
        renamed = select_sources(tree, SourceQuery(sources=("y",)))
        digest_selection(tree, renamed)
        mark_archives(tree.root, renamed)
        assert renamed.digest() == selection.digest()


def test_sparse_files_are_written_out(context, layer):
    # GNU's old format, as tar -S writes it: one piece at 1 MiB, of a file of 2 MiB.
    piece = b"data".ljust(512, b"\0")
    info = tarfile.TarInfo("sparse")
    info.size = len(piece)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[386:398], block[398:410] = b"%011o " % (1 << 20), b"%011o " % len(piece)
    block[483:495] = b"%011o " % (2 << 20)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (context / "x").write_bytes(bytes(block) + piece + bytes(1024))

    add(context, layer, "/", "x")

    expected = bytearray(2 << 20)
    expected[1 << 20 : (1 << 20) + 4] = b"data"
    assert (layer / "diff/sparse").read_bytes() == expected


def test_a_selection_survives_its_way_to_the_worker(context):
    write_files(context, "a", "d/b")
    with opened_context(context) as tree:
        selection = select_sources(tree, SourceQuery(sources=("a", "d")))
        digest_selection(tree, selection)
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(selection), type=type(selection))
    assert decoded == selection
    assert decoded.digest() == selection.digest()
