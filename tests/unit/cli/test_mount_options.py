"""`-v`, `--mount` and `--tmpfs`: forms that there are, and Docker's words for the others."""

import os

import pytest

from engine.containers.mount_requests import check_mounts
from engine.errors import InvalidInputError
from engine.types import MountRequest
from tui.cli.mount_options import OPTIONS, mounts, read_mount, read_volume
from tui.cli.options import parse


def bind(source, target, **fields):
    return MountRequest(kind="bind", source=source, target=target, **fields)


def volume(source, target, **fields):
    return MountRequest(kind="volume", source=source, target=target, **fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", volume("", "/data")),
        ("files:/data", volume("files", "/data")),
        ("files:/data:ro", volume("files", "/data", is_read_only=True)),
        ("files:/data:nocopy,ro", volume("files", "/data", is_read_only=True, has_copy=False)),
        ("/host:/data", bind("/host", "/data", makes_source=True)),
        (
            "/host:/data:ro,rslave",
            bind("/host", "/data", makes_source=True, is_read_only=True, propagation="rslave"),
        ),
        (".:/data", bind(os.getcwd(), "/data", makes_source=True)),
        ("./a/../b:/data", bind(f"{os.getcwd()}/b", "/data", makes_source=True)),
    ],
)
def test_a_volume_option_is_read_as_docker_does(text, expected):
    assert read_volume(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid volume specification: ''"),
        (":/data", "invalid volume specification: ':/data'"),
        ("a:/b:ro:x", "invalid volume specification: 'a:/b:ro:x'"),
        ("/data:ro", "invalid volume specification: '/data:ro'"),
        ("a:/b:", "invalid volume specification: 'a:/b:'"),
        ("files:/data:rox", "invalid mode: rox"),
        ("files:/data:ro,rw", "invalid mode: ro,rw"),
        ("files:/data:rshared", "invalid mode: rshared"),
        ("/host:/data:nocopy", "invalid mode: nocopy"),
        ("/host:/data:z", "invalid mode: z"),
    ],
)
def test_a_volume_option_that_is_none_is_refused(text, message):
    with pytest.raises(InvalidInputError) as caught:
        read_volume(text)
    assert caught.value.message == message
    assert caught.value.hint or "'a:/b:'" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dst=/data", volume("", "/data")),
        ("type=volume,src=files,target=/data,ro", volume("files", "/data", is_read_only=True)),
        (
            "source=files,destination=/data,volume-nocopy,volume-label=a=b,volume-subpath=sub",
            volume("files", "/data", has_copy=False, volume_labels=(("a", "b"),), subpath="sub"),
        ),
        (
            "type=bind,src=/host,dst=/data,readonly=true,bind-propagation=rshared",
            bind("/host", "/data", is_read_only=True, propagation="rshared"),
        ),
        ("type=bind,src=/host,dst=/data,readonly=0", bind("/host", "/data")),
        (
            "type=bind,src=/host,dst=/data,bind-recursive=disabled",
            bind("/host", "/data", recursion="disabled"),
        ),
        (
            "type=bind,src=/host,dst=/data,bind-nonrecursive",
            bind("/host", "/data", recursion="disabled"),
        ),
        ('type=bind,"src=/ho,st",dst=/data', bind("/ho,st", "/data")),
        (
            "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770",
            MountRequest(
                kind="tmpfs", source="", target="/t", tmpfs_options=("size=67108864", "mode=1770")
            ),
        ),
    ],
)
def test_a_mount_option_is_read_as_docker_does(text, expected):
    assert read_mount(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "value is empty"),
        ("type=bind,src=/a", "target is required"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("dst=/a,size=3", "unexpected key 'size' in 'size=3'"),
        ("dst=/a,ro=maybe", "invalid value for ro: maybe"),
        ("dst=/a,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
        (
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        ("type=tmpfs,dst=/a,tmpfs-size=big", "invalid value for tmpfs-size"),
    ],
)
def test_a_mount_option_that_is_none_is_refused(text, message):
    with pytest.raises(InvalidInputError) as caught:
        read_mount(text)
    assert message in caught.value.message


def test_all_options_of_a_command_line_come_in_order():
    words = ["-v", "/a", "--tmpfs", "/b:size=1m,exec", "--mount", "dst=/c", "--tmpfs=/d"]
    assert [
        (mount.kind, mount.target, mount.tmpfs_options)
        for mount in mounts(parse(words, OPTIONS, command="run"))
    ] == [
        ("volume", "/a", ()),
        ("volume", "/c", ()),
        ("tmpfs", "/b", ("size=1m", "exec")),
        ("tmpfs", "/d", ()),
    ]


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (
            MountRequest(kind="npipe", source="", target="/a"),
            'invalid mount config for type "npipe": mount type unknown',
        ),
        (
            volume("files", "data"),
            "invalid mount config for type \"volume\": invalid mount path: 'data' mount path must "
            "be absolute",
        ),
        (
            volume("files", "/a/.."),
            'invalid mount config for type "volume": invalid specification: destination can\'t be '
            "'/'",
        ),
        (bind("", "/a"), 'invalid mount config for type "bind": field Source must not be empty'),
        (
            bind("host", "/a"),
            "invalid mount config for type \"bind\": invalid mount path: 'host' mount path must be "
            "absolute",
        ),
        (
            bind("/host", "/a", propagation="both"),
            'invalid mount config for type "bind": invalid propagation mode: both',
        ),
        (
            MountRequest(kind="tmpfs", source="x", target="/a"),
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (
            MountRequest(kind="tmpfs", source="", target="/a", tmpfs_options=("sync",)),
            'invalid mount config for type "tmpfs": invalid tmpfs option ["sync"]',
        ),
        (
            MountRequest(kind="tmpfs", source="", target="/a", tmpfs_options=("size=1x",)),
            'invalid mount config for type "tmpfs": invalid tmpfs option ["size=1x"]',
        ),
        (
            volume("files", "/a", subpath="../up"),
            'invalid mount config for type "volume": subpath must be a relative path within the '
            "volume",
        ),
        (
            volume("", "/a", subpath="sub"),
            'invalid mount config for type "volume": must not set Subpath when using anonymous '
            "volumes",
        ),
        (
            bind("/host", "/a", recursion="writable"),
            "invalid mount config for type \"bind\": option 'bind-recursive=writable' requires "
            "'readonly' to be specified in conjunction",
        ),
    ],
)
def test_a_request_that_cannot_work_is_refused_with_dockers_words(mount, message):
    with pytest.raises(InvalidInputError) as caught:
        check_mounts((mount,))
    assert caught.value.message == message


def test_a_relative_source_is_taken_for_a_volumes_name():
    with pytest.raises(InvalidInputError) as caught:
        check_mounts((read_volume("dir/sub:/data"),))
    assert caught.value.message.endswith(
        "If you intended to pass a host directory, use absolute path"
    )


def test_one_path_is_mounted_once():
    with pytest.raises(InvalidInputError, match="Duplicate mount point: /a/b"):
        check_mounts((volume("files", "/a/b/"), bind("/host", "/a//b")))
