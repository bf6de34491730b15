"""Every image of the corpus, loaded and saved, is still equal for skopeo, Podman and Docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.types import ArchiveFormat, Compression, SaveOptions
from tests.integration.images.corpus import need, run
from tests.integration.images.daemons import docker_daemon
from tests.integration.images.loading import describe
from tests.integration.images.stacks import LAYER_COUNT, own_podman
from tests.integration.images.test_saving_archives import MADE, differences, unpacked

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

OCI_GZIP = SaveOptions(format=ArchiveFormat.OCI_ARCHIVE, layer_compression=Compression.GZIP)
CORPUS = ("nasty", "odd", "many")


@pytest.fixture
async def images(engine, request) -> dict[str, dict]:
    """Every image of the corpus in the store; what umoci makes of each, by name."""
    expected: dict[str, dict] = {}
    # Podman and Docker would copy a Debian for each of its layers.
    for name in getattr(request, "param", CORPUS):
        place = request.getfixturevalue(f"{name}_corpus")
        await engine.load_images(place / "docker.tar")
        expected[f"example/{name}:1"] = describe(place / "bundle/rootfs")
    place = request.getfixturevalue("multi_corpus")
    await engine.load_images(place / "podman.tar")
    for name in ("base", "one", "two"):
        expected[f"example/{name}:1"] = describe(place / f"bundle-{name}/rootfs")
    return expected


@pytest.mark.parametrize("images", [(*CORPUS, "debian")], indirect=True, ids=["with a Debian"])
async def test_skopeo_and_umoci_find_every_image_of_one_archive(engine, tmp_path, images):
    need("skopeo", "umoci")
    saved = await engine.save_images(tuple(images), tmp_path / "saved.tar")
    assert saved.warnings == ()
    for number, (name, expected) in enumerate(images.items()):
        place = tmp_path / str(number)
        place.mkdir()
        found = unpacked(f"docker-archive:{tmp_path}/saved.tar:{name}", place)
        assert differences(expected, found) == {}, name


@pytest.mark.parametrize("form", ["one docker-archive", "gzip of one image", "OCI archives"])
async def test_podman_finds_the_same_files(engine, tmp_path, images, form):
    need("podman")
    names = tuple(images)
    match form:
        case "one docker-archive":
            saves = [(names, SaveOptions())]
        case "gzip of one image":
            # Of several it loads none, its own neither.
            saves = [(names[:1], SaveOptions(archive_compression=Compression.GZIP))]
        case _:
            saves = [((name,), OCI_GZIP) for name in names]
    with own_podman() as podman:
        for number, (saved, options) in enumerate(saves):
            await engine.save_images(saved, tmp_path / str(number), options=options)
            run(*podman, "load", "-q", "-i", tmp_path / str(number))
            (tmp_path / str(number)).unlink()
        for name in dict.fromkeys(name for saved, _options in saves for name in saved):
            image_id = (await engine.inspect_image(name)).summary.image_id
            (said,) = json.loads(run(*podman, "image", "inspect", image_id))
            assert f"sha256:{said['Id']}" == image_id
            root = run(*podman, "image", "mount", image_id).strip()
            # Attributes in the name space `user` are lost in its vfs store.
            expected, found = (
                {path: (*what[:4], *what[5:]) for path, what in tree.items()}
                for tree in (images[name], describe(Path(root)))
            )
            assert differences(expected, found) == {}, name
            run(*podman, "image", "umount", image_id)


async def test_docker_finds_the_same_files_and_we_in_what_it_saves(
    engine, tmp_path, store_paths, images
):
    need("docker", "dockerd")
    await engine.save_images(tuple(images), tmp_path / "saved.tar")
    ids = {name: (await engine.inspect_image(name)).summary.image_id for name in images}
    # It saves no layer that came as a sparse tar (moby/moby#27189, vbatts/tar-split#17).
    others = [name for name in images if name != "example/nasty:1"]
    with docker_daemon(store_paths.root.parent / "docker") as docker:
        run(*docker, "load", "-i", tmp_path / "saved.tar")
        for number, (name, expected) in enumerate(images.items()):
            assert run(*docker, "inspect", "-f", "{{.Id}}", name).strip() == ids[name]
            container = run(*docker, "create", name, "x").strip()
            archive, root = tmp_path / f"{number}.tar", tmp_path / str(number)
            run(*docker, "export", "-o", archive, container)
            run(*docker, "rm", container)
            root.mkdir()
            run("tar", "--numeric-owner", "--same-owner", "-xpf", archive, "-C", root)
            found, wanted = (
                # Docker exports few attributes.
                {path: what[:4] for path, what in tree.items() if path.split("/")[0] not in MADE}
                for tree in (describe(root), expected)
            )
            assert differences(wanted, found) == {}, name
        run(*docker, "save", "-o", tmp_path / "again.tar", *others)

    for name in images:
        await engine.remove_image(name)
    loaded = await engine.load_images(tmp_path / "again.tar")
    assert {name: image.image_id for image in loaded for name in image.names} == {
        name: ids[name] for name in others
    }
    assert len((await engine.inspect_image("example/many:1")).layers) >= LAYER_COUNT
    await engine.save_images(others, tmp_path / "saved.tar")
    for number, name in enumerate(others):
        place = tmp_path / f"place-{number}"
        place.mkdir()
        found = unpacked(f"docker-archive:{tmp_path}/saved.tar:{name}", place)
        assert differences(images[name], found) == {}, name
