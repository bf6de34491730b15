"""`cp` with real containers: Docker's rules in both directions, running or not."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import ArchiveError, ContainerStateError, CopyRefusedError
from engine.errors import FileNotInContainerError as NotInContainerError
from engine.types import ContainerRequest, CopyOptions, MountRequest
from tests.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import Engine
    from engine.types import LoadedImage
    from tests.conftest import StorePaths

CHECKOUT = Path(__file__).resolve().parents[3]
MAKES = """
mkdir -p /src/sub; echo file > /src/file; echo sub > /src/sub/file; chmod 4755 /src/file
ln -s file /src/link; ln /src/file /src/hard; chmod 555 /src/sub; echo there > /there; mkdir /dir
"""
KEEPING = CopyOptions(keeps_owners=True)
FOLLOWING = CopyOptions(is_following_link=True)


@pytest.fixture(params=["running", "exited"])
async def web(
    request: pytest.FixtureRequest, engine: Engine, starter_image: LoadedImage
) -> AsyncIterator[str]:
    """A container that has made some files, and runs or has ended."""
    made = ContainerRequest(
        image="starter", name="web", command=("sh", "-c", f"{MAKES}\necho made; exec sleep 1000")
    )
    await engine.create_container(made)
    await engine.start_container("web")
    async for _batch in engine.follow_logs("web", is_following=True):
        break
    if request.param == "exited":
        await engine.kill_container("web")
    yield "web"
    assert (await engine.inspect_container("web")).summary.status.value == request.param


def tree(path: Path) -> dict[str, object]:
    """Every path below one, with what it holds."""
    found: dict[str, object] = {}
    for item in sorted(path.rglob("*")):
        name = str(item.relative_to(path))
        if item.is_symlink():
            found[name] = ("link", os.readlink(item))
        else:
            found[name] = item.read_text() if item.is_file() else "directory"
    return found


SOURCE = {
    "file": "file\n",
    "hard": "file\n",
    "link": ("link", "file"),
    "sub": "directory",
    "sub/file": "sub\n",
}
BELOW = {f"src/{name}": content for name, content in SOURCE.items()}
OUT = [
    # path, target, what is there afterwards
    ("/src", "", {"src": "directory", **BELOW}),
    ("/src/", "", {"src": "directory", **BELOW}),
    ("src", "new", {"new": "directory", **{f"new/{name}": SOURCE[name] for name in SOURCE}}),
    ("/src/.", "", SOURCE),
    ("/src/.", "new", {"new": "directory", **{f"new/{name}": SOURCE[name] for name in SOURCE}}),
    ("/src/file", "", {"file": "file\n"}),
    ("/src/file", "other", {"other": "file\n"}),
    ("/src/sub/../file", "", {"file": "file\n"}),
    ("/src/link", "", {"link": ("link", "file")}),
    ("/src/link/../../../../there", "", None),
]


# A table has one container: what stops is the row that the message names.
async def test_out_goes_where_docker_puts_it(engine: Engine, web: str, tmp_path: Path) -> None:
    for number, (path, target, expected) in enumerate(OUT):
        place = tmp_path / str(number)
        place.mkdir()
        destination = f"{place}/{target}"
        if expected is None:
            with pytest.raises(CopyRefusedError, match="not a directory"):
                await engine.copy_from_container(web, path, destination)
            continue
        await engine.copy_from_container(web, path, destination)
        assert tree(place) == expected, (path, target)


OUT_REFUSED = [
    ("/no", "", NotInContainerError, "Could not find the file /no in container web"),
    ("/there/", "", CopyRefusedError, "not a directory"),
    ("/src", "old", CopyRefusedError, "cannot copy directory"),
    ("/there", "old/", CopyRefusedError, "not a directory"),
    ("/there", "no/", CopyRefusedError, "no such directory"),
    ("/there", "no/x", CopyRefusedError, 'invalid output path: directory "'),
    ("/there", "taken", CopyRefusedError, "cannot overwrite directory"),
]


async def test_out_refuses_what_docker_refuses(engine: Engine, web: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "taken/there").mkdir(parents=True)
    before = tree(tmp_path)
    for path, target, error, text in OUT_REFUSED:
        with pytest.raises(error) as caught:
            await engine.copy_from_container(web, path, f"{tmp_path}/{target}")
        assert text in str(caught.value), (path, target)
        assert tree(tmp_path) == before, (path, target)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """The same files on the host."""
    source = tmp_path / "local"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("file\n")
    (source / "sub/file").write_text("sub\n")
    (source / "link").symlink_to("file")
    (source / "hard").hardlink_to(source / "file")
    (source / "file").chmod(0o4755)
    return source


IN = [
    ("", "/dir", "/dir/local"),
    ("", "/dir/", "/dir/local"),
    ("", "/new", "/new"),
    ("", "/new/", "/new"),
    ("/.", "/dir", "/dir"),
    ("/.", "/new", "/new"),
]


@pytest.mark.parametrize(("suffix", "path", "place"), IN)
async def test_in_goes_where_docker_puts_it(
    engine: Engine, web: str, local: Path, tmp_path: Path, suffix: str, path: str, place: str
) -> None:
    result = await engine.copy_to_container(web, f"{local}{suffix}", path)
    assert result.warnings == ()
    back = tmp_path / "back"
    await engine.copy_from_container(web, f"{place}/.", str(back))
    assert tree(back) == SOURCE


IN_REFUSED = [
    ("no", "/dir", CopyRefusedError, "no such file or directory"),
    ("file/", "/dir", CopyRefusedError, "not a directory"),
    ("", "/there", CopyRefusedError, "cannot copy directory"),
    ("file", "/there/", CopyRefusedError, "not a directory"),
    ("file", "/no/", CopyRefusedError, "no such directory"),
    ("file", "/no/x", NotInContainerError, "Could not find the file /no in container web"),
    ("sub", "/src/taken", CopyRefusedError, "cannot overwrite non-directory"),
]


async def test_in_refuses_what_docker_refuses(engine: Engine, web: str, local: Path) -> None:
    await engine.copy_to_container(web, f"{local}/sub", "/src/taken")
    await engine.copy_to_container(web, f"{local}/file", "/src/taken/sub")
    before = await engine.list_changes(web)
    for name, path, error, text in IN_REFUSED:
        with pytest.raises(error) as caught:
            await engine.copy_to_container(web, f"{local}/{name}", path)
        assert text in str(caught.value), (name, path)
        assert await engine.list_changes(web) == before, (name, path)


async def test_a_link_is_followed_when_asked(engine: Engine, web: str, tmp_path: Path) -> None:
    await engine.copy_from_container(web, "/src/link", str(tmp_path), options=FOLLOWING)
    assert tree(tmp_path) == {"link": "file\n"}
    (tmp_path / "outward").symlink_to("link")
    await engine.copy_to_container(web, f"{tmp_path}/outward", "/dir", options=FOLLOWING)
    await engine.copy_from_container(web, "/dir/outward", f"{tmp_path}/back")
    assert (tmp_path / "back").read_text() == "file\n"


async def test_a_set_user_id_bit_is_taken_along_only_with_the_owner(
    engine: Engine, web: str, tmp_path: Path
) -> None:
    await engine.copy_from_container(web, "/src/file", f"{tmp_path}/plain")
    await engine.copy_from_container(web, "/src/file", f"{tmp_path}/kept", options=KEEPING)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o4755


@pytest.mark.root
async def test_owners_are_kept_when_asked_and_roots_otherwise(
    engine: Engine, web: str, local: Path, tmp_path: Path
) -> None:
    os.chown(local / "file", 1234, 4321)
    await engine.copy_to_container(web, f"{local}/file", "/dir/plain")
    await engine.copy_to_container(web, f"{local}/file", "/dir/kept", options=KEEPING)
    for name, owner in (("plain", (0, 0)), ("kept", (1234, 4321))):
        await engine.copy_from_container(web, f"/dir/{name}", str(tmp_path), options=KEEPING)
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid) == owner


async def test_a_link_that_leads_out_leads_in(engine: Engine, web: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    (tmp_path / "out").symlink_to(tmp_path)
    await engine.copy_to_container(web, f"{tmp_path}/out", "/escape")
    with pytest.raises(NotInContainerError):
        await engine.copy_from_container(web, "/escape/secret", f"{tmp_path}/got")
    with pytest.raises((NotInContainerError, CopyRefusedError)):
        await engine.copy_to_container(web, f"{tmp_path}/secret", "/escape/planted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "secret"]


async def test_a_large_file_with_holes_stays_what_it_is(
    engine: Engine, web: str, tmp_path: Path
) -> None:
    source = tmp_path / "holes"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(30 << 20)
        file.write(os.urandom(3 << 20))
    seen = []
    await engine.copy_to_container(web, str(source), "/dir", progress=seen.append)
    await engine.copy_from_container(web, "/dir/holes", f"{tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert (tmp_path / "back").stat().st_blocks * 512 < 32 << 20
    assert seen[-1].done > 1 << 20


async def test_volumes_are_reached_running_or_not(
    engine: Engine, starter_image: LoadedImage, tmp_path: Path
) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "note").write_text("note")
    mounts = (
        MountRequest(kind="volume", source="kept", target="/made/vol"),
        MountRequest(kind="bind", source=f"{tmp_path}/bound", target="/bound"),
        MountRequest(kind="bind", source=f"{tmp_path}/bound", target="/fixed", is_read_only=True),
    )
    await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sleep", "1000"), mounts=mounts)
    )
    for turn in ("stopped", "running"):
        if turn == "running":
            await engine.start_container("web")
        for place in ("/made/vol", "/bound"):
            await engine.copy_to_container("web", f"{tmp_path}/note", f"{place}/{turn}")
            await engine.copy_from_container("web", f"{place}/{turn}", f"{tmp_path}/back")
            assert (tmp_path / "back").read_text() == "note"
        assert (tmp_path / "bound" / turn).read_text() == "note"
        with pytest.raises(CopyRefusedError, match="read-only"):
            await engine.copy_to_container("web", f"{tmp_path}/note", "/fixed/x")
    await engine.copy_from_container("web", "/made", f"{tmp_path}/made")
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o755
    volume = await engine.inspect_volume("kept")
    assert sorted(os.listdir(volume.mount_point)) == ["running", "stopped"]
    assert await engine.list_changes("web") == ()


async def test_a_read_only_root_stays_as_it_is(
    engine: Engine, starter_image: LoadedImage, tmp_path: Path
) -> None:
    (tmp_path / "note").write_text("note")
    await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sleep", "1000"), is_read_only=True)
    )
    with pytest.raises(CopyRefusedError, match="container rootfs is marked read-only"):
        await engine.copy_to_container("web", f"{tmp_path}/note", "/tmp")
    await engine.start_container("web")
    with pytest.raises(CopyRefusedError, match="read-only"):
        await engine.copy_to_container("web", f"{tmp_path}/note", "/tmp")
    assert await engine.list_changes("web") == ()


async def test_the_kernels_files_are_left_out_of_a_whole_root(
    engine: Engine, web: str, tmp_path: Path
) -> None:
    await engine.copy_from_container(web, "/", f"{tmp_path}/root")
    assert (tmp_path / "root/src/file").read_text() == "file\n"
    for name in ("proc", "sys", "dev"):
        assert os.listdir(tmp_path / "root" / name) == []


async def test_directories_that_an_archive_leaves_out_are_made(
    engine: Engine, web: str, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("not/named/file"))
    with os.fdopen(os.memfd_create("archive"), "w+b") as file:
        file.write(stream.getvalue())
        file.seek(0)
        await engine.extract_to_container(web, file.fileno(), "/dir")
    await engine.copy_from_container(web, "/dir/not", str(tmp_path))
    assert (tmp_path / "not/named/file").read_bytes() == b""
    assert stat.S_IMODE((tmp_path / "not/named").stat().st_mode) == 0o755


async def test_what_is_no_tar_is_refused(engine: Engine, web: str) -> None:
    with os.fdopen(os.memfd_create("no-tar"), "w+b") as file:
        file.write(b"this is no archive at all" * 100)
        file.seek(0)
        with pytest.raises(ArchiveError, match="not a tar"):
            await engine.extract_to_container(web, file.fileno(), "/dir")


async def test_a_container_that_is_being_removed_is_not_touched(
    engine: Engine, starter_image: LoadedImage, tmp_path: Path, store_paths: StorePaths
) -> None:
    created = await engine.create_container(ContainerRequest(image="starter", name="web"))
    state = store_paths.root / "containers" / created.container_id / "state.json"
    state.write_text(state.read_text().replace('"created"', '"dead"'))
    with pytest.raises(ContainerStateError, match="marked for removal"):
        await engine.copy_from_container("web", "/etc", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


# --- the command line -------------------------------------------------------------------------


@pytest.fixture
def lamella(store_paths: StorePaths) -> CommandLine:
    return CommandLine(store_paths)


def gnu_tar_lists(archive: bytes) -> list[str]:
    listed = subprocess.run(("tar", "-tf", "-"), input=archive, capture_output=True, check=True)
    assert listed.stderr == b""
    return listed.stdout.decode().splitlines()


async def test_a_tar_streams_through_the_command_line(
    engine: Engine, web: str, lamella: CommandLine, tmp_path: Path
) -> None:
    out = lamella("cp", "web:/src", "-")
    assert out.returncode == 0, out.stderr
    assert gnu_tar_lists(out.stdout) == [
        "src/",
        "src/file",
        "src/hard",
        "src/link",
        "src/sub/",
        "src/sub/file",
    ]
    assert lamella("cp", "-", "web:/dir", stdin=out.stdout).returncode == 0
    assert lamella("cp", "-q", "web:/dir/src/.", str(tmp_path)).stderr == b""
    assert tree(tmp_path) == SOURCE
    refused = lamella("cp", "-", "web:/there", stdin=out.stdout)
    assert (refused.returncode, refused.stderr.decode().splitlines()[0]) == (
        1,
        'Error: destination "web:/there" must be a directory',
    )


async def test_the_command_line_says_what_it_did_and_what_it_takes(
    engine: Engine, web: str, lamella: CommandLine, tmp_path: Path
) -> None:
    done = lamella("cp", "web:/there", str(tmp_path))
    assert done.stderr.decode() == f"Successfully copied 6 B to {tmp_path}\n"
    for words, text in (
        (("a", "b"), "must specify at least one container source"),
        (("web:/a", "web:/b"), "copying between containers is not supported"),
    ):
        assert text in lamella("cp", *words).stderr.decode()
    missing = lamella("cp", "web:/no", str(tmp_path))
    assert missing.returncode == 1
    assert "Error: Could not find the file /no in container web" in missing.stderr.decode()


async def test_an_export_is_a_tar_for_gnu_tar(
    engine: Engine, web: str, lamella: CommandLine, tmp_path: Path
) -> None:
    archive = tmp_path / "web.tar"
    assert lamella("export", "-o", str(archive), "web").returncode == 0
    piped = lamella("export", "web")
    assert piped.stdout == archive.read_bytes()
    names = gnu_tar_lists(piped.stdout)
    assert {"there", "src/file", "bin/sh", "etc/passwd"} <= set(names)
    assert len(names) == len(set(names))
    lost = lamella("export", "-o", str(tmp_path / "no/web.tar"), "web")
    assert lost.returncode == 1
    assert "cannot write" in lost.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["web.tar"]
