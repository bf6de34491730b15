import hashlib
import os
import stat

import pytest

from engine.config import EngineConfig
from engine.errors import (
    AmbiguousReferenceError,
    ImageInUseError,
    ImageNotFoundError,
    InvalidReferenceError,
)
from engine.images.layout import MadeImage, MadeLayer, write_layout
from engine.images.library import ImageLibrary
from engine.images.starter import LARGEST_IMAGE_BYTES, write_starter_layout
from engine.oci.documents import ConfigSection
from engine.snapshots.tar_writer import TarEntry
from engine.snapshots.writable import remove_tree
from engine.store.database import Database
from engine.store.staging import StagingArea
from engine.types import ContainerRequest
from tests.integration.images.loading import ThreadRunner


def layer(*paths):
    entries = tuple(
        TarEntry(path=path, mode=stat.S_IFREG | 0o644, content=path.encode()) for path in paths
    )
    return MadeLayer(created_by=f"COPY {' '.join(paths)}", entries=entries)


BASE, ONE, TWO = layer("base"), layer("one"), layer("two")


@pytest.fixture
def load(engine, tmp_path):
    """Load an image of some layers; return its id."""

    async def load_layers(name, *layers, label=""):
        directory = tmp_path / f"layout-{len(list(tmp_path.iterdir()))}"
        config = ConfigSection(cmd=("/none",), labels={"label": label} if label else None)
        write_layout(directory, [MadeImage(name=name, layers=layers, config=config)])
        (loaded,) = await engine.load_images(directory)
        return loaded.image_id

    return load_layers


async def names(engine):
    return {name for image in await engine.list_images() for name in image.names}


def layer_directories(store_paths):
    return {path.name for path in (store_paths.root / "layers").iterdir()}


async def test_an_image_is_found_by_everything_that_names_it(engine, load):
    image_id = await load("web:1", BASE, ONE)
    details = await engine.inspect_image("web:1")
    assert details.summary.image_id == image_id
    digits = image_id.removeprefix("sha256:")
    for reference in (
        "docker.io/library/web:1",
        image_id,
        digits,
        digits[:12],
        f"sha256:{digits[:7]}",
        details.digest,
        f"web@{details.digest}",
    ):
        assert (await engine.inspect_image(reference)).summary.image_id == image_id
    for reference in ("web", "web:2", "sha256:" + "0" * 64, "f" * 64, f"web@sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFoundError, match=r"^No such image: "):
            await engine.inspect_image(reference)
    for reference in ("Web", "web:", "../web"):
        with pytest.raises(InvalidReferenceError):
            await engine.inspect_image(reference)


async def test_the_beginning_of_several_ids_is_ambiguous(engine, load):
    ids = [await load(f"web:{number}", BASE, label=str(number)) for number in range(17)]
    first = [image_id.removeprefix("sha256:")[0] for image_id in ids]
    # Of seventeen ids two begin with the same digit.
    shared = next(digit for digit in first if first.count(digit) > 1)
    with pytest.raises(AmbiguousReferenceError, match="matches"):
        await engine.inspect_image(shared)


async def test_a_name_that_looks_like_an_id_is_a_name_first(engine, load):
    other = await load("web:1", BASE)
    digits = other.removeprefix("sha256:")[:4]
    named = await load(f"{digits}:latest", BASE, ONE)
    assert (await engine.inspect_image(digits)).summary.image_id == named
    assert (await engine.inspect_image(f"sha256:{digits}")).summary.image_id == other


async def test_a_name_moves_to_the_image_that_gets_it_last(engine, load):
    first, second = await load("web:1", BASE), await load("web:1", BASE, ONE)
    assert (await engine.inspect_image("web:1")).summary.image_id == second
    assert (await engine.inspect_image(first)).summary.names == ()
    await engine.tag_image(first, "web:1")
    assert (await engine.inspect_image("web:1")).summary.image_id == first
    with pytest.raises(InvalidReferenceError):
        await engine.tag_image(first, f"web@{'sha256:' + '0' * 64}")
    with pytest.raises(ImageNotFoundError):
        await engine.tag_image("nothing", "web:2")


async def test_a_name_of_several_is_taken_away_and_the_last_one_takes_the_image(
    engine, load, store_paths
):
    image_id = await load("web:1", BASE)
    await engine.tag_image("web:1", "web:2")
    removed = await engine.remove_image("web:1")
    assert removed.untagged == ("web:1",)
    assert removed.deleted == ()
    removed = await engine.remove_image("web:2")
    assert removed.untagged == ("web:2",)
    assert removed.deleted[0] == image_id
    assert len(removed.deleted) == 2
    assert removed.freed_bytes > 0
    assert await engine.list_images() == ()
    assert layer_directories(store_paths) == set()
    assert list((store_paths.root / "blobs" / "sha256").iterdir()) == []


async def test_an_id_with_several_names_is_removed_only_by_force(engine, load):
    image_id = await load("web:1", BASE)
    await engine.tag_image("web:1", "other:1")
    with pytest.raises(ImageInUseError, match="conflict: unable to remove image") as caught:
        await engine.remove_image(image_id)
    assert caught.value.users == ("other:1", "web:1")
    assert await names(engine) == {"web:1", "other:1"}
    removed = await engine.remove_image(image_id, is_forced=True)
    assert set(removed.untagged) == {"web:1", "other:1"}
    assert await engine.list_images() == ()


async def test_layers_that_another_image_has_stay(engine, load, store_paths):
    await load("web:1", BASE, ONE)
    kept = await load("web:2", BASE, TWO)
    assert len(layer_directories(store_paths)) == 3
    shared = (await engine.inspect_image("web:1")).layers[0]
    assert shared.shared_image_count == 2
    removed = await engine.remove_image("web:1")
    assert shared.chain_id not in removed.deleted
    assert len(layer_directories(store_paths)) == 2
    tree = await engine.list_layer_files(kept, 0)
    assert [entry.path for entry in tree.entries] == ["base"]


async def test_an_image_with_a_container_keeps_its_layers_until_both_are_gone(
    engine, load, store_paths
):
    await load("web:1", BASE, ONE)
    await engine.create_container(ContainerRequest(image="web:1", name="job"))
    with pytest.raises(ImageInUseError) as caught:
        await engine.remove_image("web:1")
    assert caught.value.users == ("job",)
    # Docker: by force the names go, and the container keeps what it stands on.
    removed = await engine.remove_image("web:1", is_forced=True)
    assert removed.untagged == ("web:1",)
    assert removed.deleted == ()
    assert len(layer_directories(store_paths)) == 2
    await engine.remove_container("job")
    (image,) = await engine.list_images()
    await engine.remove_image(image.image_id)
    assert layer_directories(store_paths) == set()


async def test_what_a_killed_load_or_removal_left_is_swept_at_the_next_start(
    engine, load, store_paths
):
    await load("web:1", BASE)
    kept = layer_directories(store_paths)
    left = store_paths.root / "layers" / ("0" * 64)
    (left / "diff").mkdir(parents=True)
    blob = store_paths.root / "blobs" / "sha256" / hashlib.sha256(b"left").hexdigest()
    blob.write_bytes(b"left")
    config = EngineConfig.load(root=store_paths.root, run=store_paths.run)
    runner = ThreadRunner()

    async def remove(path):
        await remove_tree(runner, path)

    async with await Database.open(config.database_path) as database:
        library = ImageLibrary(
            config=config,
            database=database,
            staging=StagingArea(config.staging_directory, remove_tree=remove),
            runner=runner,
            is_rootless=os.geteuid() != 0,
        )
        await library.sweep()
        library.close()
    assert layer_directories(store_paths) == kept
    assert not blob.exists()
    assert await names(engine) == {"web:1"}


async def test_an_image_without_a_name_that_another_one_stands_on_is_intermediate(engine, load):
    below = await load("web:1", BASE)
    above = await load("web:1", BASE, ONE)
    aside = await load("other:1", BASE, TWO)
    found = {image.image_id: image.is_intermediate for image in await engine.list_images()}
    assert found == {below: True, above: False, aside: False}
    await engine.tag_image(below, "base:1")
    assert not any(image.is_intermediate for image in await engine.list_images())
    await engine.remove_image("base:1")
    assert below not in {image.image_id for image in await engine.list_images()}


async def test_the_starter_image_is_small_and_the_same_each_time(engine, starter_image, tmp_path):
    details = await engine.inspect_image("starter")
    assert details.summary.size_bytes < LARGEST_IMAGE_BYTES
    assert details.summary.layer_count == 2
    again = await engine.make_starter_image()
    assert again.was_present
    assert again.image_id == starter_image.image_id
    digests = []
    for name in ("one", "two"):
        write_starter_layout(tmp_path / name)
        digests.append((tmp_path / name / "index.json").read_bytes())
    assert digests[0] == digests[1]


PROGRAMS = {
    "ls | wc -l": None,
    "grep root: /etc/passwd | sed s/root/admin/": "admin:x:0:0:root:/root:/bin/sh\n",
    "awk -F: '{ print $1 }' /etc/passwd": "root\nnobody\n",
    "find /etc -name os-release": "/etc/os-release\n",
    "sort /etc/group | cut -d: -f1 | tr a-z A-Z": "NOGROUP\nROOT\nTTY\n",
    "test -x /bin/sh && id -u": "0\n",
}


async def test_the_tools_of_the_starter_image_run(engine, starter_image):
    script = "; ".join(f"echo '-- {number}'; {line}" for number, line in enumerate(PROGRAMS))
    made = await engine.create_container(
        ContainerRequest(image="starter", command=("sh", "-c", script))
    )
    await engine.start_container(made.container_id)
    status = await engine.wait_container(made.container_id)
    output, errors = b"", b""
    async for batch in engine.follow_logs(made.container_id):
        for line in batch:
            if line.stream == "stdout":
                output += line.text + b"\n"
            else:
                errors += line.text + b"\n"
    assert errors == b""
    assert status.exit_code == 0
    parts = output.decode().split("-- ")[1:]
    for (program, expected), part in zip(PROGRAMS.items(), parts, strict=True):
        text = part.partition("\n")[2]
        if expected is None:
            assert int(text) > 5, program
        else:
            assert text == expected, program


async def test_the_demo_shows_what_its_layers_add_change_and_remove(engine):
    await engine.make_demo()
    details = await engine.inspect_image("demo")
    shared = [step.shared_image_count for step in details.layers if not step.is_empty]
    assert shared == [2, 2, 1, 1, 1]
    steps = [position for position, step in enumerate(details.layers) if not step.is_empty]
    marks = {
        entry.path: entry.change.value
        for entry in (await engine.list_layer_files("demo", steps[-1])).entries
    }
    assert marks["srv/site/draft.html"] == "removed"
    assert marks["srv/site/index.html"] == "modified"
    assert marks["etc/app.conf"] == "added"
    containers = {summary.name: summary for summary in await engine.list_containers()}
    assert set(containers) == {"demo-web", "demo-worker", "demo-failing"}
    assert (await engine.wait_container("demo-failing")).exit_code == 3


async def test_an_image_goes_with_those_without_a_name_that_only_it_stood_on(engine, load):
    lowest = await load("", BASE)
    middle = await load("", BASE, ONE)
    top = await load("top:1", BASE, ONE, TWO)
    removed = await engine.remove_image("top:1")
    assert removed.deleted[:3] == (top, middle, lowest)
    assert await engine.list_images() == ()


async def test_what_somebody_needs_besides_does_not_go_with_an_image(engine, load):
    lowest = await load("", BASE)
    middle = await load("", BASE, ONE)
    await load("top:1", BASE, ONE, TWO)
    other = await load("other:1", BASE, layer("three"))
    await engine.create_container(ContainerRequest(image=middle, name="web"))
    removed = await engine.remove_image("top:1")
    assert {middle, lowest} & {*removed.deleted} == set()
    # With its container gone it would go with an image that stands on it; the lowest has another.
    await engine.remove_container("web")
    await load("top:1", BASE, ONE, TWO)
    removed = await engine.remove_image("top:1")
    assert middle in removed.deleted
    assert lowest not in removed.deleted
    removed = await engine.remove_image("other:1", keeps_parents=True)
    assert [image for image in removed.deleted if image in {other, lowest}] == [other]
    assert [image.image_id for image in await engine.list_images()] == [lowest]
