"""Images for several platforms: which of them is loaded, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from engine.errors import InvalidInputError, PlatformMismatchError
from engine.oci.platforms import host_platform
from engine.types import ArchiveFormat, ImportRequest, SaveOptions

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import Engine

HERE = str(host_platform())
FOREIGN = "linux/s390x"


@pytest.fixture
async def layout(engine: Engine, tmp_path: Path) -> Path:
    """An OCI layout with `multi:1` for this host and for another one, told by an index."""
    target = tmp_path / "layout"
    descriptors = []
    for platform in (HERE, FOREIGN):
        source = tmp_path / "root.tar"
        with tarfile.open(source, "w") as tar:
            content = platform.encode()
            entry = tarfile.TarInfo("platform")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        made = await engine.import_image(source, ImportRequest(platform=platform))
        one = tmp_path / platform.rpartition("/")[2]
        options = SaveOptions(format=ArchiveFormat.OCI_DIRECTORY)
        await engine.save_images([made.image_id], one, options=options)
        await engine.remove_image(made.image_id)
        (descriptor,) = json.loads((one / "index.json").read_bytes())["manifests"]
        descriptor.pop("annotations", None)
        system, architecture = platform.split("/")
        descriptor["platform"] = {"os": system, "architecture": architecture}
        descriptors.append(descriptor)
        shutil.copytree(one, target, dirs_exist_ok=True)
    for descriptor in descriptors:
        descriptor["annotations"] = {"io.containerd.image.name": "docker.io/library/multi:1"}
    index = {"schemaVersion": 2, "manifests": descriptors}
    (target / "index.json").write_text(json.dumps(index))
    return target


async def platform_of(engine: Engine) -> str:
    details = await engine.inspect_image("multi:1")
    return f"{details.operating_system}/{details.architecture}"


async def test_the_image_for_the_platform_is_loaded(engine: Engine, layout: Path) -> None:
    await engine.load_images(layout)
    assert await platform_of(engine) == HERE
    (loaded,) = await engine.load_images(layout, platform=FOREIGN)
    assert loaded.names == ("multi:1",)
    assert await platform_of(engine) == FOREIGN
    file = await engine.read_layer_file("multi:1", 0, "platform")
    assert file.content == FOREIGN.encode()


async def test_a_platform_that_is_not_there_leaves_the_store_as_it_was(
    engine: Engine, layout: Path
) -> None:
    with pytest.raises(PlatformMismatchError, match=r"linux/riscv64 was asked for") as refused:
        await engine.load_images(layout, platform="linux/riscv64")
    assert set(refused.value.platforms) == {HERE, FOREIGN}
    with pytest.raises(InvalidInputError, match="invalid platform"):
        await engine.load_images(layout, platform="linux/a/b/c")
    assert await engine.list_images() == ()


async def test_an_archive_that_names_the_image_of_its_host_has_the_others_as_well(
    engine: Engine, layout: Path
) -> None:
    # Docker writes manifest.json for the one platform that it runs, beside the whole index.
    index = json.loads((layout / "index.json").read_bytes())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((layout / "blobs/sha256" / digest).read_bytes())

    def place(descriptor: dict[str, str]) -> str:
        return f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"

    named = {
        "Config": place(manifest["config"]),
        "RepoTags": ["multi:1"],
        "Layers": [place(layer) for layer in manifest["layers"]],
    }
    (layout / "manifest.json").write_text(json.dumps([named]))
    await engine.load_images(layout)
    assert await platform_of(engine) == HERE
    await engine.load_images(layout, platform=FOREIGN)
    assert await platform_of(engine) == FOREIGN
    os.unlink(layout / "index.json")
    with pytest.raises(PlatformMismatchError):
        await engine.load_images(layout, platform=FOREIGN)
