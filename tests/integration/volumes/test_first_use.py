"""An empty volume gets what the image has at its mount point, once, with owners and modes."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerRequest, MountRequest
from tests.integration.images.loading import HOST
from tests.unit.snapshots.tars import END, directory, entry, symlink

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi
    from engine.config import EngineConfig
    from engine.types import LoadedImage

    from .conftest import Teller

LAYERS = (
    directory(b"srv", owner=1000, mode=0o2750)
    + entry(b"srv/old", b"old", owner=1000)
    + entry(b"srv/kept", b"kept", mode=0o640, owner=1001)
    + directory(b"srv/sub")
    + entry(b"srv/sub/gone", b"gone")
    + directory(b"var")
    + symlink(b"var/srv", b"/srv")
    + symlink(b"srv/out", b"/../../etc/passwd")
    + END,
    directory(b"srv", owner=1000, mode=0o2750)
    + entry(b"srv/.wh.old", b"")
    + entry(b"srv/new", b"new", mode=0o4755, owner=0)
    + directory(b"srv/sub")
    + entry(b"srv/sub/.wh.gone", b"")
    + END,
)


@pytest.fixture
async def image(engine: EngineApi, tmp_path: Path) -> str:
    """An image `web:1` of two layers with files in /srv, and the volume /srv/sub."""
    diff_ids = [f"sha256:{sha256(layer).hexdigest()}" for layer in LAYERS]
    document = {
        "architecture": HOST,
        "os": "linux",
        "config": {"Volumes": {"/srv/sub": {}}, "Cmd": ["serve"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    names = [f"{number}.tar" for number in range(len(LAYERS))]
    item = {"Config": "config.json", "RepoTags": ["web:1"], "Layers": names}
    archive = entry(b"manifest.json", json.dumps([item]).encode())
    archive += entry(b"config.json", json.dumps(document).encode())
    for name, layer in zip(names, LAYERS, strict=True):
        archive += entry(name.encode(), layer)
    path = tmp_path / "web.tar"
    path.write_bytes(archive + END)
    await engine.load_images(path)
    return "web:1"


async def make(engine: EngineApi, image: str, *mounts: MountRequest) -> None:
    created = await engine.create_container(ContainerRequest(image=image, mounts=mounts))
    await engine.remove_container(created.container_id, removes_volumes=True)


def volume(name: str, target: str, **fields: object) -> MountRequest:
    return MountRequest(kind="volume", source=name, target=target, **fields)  # type: ignore[arg-type]


def data(config: EngineConfig, name: str) -> Path:
    return config.volume_directory(name) / "_data"


@pytest.mark.root
@pytest.mark.parametrize("target", ["/srv", "/var/srv", "/var/../var/srv/"])
async def test_the_files_of_all_layers_come_with_their_owners_and_modes(
    engine: EngineApi, config: EngineConfig, image: str, target: str
) -> None:
    await make(engine, image, volume("files", target))
    top = data(config, "files")
    assert sorted(os.listdir(top)) == ["kept", "new", "out", "sub"]
    assert (top / "new").read_text() == "new"
    assert os.listdir(top / "sub") == []
    looks = {
        name: (oct(status.st_mode & 0o7777), status.st_uid)
        for name in (".", "kept", "new")
        for status in (os.lstat(top / name),)
    }
    assert looks == {".": ("0o2750", 1000), "kept": ("0o640", 1001), "new": ("0o4755", 0)}
    assert os.readlink(top / "out") == "/../../etc/passwd"


@pytest.mark.root
async def test_what_is_in_a_volume_stays(
    engine: EngineApi, config: EngineConfig, image: str
) -> None:
    await make(engine, image, volume("files", "/srv"))
    (data(config, "files") / "new").write_text("changed")
    (data(config, "files") / "kept").unlink()
    await make(engine, image, volume("files", "/srv"))
    assert (data(config, "files") / "new").read_text() == "changed"
    assert not (data(config, "files") / "kept").exists()


@pytest.mark.root
async def test_a_volume_that_was_made_before_is_filled_while_it_is_empty(
    engine: EngineApi, config: EngineConfig, image: str
) -> None:
    await engine.create_volume("files")
    await make(engine, image, volume("files", "/none"))
    assert os.listdir(data(config, "files")) == []
    await make(engine, image, volume("files", "/srv", has_copy=False))
    assert os.listdir(data(config, "files")) == []
    await make(engine, image, volume("files", "/srv"))
    assert "new" in os.listdir(data(config, "files"))


@pytest.mark.root
async def test_an_empty_volume_that_runs_somewhere_is_not_exchanged_below_it(
    engine: EngineApi, config: EngineConfig, starter_image: LoadedImage, image: str
) -> None:
    waits = ("sh", "-c", "read x < /dev/zero")
    request = ContainerRequest(
        image="starter", name="runs", command=waits, mounts=(volume("files", "/none"),)
    )
    await engine.create_container(request)
    await engine.start_container("runs")
    before = os.stat(data(config, "files")).st_ino
    await make(engine, image, volume("files", "/srv"))
    assert os.stat(data(config, "files")).st_ino == before
    await engine.remove_container("runs", is_forced=True)
    await make(engine, image, volume("files", "/srv"))
    assert "new" in os.listdir(data(config, "files"))


async def test_the_images_own_volumes_are_anonymous_unless_something_is_mounted_there(
    engine: EngineApi, image: str
) -> None:
    async def kinds(*mounts: MountRequest) -> list[tuple[str, str]]:
        created = await engine.create_container(ContainerRequest(image=image, mounts=mounts))
        found = (await engine.inspect_container(created.container_id)).mounts
        await engine.remove_container(created.container_id, removes_volumes=True)
        return [(mount.kind, mount.target) for mount in found]

    assert await kinds() == [("volume", "/srv/sub")]
    tmpfs = MountRequest(kind="tmpfs", source="", target="/srv/sub/")
    assert await kinds(tmpfs) == [("tmpfs", "/srv/sub")]
    assert await kinds(volume("named", "/srv/sub")) == [("volume", "/srv/sub")]
    assert [one.name for one in await engine.list_volumes()] == ["named"]


@pytest.mark.root
async def test_ten_containers_made_at_once_share_one_whole_volume(
    engine: EngineApi, config: EngineConfig, said: Teller, image: str
) -> None:
    import asyncio

    async def create(number: int) -> None:
        await engine.create_container(
            ContainerRequest(image=image, name=f"c{number}", mounts=(volume("files", "/srv"),))
        )

    await asyncio.gather(*(create(number) for number in range(10)))
    assert sorted(os.listdir(data(config, "files"))) == ["kept", "new", "out", "sub"]
    assert len((await engine.inspect_volume("files")).container_names) == 10


async def test_a_container_that_cannot_be_made_leaves_no_volume(
    engine: EngineApi, config: EngineConfig, image: str
) -> None:
    from engine.errors import NameInUseError

    await engine.create_container(ContainerRequest(image=image, name="one"))
    before = await engine.list_volumes()
    with pytest.raises(NameInUseError):
        await engine.create_container(
            ContainerRequest(image=image, name="one", mounts=(volume("files", "/srv"),))
        )
    assert await engine.list_volumes() == before
    assert os.listdir(config.volumes_directory) == [before[0].name]
    assert os.listdir(config.run / "volumes") == [before[0].name]
