"""What we save, as other tools see it: the file trees that umoci unpacked of the originals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from engine.errors import DigestMismatchError, StoreError
from engine.types import ArchiveFormat, Compression, SaveOptions
from tests.integration.images.corpus import run
from tests.integration.images.daemons import docker_daemon
from tests.integration.images.loading import describe
from tests.integration.images.stacks import LAYER_COUNT

pytestmark = pytest.mark.root

DOCKER, OCI, DIRECTORY = (
    ArchiveFormat.DOCKER_ARCHIVE,
    ArchiveFormat.OCI_ARCHIVE,
    ArchiveFormat.OCI_DIRECTORY,
)
COPY = ("skopeo", "copy", "--insecure-policy", "-q")
MADE = {".dockerenv", "dev", "etc", "proc", "sys", "data"}
"""What Docker makes in every container."""
SCHEMAS = Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")


def unpacked(source: str, place: Path) -> dict:
    """The file tree of an image that skopeo copies and umoci unpacks."""
    run(*COPY, "--dest-decompress", source, f"dir:{place}/plain")  # umoci knows no zstd
    run(*COPY, f"dir:{place}/plain", f"oci:{place}/layout:image")
    run("umoci", "unpack", "--image", f"{place}/layout:image", place / "bundle")
    return describe(place / "bundle/rootfs")


def differences(expected: dict, actual: dict) -> dict:
    return {
        path: (expected.get(path), actual.get(path))
        for path in expected.keys() | actual.keys()
        if expected.get(path) != actual.get(path)
    }


FORMS = [
    SaveOptions(),
    SaveOptions(layer_compression=Compression.GZIP),
    SaveOptions(archive_compression=Compression.GZIP),
    SaveOptions(format=OCI),
    SaveOptions(format=OCI, layer_compression=Compression.GZIP),
    SaveOptions(format=OCI, layer_compression=Compression.ZSTD),
    SaveOptions(format=DIRECTORY),
    SaveOptions(format=DIRECTORY, layer_compression=Compression.ZSTD),
]


def label(options: SaveOptions) -> str:
    return f"{options.format}-{options.layer_compression}-{options.archive_compression}"


def source_of(target: Path, options: SaveOptions) -> str:
    prefix = {DOCKER: "docker-archive", OCI: "oci-archive", DIRECTORY: "oci"}[options.format]
    return f"{prefix}:{target}"


@pytest.mark.parametrize("options", FORMS, ids=label)
async def test_a_nasty_image_is_still_the_same_for_skopeo_and_umoci(
    engine, tmp_path, nasty_corpus, options
):
    await engine.load_images(nasty_corpus / "oci.tar")
    target = tmp_path / "saved"

    await engine.save_images(["oci:nasty"], target, options=options)

    if options.archive_compression is not Compression.NONE:
        # skopeo does not look into a compressed archive; Docker and Podman do.
        target.rename(tmp_path / "saved.gz")
        run("gzip", "-d", tmp_path / "saved.gz")
    expected = describe(nasty_corpus / "bundle/rootfs")
    (tmp_path / "place").mkdir()
    assert differences(expected, unpacked(source_of(target, options), tmp_path / "place")) == {}


@pytest.mark.parametrize("options", FORMS, ids=label)
async def test_saving_twice_gives_the_same_bytes(engine, tmp_path, nasty_corpus, options):
    await engine.load_images(nasty_corpus / "oci.tar")
    digests = []
    for name in ("first", "second"):
        target = tmp_path / name
        await engine.save_images(["oci:nasty"], target, options=options)
        files = sorted(path for path in target.rglob("*") if path.is_file()) or [target]
        digests.append(
            [
                (str(path.relative_to(target)), hashlib.sha256(path.read_bytes()).hexdigest())
                for path in files
            ]
        )
    assert digests[0] == digests[1]


@pytest.mark.parametrize("form", ["docker.tar", "docker.tar.gz", "oci", "zstd"])
async def test_layers_are_the_very_tars_that_they_came_as(engine, tmp_path, nasty_corpus, form):
    loaded = (await engine.load_images(nasty_corpus / form))[0]
    target = tmp_path / "saved"
    await engine.save_images(
        [loaded.image_id], target, options=SaveOptions(format=ArchiveFormat.OCI_DIRECTORY)
    )

    manifest = json.loads((nasty_corpus / "oci/index.json").read_bytes())["manifests"][0]
    blobs = nasty_corpus / "oci/blobs/sha256"
    document = json.loads((blobs / manifest["digest"][7:]).read_bytes())
    config = json.loads((blobs / document["config"]["digest"][7:]).read_bytes())
    for diff_id in config["rootfs"]["diff_ids"]:
        content = (target / "blobs/sha256" / diff_id[7:]).read_bytes()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == diff_id


@pytest.mark.parametrize("options", [SaveOptions(), SaveOptions(format=OCI)], ids=label)
async def test_what_is_saved_to_a_pipe_is_what_is_saved_to_a_file(
    engine, tmp_path, nasty_corpus, options
):
    await engine.load_images(nasty_corpus / "oci.tar")
    await engine.save_images(["oci:nasty"], tmp_path / "file", options=options)
    reading, writing = os.pipe()
    program = await asyncio.create_subprocess_exec(
        "sha256sum", stdin=reading, stdout=asyncio.subprocess.PIPE
    )
    os.close(reading)
    try:
        await engine.save_images(["oci:nasty"], writing, options=options)
    finally:
        os.close(writing)
        said, _ = await program.communicate()
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    assert said.decode().split()[0] == digest


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
async def test_compressed_layers_in_a_pipe_are_whole(engine, tmp_path, nasty_corpus, compression):
    await engine.load_images(nasty_corpus / "oci.tar")
    options = SaveOptions(format=OCI, layer_compression=compression)
    await engine.save_images(["oci:nasty"], tmp_path / "file", options=options)
    descriptor = os.memfd_create("stream")
    try:
        await engine.save_images(["oci:nasty"], descriptor, options=options)
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
    assert content == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("form", ["docker.tar", "oci.tar"])
@pytest.mark.timeout(300)
async def test_an_image_of_119_layers_goes_in_and_out(engine, tmp_path, many_corpus, form):
    loaded = (await engine.load_images(many_corpus / form))[0]
    saved = await engine.save_images([loaded.image_id], tmp_path / "saved.tar")
    (tmp_path / "place").mkdir()
    actual = unpacked(f"docker-archive:{tmp_path}/saved.tar", tmp_path / "place")
    assert saved.layer_count == LAYER_COUNT
    assert differences(describe(many_corpus / "bundle/rootfs"), actual) == {}


@pytest.mark.parametrize("form", ["podman.tar", "oci.tar"])
async def test_several_images_are_loaded_and_saved_in_one_archive(
    engine, tmp_path, multi_corpus, form
):
    loaded = await engine.load_images(multi_corpus / form)
    names = [name for image in loaded for name in image.names]
    assert len(names) == 3

    saved = await engine.save_images(names, tmp_path / "saved.tar")

    assert saved.layer_count == 3
    with tarfile.open(tmp_path / "saved.tar") as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        listed = [name for item in json.loads(content.read()) for name in item["RepoTags"]]
    assert listed == names
    for name in names:
        place = tmp_path / name.replace("/", "-").replace(":", "-")
        place.mkdir()
        bundle = next(
            multi_corpus / f"bundle-{key}" for key in ("base", "one", "two") if key in name
        )
        actual = unpacked(f"docker-archive:{tmp_path}/saved.tar:{name}", place)
        assert differences(describe(bundle / "rootfs"), actual) == {}


@pytest.mark.timeout(300)
async def test_docker_loads_what_we_save_and_we_what_it_saves(
    engine, tmp_path, store_paths, nasty_corpus, multi_corpus
):
    await engine.load_images(nasty_corpus / "docker.tar")
    await engine.load_images(multi_corpus / "podman.tar")
    several = ["example/base:1", "example/one:1", "example/two:1"]
    for names, name in ((["example/nasty:1"], "nasty.tar"), (several, "several.tar.gz")):
        compression = Compression.GZIP if name.endswith(".gz") else Compression.NONE
        options = SaveOptions(archive_compression=compression)
        await engine.save_images(names, tmp_path / name, options=options)
    ids = {
        name: (await engine.inspect_image(name)).summary.image_id
        for name in (*several, "example/nasty:1")
    }

    with docker_daemon(store_paths.root.parent / "docker") as docker:
        said = run(*docker, "load", "-i", tmp_path / "nasty.tar")
        said += run(*docker, "load", "-i", tmp_path / "several.tar.gz")
        for name, image_id in ids.items():
            assert f"Loaded image: {name}\n" in said
            assert run(*docker, "inspect", "-f", "{{.Id}}", name).strip() == image_id
        container = run(*docker, "create", "example/nasty:1", "x").strip()
        run(*docker, "export", "-o", tmp_path / "exported.tar", container)
        run(*docker, "save", "-o", tmp_path / "again.tar", *several)

    loaded = await engine.load_images(tmp_path / "again.tar")
    assert {name: image.image_id for image in loaded for name in image.names} == {
        name: ids[name] for name in several
    }
    root = tmp_path / "exported"
    root.mkdir()
    run("tar", "--numeric-owner", "--same-owner", "-xpf", tmp_path / "exported.tar", "-C", root)
    expected, actual = (
        {path: what[:4] for path, what in describe(tree).items() if path.split("/")[0] not in MADE}
        for tree in (nasty_corpus / "bundle/rootfs", root)
    )
    assert differences(expected, actual) == {}


async def test_a_chunked_zstd_image_is_loaded(engine, tmp_path, multi_corpus):
    loaded = (await engine.load_images(multi_corpus / "chunked"))[0]
    await engine.save_images([loaded.image_id], tmp_path / "saved.tar")
    (tmp_path / "place").mkdir()
    actual = unpacked(f"docker-archive:{tmp_path}/saved.tar", tmp_path / "place")
    assert differences(describe(multi_corpus / "bundle-two/rootfs"), actual) == {}


@pytest.mark.parametrize("options", [*FORMS[3:6], FORMS[0]], ids=label)
async def test_what_we_write_validates_against_the_schemas(engine, tmp_path, nasty_corpus, options):
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    pytest.importorskip("referencing.jsonschema")
    if not SCHEMAS.is_dir():
        pytest.skip("golang-github-opencontainers-image-spec-dev is not installed")
    schemas = {path.name: json.loads(path.read_bytes()) for path in SCHEMAS.glob("*.json")}
    by_id = {schema.get("id"): schema for schema in schemas.values()}

    def find(uri: str) -> object:
        schema = by_id.get(uri) or schemas[uri.rpartition("/")[2]]
        return referencing.jsonschema.DRAFT4.create_resource(schema)

    registry = referencing.Registry(retrieve=find)

    def check(document: bytes, name: str) -> dict:
        value = json.loads(document)
        jsonschema.Draft4Validator(schemas[name], registry=registry).validate(value)
        return value

    await engine.load_images(nasty_corpus / "docker.tar")
    await engine.save_images(["example/nasty:1"], tmp_path / "saved.tar", options=options)
    with tarfile.open(tmp_path / "saved.tar") as tar:
        contents = {
            member.name: content.read()
            for member in tar
            if member.isfile() and (content := tar.extractfile(member)) is not None
        }
    check(contents["oci-layout"], "image-layout-schema.json")
    index = check(contents["index.json"], "image-index-schema.json")
    for descriptor in index["manifests"]:
        manifest = check(
            contents[f"blobs/sha256/{descriptor['digest'][7:]}"], "image-manifest-schema.json"
        )
        check(contents[f"blobs/sha256/{manifest['config']['digest'][7:]}"], "config-schema.json")
        for part in (manifest["config"], *manifest["layers"]):
            blob = contents[f"blobs/sha256/{part['digest'][7:]}"]
            assert part["digest"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
            assert part["size"] == len(blob)


async def test_a_manifest_that_says_the_same_keeps_its_digest(engine, tmp_path, nasty_corpus):
    await engine.load_images(nasty_corpus / "docker.tar")
    before = (await engine.inspect_image("example/nasty:1")).digest
    await engine.save_images(["example/nasty:1"], tmp_path / "o", options=SaveOptions(format=OCI))
    with tarfile.open(tmp_path / "o") as tar:
        content = tar.extractfile("index.json")
        assert content is not None
        index = json.loads(content.read())
    assert [item["digest"] for item in index["manifests"]] == [before]


@pytest.mark.parametrize("is_missing", [True, False], ids=["missing", "changed"])
async def test_a_damaged_layer_leaves_no_archive(
    engine, tmp_path, store_paths, multi_corpus, is_missing
):
    names = [
        name
        for image in await engine.load_images(multi_corpus / "podman.tar")
        for name in image.names
    ]
    for motd in store_paths.root.glob("layers/*/diff/etc/motd"):
        if is_missing:
            motd.unlink()
        else:
            motd.write_text("fine"[: motd.stat().st_size])
    with pytest.raises(StoreError if is_missing else (DigestMismatchError, StoreError)):
        await engine.save_images(names, tmp_path / "saved.tar")
    assert list(tmp_path.glob(".*")) == []
    assert not (tmp_path / "saved.tar").exists()


async def test_a_layer_from_before_tars_were_kept_is_packed_anew_and_said_so(
    engine, tmp_path, store_paths, nasty_corpus
):
    await engine.load_images(nasty_corpus / "docker.tar")
    for tar in store_paths.root.glob("layers/*/tar"):
        tar.unlink()

    saved = await engine.save_images(["example/nasty:1"], tmp_path / "saved.tar")

    assert any("packed anew" in warning for warning in saved.warnings)
    (tmp_path / "place").mkdir()
    actual = unpacked(f"docker-archive:{tmp_path}/saved.tar", tmp_path / "place")
    assert differences(describe(nasty_corpus / "bundle/rootfs"), actual) == {}
