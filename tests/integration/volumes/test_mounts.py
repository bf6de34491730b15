"""What a container sees of each kind of mount, through the real runtime."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import InvalidInputError, StartError, VolumeInUseError
from engine.types import ContainerRequest, MountPoint, MountRequest

if TYPE_CHECKING:
    from engine.api import EngineApi

    from .conftest import Teller

CHECKOUT = Path(__file__).resolve().parents[3]


def volume(name: str, target: str = "/data", **fields: object) -> MountRequest:
    return MountRequest(kind="volume", source=name, target=target, **fields)  # type: ignore[arg-type]


def bind(source: Path, target: str = "/data", **fields: object) -> MountRequest:
    return MountRequest(kind="bind", source=str(source), target=target, **fields)  # type: ignore[arg-type]


def tmpfs(target: str, *options: str, **fields: object) -> MountRequest:
    return MountRequest(kind="tmpfs", source="", target=target, tmpfs_options=options, **fields)  # type: ignore[arg-type]


async def test_what_one_container_writes_into_a_volume_the_next_one_reads(
    engine: EngineApi, said: Teller
) -> None:
    await said("echo kept > /data/file", volume("files"))
    assert await said("cat /data/file", volume("files")) == "kept"
    assert [one.name for one in await engine.list_volumes()] == ["files"]


async def test_a_read_only_mount_cannot_be_written(said: Teller, tmp_path: Path) -> None:
    script = "touch /data/x; mkdir /data/y; exit 0"
    for mount in (volume("files", is_read_only=True), bind(tmp_path, is_read_only=True)):
        told = await said(script, mount)
        assert told.count("Read-only file system") == 2


async def test_files_and_directories_of_the_host_are_bound(said: Teller, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    told = await said(
        "cat /etc/one /data/file; echo inside > /data/new",
        bind(tmp_path / "file", "/etc/one"),
        bind(tmp_path),
    )
    assert told == "of the host\nof the host"
    assert (tmp_path / "new").read_text() == "inside\n"


async def test_parents_are_mounted_before_what_is_in_them_whatever_the_order(
    said: Teller, tmp_path: Path
) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "name").write_text("low\n")
    mounts = (bind(tmp_path / "low", "/a/b/c"), tmpfs("/a/b"), volume("top", "/a"))
    assert await said("cat /a/b/c/name; ls /a", *mounts) == "low\nb"


async def test_a_mount_takes_the_place_of_the_engines_own_files(
    said: Teller, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("192.0.2.7 mine\n")
    told = await said("cat /etc/hosts", bind(tmp_path / "hosts", "/etc/hosts"))
    assert told == "192.0.2.7 mine"
    told = await said("cat /etc/hostname; ls /etc", volume("etc", "/etc"), hostname="named")
    assert told.split()[0] == "named"
    assert "passwd" in told


async def test_a_missing_directory_of_the_host_is_made_only_if_asked_for(
    engine: EngineApi, said: Teller, tmp_path: Path
) -> None:
    missing = tmp_path / "not" / "there"
    with pytest.raises(InvalidInputError) as caught:
        await said("true", bind(missing))
    assert caught.value.message == (
        f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    )
    assert not missing.parent.exists()
    await said("touch /data/x", bind(missing, makes_source=True))
    assert (missing / "x").exists()
    assert await engine.list_containers() == ()


async def test_a_source_that_went_away_is_said_at_the_start(
    engine: EngineApi, starter_image: object, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    request = ContainerRequest(image="starter", name="web", mounts=(bind(source),))
    await engine.create_container(request)
    source.rmdir()
    with pytest.raises(StartError, match=f"bind source path does not exist: {source}") as caught:
        await engine.start_container("web")
    assert "-v" in caught.value.hint


async def test_a_tmpfs_has_its_size_mode_and_options(said: Teller) -> None:
    script = (
        "stat -c '%a %u:%g' /one; grep ' /one ' /proc/self/mountinfo;"
        " head -c 2000000 /dev/zero > /one/big; wc -c < /one/big"
    )
    told = await said(script, tmpfs("/one", "size=1m", "mode=1750", "exec"))
    assert told.startswith("1750 0:0\n")
    assert re.search(r" rw,nosuid,nodev,relatime .*size=1024k", told)
    assert told.endswith("1048576")


async def test_a_tmpfs_looks_like_what_it_covers_and_is_locked_down_unless_told(
    said: Teller,
) -> None:
    script = "stat -c '%a' /etc /new; grep -c ' rw,nosuid,nodev,noexec,' /proc/self/mountinfo"
    told = await said(f"{script}; touch /ro/x", tmpfs("/etc"), tmpfs("/new"), tmpfs("/ro", "ro"))
    assert told.startswith("755\n1777\n")
    assert "Read-only file system" in told


async def test_a_link_of_the_image_in_the_place_of_a_mount_stays_inside(
    engine: EngineApi, said: Teller, tmp_path: Path
) -> None:
    # The volume is filled with a link that leads out of the root, then mounted over.
    await said("ln -s /../../../../tmp /data/out; ln -s ../../etc /data/up", volume("links"))
    mounts = (volume("links"), bind(tmp_path, "/data/out/here"), tmpfs("/data/up/made"))
    told = await said("cd /; echo x > tmp/here/x; ls -d etc/made", *mounts)
    assert told == "etc/made"
    assert (tmp_path / "x").exists()
    assert not Path("/tmp/here").exists()
    assert not Path("/etc/made").exists()


@pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/sys/kernel", "/link/sys"])
async def test_nothing_is_mounted_into_proc(
    engine: EngineApi, said: Teller, tmp_path: Path, target: str
) -> None:
    await said("ln -s /proc /data/link", volume("links"))
    mounts = [bind(tmp_path, target.replace("/link", "/data/link"))]
    if "link" in target:
        mounts.append(volume("links"))
    with pytest.raises(StartError, match="cannot be mounted because it is inside /proc"):
        await said("true", *mounts)


async def test_a_file_of_proc_that_tells_of_the_host_may_be_covered(
    said: Teller, tmp_path: Path
) -> None:
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    assert await said("cat /proc/uptime", bind(tmp_path / "uptime", "/proc/uptime")) == "1.00 1.00"


async def test_a_directory_over_a_file_is_refused_as_docker_does(
    said: Teller, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match="not a directory") as caught:
        await said("true", bind(tmp_path, "/etc/passwd"))
    assert caught.value.exit_code == 127
    assert "mount a directory onto a file" in caught.value.hint


async def test_a_part_of_a_volume_is_mounted_and_links_in_it_do_not_lead_out(
    said: Teller,
) -> None:
    await said("mkdir /data/sub; echo deep > /data/sub/x; ln -s /etc /data/evil", volume("files"))
    assert await said("ls /part", volume("files", "/part", subpath="sub")) == "x"
    with pytest.raises(StartError, match="cannot access path"):
        await said("true", volume("files", "/part", subpath="evil"))


async def test_a_read_only_root_has_writable_mounts(said: Teller) -> None:
    told = await said(
        "echo x > /data/x && echo y > /run2/y && touch /z",
        volume("files"),
        tmpfs("/run2"),
        is_read_only=True,
    )
    assert "/z" in told
    assert told.count("Read-only file system") == 1


async def test_volumes_of_another_container_come_with_its_options(
    engine: EngineApi, said: Teller, tmp_path: Path
) -> None:
    mounts = (volume("files"), volume("", "/anonymous"), bind(tmp_path, "/host"), tmpfs("/own"))
    await engine.create_container(ContainerRequest(image="starter", name="first", mounts=mounts))
    script = "echo x > /data/x; for d in /host /anonymous /own; do [ -d $d ] && echo $d; done"
    assert await said(script, volumes_from=("first",)) == "/host\n/anonymous"
    assert "Read-only" in await said("echo y > /data/x", volumes_from=("first:ro",))
    # What is asked for by name goes before what the other container has at the same path.
    assert await said("ls /data", volume("other"), volumes_from=("first",)) == ""
    with pytest.raises(InvalidInputError, match="invalid mode: z"):
        await said("true", volumes_from=("first:z",))


async def test_anonymous_volumes_go_with_their_container_only_when_asked_to(
    engine: EngineApi, said: Teller
) -> None:
    request = ContainerRequest(
        image="starter", name="web", mounts=(volume("", "/one"), volume("named", "/two"))
    )

    async def left() -> int:
        return len(await engine.list_volumes())

    await engine.create_container(request)
    await engine.remove_container("web")
    assert await left() == 2
    await engine.create_container(request)
    await engine.remove_container("web", removes_volumes=True)
    assert await left() == 2
    await said("true", volume("", "/one"), volume("named", "/two"), is_removed_on_exit=True)
    assert await left() == 2
    assert (await engine.prune_volumes()).names != ("named",)
    assert [one.name for one in await engine.list_volumes()] == ["named"]


async def test_an_anonymous_volume_that_another_container_has_stays(
    engine: EngineApi, starter_image: object
) -> None:
    first = ContainerRequest(image="starter", name="first", mounts=(volume("", "/one"),))
    await engine.create_container(first)
    await engine.create_container(
        ContainerRequest(image="starter", name="second", volumes_from=("first",))
    )
    await engine.remove_container("first", removes_volumes=True)
    assert len(await engine.list_volumes()) == 1
    await engine.remove_container("second", removes_volumes=True)
    assert await engine.list_volumes() == ()


async def test_a_volume_in_use_is_neither_removed_nor_pruned(
    engine: EngineApi, starter_image: object
) -> None:
    created = await engine.create_container(
        ContainerRequest(image="starter", name="web", mounts=(volume("files"),))
    )
    with pytest.raises(VolumeInUseError) as caught:
        await engine.remove_volume("files", is_forced=True)
    assert caught.value.message == f"remove files: volume is in use - [{created.container_id}]"
    assert (await engine.prune_volumes(includes_named=True)).names == ()
    assert (await engine.inspect_volume("files")).container_names == ("web",)


async def test_inspect_shows_every_mount_with_its_path_on_the_host(
    engine: EngineApi, starter_image: object, tmp_path: Path
) -> None:
    mounts = (volume("files"), bind(tmp_path, "/deep/host", is_read_only=True), tmpfs("/t", "exec"))
    await engine.create_container(ContainerRequest(image="starter", name="web", mounts=mounts))
    source = (await engine.inspect_volume("files")).mount_point
    assert (await engine.inspect_container("web")).mounts == (
        MountPoint(kind="volume", name="files", source=source, target="/data", is_read_only=False),
        MountPoint(
            kind="tmpfs", name="", source="", target="/t", is_read_only=False, options=("exec",)
        ),
        MountPoint(
            kind="bind",
            name="",
            source=str(tmp_path),
            target="/deep/host",
            is_read_only=True,
            propagation="rprivate",
        ),
    )


async def test_a_start_without_mounts_makes_no_volume_directory(
    said: Teller, store_paths: object
) -> None:
    await said("true")
    assert not os.path.exists(f"{store_paths.root}/volumes")  # type: ignore[attr-defined]


_PROPAGATION = """
import asyncio, sys
from pathlib import Path
from engine.api import open_engine
from engine.errors import StartError
from engine.linux.mounts import *
from engine.linux.process import CLONE_NEWNS, leave_namespaces
from engine.types import ContainerRequest, MountRequest

top, root, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
leave_namespaces(CLONE_NEWNS)
set_root_propagation(MS_PRIVATE)

def mount(path, propagation=0):
    path.mkdir(exist_ok=True)
    made = new_filesystem("tmpfs", [("source", path.name)])
    if propagation:
        set_mount_attributes(made, propagation=propagation)
    import os
    place = os.open(path, os.O_PATH)
    attach_mount(made, place)
    os.close(place), os.close(made)

mount(top / "shared", 1 << 20)  # MS_SHARED
mount(top / "shared" / "before")
mount(top / "private")

async def main():
    async with open_engine(root=root, run=root / "run") as engine:
        await engine.make_starter_image()
        for source in ("shared", "private"):
            request = ContainerRequest(
                image="starter", name=source, command=("sh", "-c", "read x < /dev/zero"),
                mounts=(MountRequest(kind="bind", source=str(top / source), target="/data",
                                     propagation=wanted),),
            )
            try:
                await engine.create_container(request)
                await engine.start_container(source)
            except StartError as error:
                print(source, "refused", error)
            else:
                process_id = (await engine.inspect_container(source)).process_id
                mount(top / source / "after")
                for line in Path(f"/proc/{process_id}/mountinfo").read_text().splitlines():
                    fields = line.split(" ")
                    if fields[4].startswith("/data"):
                        kinds = [word.partition(":")[0] for word in fields[6:fields.index("-")]]
                        print(source, fields[4], *kinds)
            await engine.remove_container(source, is_forced=True)

asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("propagation", "expected"),
    [
        ("rprivate", ["shared /data", "shared /data/before", "private /data"]),
        (
            "rslave",
            [
                "shared /data master",
                "shared /data/before master",
                "shared /data/after master",
                "private refused path {top}/private is mounted on {top}/private but it is not a "
                "shared or slave mount",
            ],
        ),
        (
            "shared",
            [
                "shared /data shared",
                "shared /data/before shared",
                "shared /data/after shared",
                "private refused path {top}/private is mounted on {top}/private but it is not a "
                "shared mount",
            ],
        ),
    ],
)
def test_mounts_of_the_host_arrive_as_the_propagation_says(
    store_paths: object, tmp_path: Path, propagation: str, expected: list[str]
) -> None:
    root = store_paths.root  # type: ignore[attr-defined]
    done = subprocess.run(
        (sys.executable, "-c", _PROPAGATION, str(tmp_path), str(root), propagation),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line.format(top=tmp_path) for line in expected]


async def test_events_tell_of_volumes_in_the_order_of_a_life(
    engine: EngineApi, starter_image: object
) -> None:
    mounts = (volume("files", is_read_only=True), tmpfs("/own"))
    with engine.subscribe() as events:
        created = await engine.create_container(
            ContainerRequest(image="starter", name="web", command=("true",), mounts=mounts)
        )
        await engine.start_container("web")
        await engine.wait_container("web")
        await engine.remove_container("web")
        await engine.remove_volume("files")
        heard = []
        async for event in events:
            heard.append(f"{event.subject} {event.action}")
            if event.action == "mount":
                attributes = dict(event.attributes)
            if heard[-1] == "volume destroy":
                break
    # What an ordinary user's container gets out by is no network of the store.
    is_connected = os.geteuid() == 0
    assert heard == [
        "volume create",
        "container create",
        "volume mount",
        *(["network connect"] if is_connected else []),
        "container start",
        *(["network disconnect"] if is_connected else []),
        "volume unmount",
        "container die",
        "container destroy",
        "volume destroy",
    ]
    assert attributes == {
        "container": created.container_id,
        "driver": "local",
        "destination": "/data",
        "read/write": "false",
    }
