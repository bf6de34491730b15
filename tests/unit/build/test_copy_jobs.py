import hashlib
import os
import stat

import pytest

from engine.build.copy_plan import CopyPlan
from engine.build.image_files import ImageFiles
from engine.build.selection import Selection, inline_source
from engine.errors import BuildCopyError
from engine.snapshots.index import read_index
from engine.snapshots.lowers import LowerLayers
from tests.unit.build.layers import (
    copy_context,
    make_directory,
    make_layer,
    run_copy,
    shown,
    tar_of,
)
from tests.unit.build.trees import write_files

OWN = f"{os.geteuid()}:{os.getegid()}"


def test_a_layer_is_its_files_its_tar_and_its_index(context, layer):
    write_files(context, "a = one", "d/b = two", "d/l -> ../a")
    (context / "d/b").chmod(0o4755)
    os.utime(context / "a", (1, 1))

    copied = copy_context(context, layer, "/app/", ".")

    # Outside of a user namespace an ordinary user can give files to nobody. That is said, and what
    # runs as its owner does not run as him.
    is_root = os.geteuid() == 0
    assert [one.split(" are ")[0] for one in copied.warnings] == (
        [] if is_root else ["some owners"]
    )
    assert shown(layer) == [
        "d755 0:0 app",
        "-644 0:0 app/a",
        "d755 0:0 app/d",
        "-4755 0:0 app/d/b",
        "l777 0:0 app/d/l -> ../a",
    ]
    content = tar_of(layer)
    assert copied.layer.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert copied.layer.tar_bytes == len(content)
    assert (layer / "diff/app/a").read_text() == "one"
    assert (layer / "diff/app/a").stat().st_mtime_ns == 0
    mode = stat.S_IMODE((layer / "diff/app/d/b").stat().st_mode)
    assert mode == (0o4755 if is_root else 0o755)
    assert os.readlink(layer / "diff/app/d/l") == "../a"
    index = read_index(str(layer / "index"))
    assert (
        (index.entry_count, index.size_bytes)
        == (5, 6)
        == (
            copied.layer.entry_count,
            copied.layer.size_bytes,
        )
    )
    assert index.entries[1].content_digest == hashlib.sha256(b"one").digest()


def test_the_same_files_give_the_same_bytes(tmp_path, context):
    write_files(context, "z/a", "b", "c/d/e")
    first = copy_context(context, tmp_path / "first", "/", ".")
    for path in context.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    other = tmp_path / "other"
    write_files(other, "c/d/e", "z/a", "b")

    assert copy_context(other, tmp_path / "second", "/", ".").layer == first.layer
    assert copy_context(context, tmp_path / "third", "/", ".").layer == first.layer


def test_times_before_the_latest_are_kept_in_whole_seconds(context, layer):
    write_files(context, "old", "new")
    os.utime(context / "old", ns=(5_700_000_000, 5_700_000_000))

    copy_context(context, layer, "/d/", ".", latest_seconds=1000)

    times = {name: (layer / "diff/d" / name).stat().st_mtime_ns for name in ("old", "new", ".")}
    assert times == {"old": 5 * 10**9, "new": 1000 * 10**9, ".": 1000 * 10**9}


def test_large_files_and_holes_are_the_same_in_tar_and_directory(context, layer):
    content = os.urandom(3 << 20) + bytes(5 << 20) + b"end"
    (context / "large").write_bytes(content)
    (context / "hole").write_bytes(bytes(4 << 20))

    copy_context(context, layer, "/", ".")

    assert (layer / "diff/large").read_bytes() == content
    assert (layer / "diff/hole").read_bytes() == bytes(4 << 20)
    assert (layer / "diff/hole").stat().st_blocks == 0
    assert hashlib.sha256(tar_of(layer)).hexdigest()


def test_hard_links_stay_hard_links(context, layer):
    write_files(context, "d/a", "c")
    os.link(context / "d/a", context / "d/b")
    os.link(context / "d/a", context / "elsewhere")

    copied = copy_context(context, layer, "/x/", "d", "elsewhere", "c")

    assert shown(layer) == [
        "d755 0:0 x",
        "-644 0:0 x/a",
        "h644 0:0 x/b -> x/a",
        "-644 0:0 x/c",
        "-644 0:0 x/elsewhere",
    ]
    assert (layer / "diff/x/a").stat().st_ino == (layer / "diff/x/b").stat().st_ino
    assert copied.layer.size_bytes == len("d/a") * 2 + 1


# --- destinations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "path"),
    [("/f", "f"), ("/f/", "f/a"), ("/d", "d/a"), ("/new/x", "new/x"), ("/", "a"), ("/d/.", "d/a")],
)
def test_a_file_goes_to_a_name_or_into_a_directory(context, layer, lower, destination, path):
    write_files(context, "a")
    write_files(lower / "diff", "d/")

    copy_context(context, layer, destination, "a", lowers=[lower])

    assert (layer / "diff" / path).read_text() == "a"


def test_a_directory_gives_its_content_and_not_its_look(context, layer):
    write_files(context, "d/a")
    (context / "d").chmod(0o700)

    copy_context(context, layer, "/new", "d")

    assert shown(layer) == ["d755 0:0 new", "-644 0:0 new/a"]


@pytest.mark.parametrize("destination", ["/link", "/link/", "/up/../link/"])
def test_links_on_the_way_are_followed_inside_the_image(context, layer, lower, destination):
    write_files(context, "d/a")
    write_files(lower / "diff", "real/b", "up/", "link -> /middle", "middle -> ../../real")

    copy_context(context, layer, destination, "d", lowers=[lower])

    assert shown(layer)[1:] == ["-644 0:0 real/a"]


def test_a_dangling_link_leads_to_what_it_names(context, layer, lower):
    write_files(context, "a")
    write_files(lower / "diff", "link -> /not/there")

    copy_context(context, layer, "/link/", "a", lowers=[lower])

    assert shown(layer) == ["d755 0:0 not", "d755 0:0 not/there", "-644 0:0 not/there/a"]


def test_links_in_a_circle_are_refused(context, layer, lower):
    write_files(context, "a")
    write_files(lower / "diff", "x -> y", "y -> x")

    with pytest.raises(BuildCopyError, match="too many levels of symbolic links"):
        copy_context(context, layer, "/x/", "a", lowers=[lower])


def test_a_linked_copy_knows_nothing_of_what_is_below(context, layer, lower):
    write_files(context, "a")
    write_files(lower / "diff", "link -> /real", "real/", "t/")
    (lower / "diff/t").chmod(0o1777)

    copy_context(context, layer, "/link/", "a", lowers=[lower], is_link=True)
    copy_context(context, layer.with_name("2"), "/t/", "a", lowers=[lower], is_link=True)

    assert shown(layer) == ["d755 0:0 link", "-644 0:0 link/a"]
    assert shown(layer.with_name("2")) == ["d755 0:0 t", "-644 0:0 t/a"]


def test_directories_of_the_image_keep_their_look(context, layer, lower):
    write_files(context, "d/a", "d/sub/b")
    write_files(lower / "diff", "t/sub/x")
    (lower / "diff/t").chmod(0o1777)
    (lower / "diff/t/sub").chmod(0o700)
    os.utime(lower / "diff/t", (77, 77))

    copy_context(context, layer, "/t", "d", lowers=[lower])

    # That of the destination is the image's, that of a directory in the source the source's.
    assert shown(layer) == [
        f"d1777 {OWN} t",
        "-644 0:0 t/a",
        "d755 0:0 t/sub",
        "-644 0:0 t/sub/b",
    ]
    assert (layer / "diff/t").stat().st_mtime == 77


@pytest.mark.parametrize(
    ("below", "sources", "destination", "text"),
    [
        (["f"], ["d"], "/f", "cannot copy to non-directory: /f"),
        (["f"], ["a"], "/f/", "cannot copy to non-directory: /f"),
        (["f"], ["a"], "/f/x/y", "cannot copy to non-directory: /f"),
        (["x/sub"], ["d"], "/x", "cannot copy to non-directory: /x/sub"),
        (["x/sub -> /"], ["d"], "/x", "cannot copy to non-directory: /x/sub"),
        (["x/in/a/"], ["d/in"], "/x/in", "cannot replace to directory /x/in/a with file"),
        ([], ["a", "b"], "/new", "the destination must be a directory and end with a /"),
        ([], ["?"], "/new", "the destination must be a directory and end with a /"),
        ([], ["a", "d"], "/new", "cannot copy to non-directory: /new"),
    ],
)
def test_what_does_not_fit_is_refused(context, layer, lower, below, sources, destination, text):
    write_files(context, "a", "b", "d/sub/", "d/in/a")
    write_files(lower / "diff", *below)

    with pytest.raises(BuildCopyError) as caught:
        copy_context(context, layer, destination, *sources, lowers=[lower])

    assert text in str(caught.value)
    assert sorted(os.listdir(layer)) == ["diff"]
    assert os.listdir(layer / "diff") == []


def test_files_of_the_image_are_replaced(context, layer, lower):
    write_files(context, "d/a = new", "d/l = file")
    write_files(lower / "diff", "x/a = old", "x/l -> /etc/passwd")

    copy_context(context, layer, "/x", "d", lowers=[lower])

    assert (layer / "diff/x/a").read_text() == "new"
    assert (layer / "diff/x/l").read_text() == "file"
    assert not (layer / "diff/x/l").is_symlink()


def test_later_sources_replace_what_earlier_ones_put_there(context, layer):
    write_files(context, "1/x = one", "1/y = one", "2/x = two")

    copy_context(context, layer, "/d/", "1", "2")

    assert shown(layer)[1:] == ["-644 0:0 d/x", "-644 0:0 d/y"]
    assert (layer / "diff/d/x").read_text() == "two"


def test_several_files_may_go_into_a_directory_of_the_image_without_a_slash(context, layer, lower):
    write_files(context, "a", "b")
    write_files(lower / "diff", "d/")

    copy_context(context, layer, "/d", "a", "b", lowers=[lower])

    assert sorted(os.listdir(layer / "diff/d")) == ["a", "b"]


def test_what_changes_nothing_makes_no_layer(context, layer, lower):
    write_files(context, "empty/")
    write_files(lower / "diff", "d/")

    assert copy_context(context, layer, "/d/", "empty", lowers=[lower]).layer is None
    assert (
        copy_context(context, layer.with_name("2"), "/d/", "*.none", lowers=[lower]).layer is None
    )
    assert make_directory(layer.with_name("3"), "/d", lowers=[lower]).layer is None
    assert make_directory(layer.with_name("4"), "/", lowers=[lower]).layer is None
    assert os.listdir(layer) == ["diff"]


def test_a_name_that_would_remove_something_is_refused(context, layer):
    write_files(context, "d/.wh.x")

    with pytest.raises(BuildCopyError, match=r"d/\.wh\.x: no image can hold"):
        copy_context(context, layer, "/", ".")


def test_files_of_the_dockerfile_are_written_as_they_stand_there(layer):
    from engine.build.copy_jobs import CopyArguments

    sources = [inline_source("EOF", b"one\n"), inline_source("E2", b"")]
    arguments = CopyArguments(
        label="COPY", lower_paths=(), destination_hex=b"/d/".hex(), latest_seconds=0
    )
    run_copy(arguments, make_layer(layer), Selection(sources=sources, warnings=[]))

    assert shown(layer) == ["d755 0:0 d", "-644 0:0 d/E2", "-644 0:0 d/EOF"]
    assert (layer / "diff/d/EOF").read_text() == "one\n"


def test_pipes_are_made_and_not_read(context, layer):
    os.mkfifo(context / "pipe", 0o640)

    copy_context(context, layer, "/", ".")

    assert stat.S_ISFIFO((layer / "diff/pipe").stat().st_mode)
    assert shown(layer) == ["?640 0:0 pipe"]


def test_deep_trees_and_long_names_are_copied(context, layer):
    current = os.open(context, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("n" * 30, dir_fd=current)
        following = os.open("n" * 30, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    os.close(os.open("x" * 255, os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)

    copied = copy_context(context, layer, "/top", ".")

    assert copied.layer.entry_count == 202
    assert shown(layer)[-1].endswith("/" + "x" * 255)


def test_a_plan_says_where_its_destination_leads(lower):
    write_files(lower / "diff", "link -> real", "real/")
    lowers = LowerLayers([str(lower / "diff")])
    from engine.build.copy_plan import CopyLook

    look = CopyLook(owner=None, change_mode=None, latest_ns=0, now_ns=0)
    try:
        plan = CopyPlan(ImageFiles(lowers), look, destination=b"/link/x/")
    finally:
        lowers.close()
    assert plan.destination == b"real/x"
