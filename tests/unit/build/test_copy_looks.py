import os

import pytest

from engine.errors import BuildCopyError
from tests.unit.build.layers import (
    copy_context,
    make_directory,
    shown,
)
from tests.unit.build.trees import write_files

OWN = f"{os.geteuid()}:{os.getegid()}"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
ACCOUNTS = "root:x:0:0::/:/bin/sh\nbin:x:2:7:bin:/bin:/bin/sh\nbad:x:one:2:::\n"
GROUPS = "root:x:0:\nstaff:x:50:one,two\n"


@needs_root
@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("7", "7:7"),
        ("7:8", "7:8"),
        ("bin", "2:7"),
        ("bin:staff", "2:50"),
        ("9:staff", "9:50"),
        ("bin:60", "2:60"),
    ],
)
def test_owners_are_those_of_the_image(context, layer, lower, owner, expected):
    write_files(context, "a", "l -> a")
    write_files(lower / "diff", "usr/etc/passwd = " + ACCOUNTS, "etc -> usr/etc", "old/")
    write_files(lower / "diff", "usr/etc/group = " + GROUPS)

    copy_context(context, layer, "/old/new/", ".", lowers=[lower], owner=owner)

    assert shown(layer) == [
        "d755 0:0 old",
        f"d755 {expected} old/new",
        f"-644 {expected} old/new/a",
        f"l777 {expected} old/new/l -> a",
    ]
    status = (layer / "diff/old/new/l").lstat()
    assert f"{status.st_uid}:{status.st_gid}" == expected


@pytest.mark.parametrize(
    "owner", ["nobody-here", "0:nobody-here", "bad", "4294967296", "0:9999999999"]
)
def test_owners_that_the_image_does_not_have_are_refused(context, layer, lower, owner):
    write_files(context, "a")
    write_files(lower / "diff", "etc/passwd = " + ACCOUNTS)

    with pytest.raises(BuildCopyError):
        copy_context(context, layer, "/", "a", lowers=[lower], owner=owner)


def test_a_pipe_in_the_place_of_the_accounts_is_not_waited_for(context, layer, lower):
    write_files(context, "a")
    write_files(lower / "diff", "etc/")
    os.mkfifo(lower / "diff/etc/passwd")

    with pytest.raises(BuildCopyError, match="the image has no user 'bin'"):
        copy_context(context, layer, "/", "a", lowers=[lower], owner="bin")


def test_a_mode_is_for_everything_that_is_made_but_links(context, layer):
    write_files(context, "d/a", "d/sub/b", "d/l -> a")

    copy_context(context, layer, "/x/y/", "d", mode="750")

    assert shown(layer) == [
        "d750 0:0 x",
        "d750 0:0 x/y",
        "-750 0:0 x/y/a",
        "l777 0:0 x/y/l -> a",
        "d750 0:0 x/y/sub",
        "-750 0:0 x/y/sub/b",
    ]


def test_a_symbolic_mode_changes_what_is_there(context, layer):
    write_files(context, "a", "run.sh", "sub/")
    (context / "run.sh").chmod(0o755)

    copy_context(context, layer, "/", ".", mode="u=rwX,go=")

    assert shown(layer) == ["-600 0:0 a", "-700 0:0 run.sh", "d700 0:0 sub"]


@pytest.mark.parametrize("mode", ["888", "10000", "u=q", "rwx", "u=rw,", "+"])
def test_a_mode_that_is_none_is_refused(context, layer, mode):
    write_files(context, "a")

    if mode == "+":
        copy_context(context, layer, "/", "a", mode=mode)  # chmod(1) takes it: nothing changes
        return
    with pytest.raises(BuildCopyError, match="invalid chmod parameter"):
        copy_context(context, layer, "/", "a", mode=mode)


def test_workdir_makes_what_is_missing_for_its_user(layer, lower):
    write_files(lower / "diff", "srv/")

    make_directory(layer, "/srv/a/b", lowers=[lower], owner=OWN)

    assert shown(layer) == [f"d755 {OWN} srv", f"d755 {OWN} srv/a", f"d755 {OWN} srv/a/b"]


def test_workdir_on_a_file_is_refused(layer, lower):
    write_files(lower / "diff", "file")

    with pytest.raises(BuildCopyError, match="cannot copy to non-directory: /file"):
        make_directory(layer, "/file", lowers=[lower])
