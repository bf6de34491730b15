"""`--squash`: one layer on the base, with the same files as all the layers had."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from engine.types import BuildRequest, BuildStepState, ContainerRequest
from tests.integration.build.base_images import write_base_images


@pytest.fixture(autouse=True)
async def base_image(engine, tmp_path):
    """A base with the usual programs."""
    write_base_images(tmp_path / "bases.tar")
    await engine.load_images(tmp_path / "bases.tar")


_STEPS = (
    "FROM localhost/base AS base\n"
    "RUN mkdir -p /kept /gone/deep /replaced && echo a > /kept/a && echo b > /kept/b && "
    "echo g > /gone/deep/g && echo r > /replaced/r && ln -s a /kept/l && mkfifo /kept/fifo\n"
    "FROM base\n"
    "COPY <<one <<two /given/\n1\none\n2\ntwo\n"
    "RUN rm /kept/a && rm -rf /gone && rm -rf /replaced && mkdir /replaced && "
    "echo n > /replaced/new && chmod 750 /kept && chown 7:8 /kept/b && rm /given/two\n"
    "RUN rm -rf /home && mkdir /home && echo x > /home/x && rm -r /existing\n"
    "RUN ln /kept/b /kept/hard && touch /temporary\n"
    "RUN rm /temporary\n"
    "ENV A=b\n"
)


def request_of(text, **options):
    return BuildRequest(dockerfile_content=text.encode(), network="none", **options)


async def tree_of(engine, image, directory):
    """Everything about every path that a container of the image would see."""
    path = directory / "tree.tar"
    request = ContainerRequest(image=image, command=("/bin/sh",))
    container = (await engine.create_container(request)).container_id
    try:
        with path.open("wb") as file:
            await engine.export_container(container, file.fileno())
    finally:
        await engine.remove_container(container)
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member).read() if member.isreg() else b""
            look = (member.type, member.mode, member.uid, member.gid, member.linkname)
            found[member.name] = (*look, member.mtime, content)
    return found


async def test_a_squashed_image_has_one_layer_with_the_same_files(engine, tmp_path):
    whole = await engine.build_image(request_of(_STEPS))
    squashed = await engine.build_image(request_of(_STEPS, squashes=True))

    base = await engine.inspect_image("localhost/base")
    details = await engine.inspect_image(squashed.image_id)
    document = json.loads(details.config_json)
    before = json.loads((await engine.inspect_image(whole.image_id)).config_json)
    base_count = len(json.loads(base.config_json)["rootfs"]["diff_ids"])
    assert len(document["rootfs"]["diff_ids"]) == base_count + 1
    assert document["config"] == before["config"]
    own = document["history"][len(json.loads(base.config_json)["history"]) :]
    assert [one.get("created_by") for one in own[:-1]] == [
        one["created_by"] for one in before["history"][len(document["history"]) - len(own) :]
    ]
    assert all(one["empty_layer"] for one in own[:-1])
    assert own[-1]["comment"] == f"merge {whole.image_id} to {base.summary.image_id}"
    assert "empty_layer" not in own[-1]
    assert await tree_of(engine, squashed.image_id, tmp_path) == await tree_of(
        engine, whole.image_id, tmp_path
    )


async def test_what_was_made_and_removed_again_is_in_no_archive_of_a_squashed_image(
    engine, tmp_path
):
    text = "FROM localhost/base\nRUN printf %s-%s once secret > /f\nRUN rm /f && echo kept > /g\n"
    built = await engine.build_image(request_of(text, squashes=True))
    path = tmp_path / "image.tar"
    with path.open("wb") as file:
        await engine.save_images((built.image_id,), file.fileno())

    assert b"once-secret" not in path.read_bytes()
    tree = await engine.list_layer_files(
        built.image_id, len((await engine.inspect_image(built.image_id)).layers) - 1
    )
    changed = [entry.path for entry in tree.entries if entry.change.value != "unchanged"]
    assert changed == ["g"]


async def test_squashing_again_is_all_cache_and_gives_the_same_image(engine):
    heard = []
    first = await engine.build_image(request_of(_STEPS, squashes=True))
    second = await engine.build_image(request_of(_STEPS, squashes=True), listener=heard.append)

    steps = heard[-1].progress.steps
    assert second.image_id == first.image_id
    assert steps[-1].instruction == "SQUASH"
    assert {step.state for step in steps if step.instruction != "FROM"} == {BuildStepState.CACHED}


async def test_nothing_to_squash_leaves_the_base_and_says_so_in_the_history(engine):
    built = await engine.build_image(request_of("FROM localhost/base\nENV A=b\n", squashes=True))

    document = json.loads((await engine.inspect_image(built.image_id)).config_json)
    assert document["history"][-1]["empty_layer"] is True
    assert sum(not one.get("empty_layer", False) for one in document["history"]) == len(
        document["rootfs"]["diff_ids"]
    )


async def test_squashing_from_scratch_says_that_it_was_created_new(engine):
    text = "FROM scratch\nCOPY <<a /a\n1\na\nCOPY <<b /b\n2\nb\n"
    whole = await engine.build_image(request_of(text))
    built = await engine.build_image(request_of(text, squashes=True))

    document = json.loads((await engine.inspect_image(built.image_id)).config_json)
    assert len(document["rootfs"]["diff_ids"]) == 1
    assert document["history"][-1]["comment"] == f"create new from {whole.image_id}"


async def test_layers_that_are_squashed_stay_as_they_were(engine, store_paths):
    """A later epoch's layer has times that an earlier one sets back: not in the layer itself."""
    text = "FROM localhost/base\nRUN touch -d @900000000 /f && echo 1 > /g\nRUN echo 2 > /h\n"
    await engine.build_image(request_of(text, epoch_seconds=1_000_000_000))
    times = {path: path.stat().st_mtime for path in Path(store_paths.root).rglob("diff/f")}

    await engine.build_image(request_of(text, epoch_seconds=800_000_000, squashes=True))

    assert times
    assert {path: path.stat().st_mtime for path in times} == times
