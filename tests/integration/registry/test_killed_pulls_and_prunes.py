"""Pulls of the same and of other images, loads and prunes at once, killed at random moments."""

from __future__ import annotations

import asyncio
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from engine.api import Engine
from engine.config import EngineConfig
from engine.oci.documents import OCI_MANIFEST, decode_manifest, encode_document
from engine.oci.reference import parse_reference
from tests.integration.faults.test_killed_removals import (
    begun,
    command,
    image_names,
    layout_of,
    require_whole,
)
from tests.integration.faults.test_killed_removals import layer as made_layer
from tests.registries import push_files

if TYPE_CHECKING:
    from pathlib import Path

    from engine.registry.client import RegistryClient
    from tests.conftest import StorePaths
    from tests.registries import LocalRegistry

ROUNDS = 5


@pytest.mark.timeout(300)
async def test_whatever_is_killed_the_store_verifies_clean_and_a_pull_succeeds(
    store_paths: StorePaths, registry: LocalRegistry, tmp_path: Path
) -> None:
    seeds = random.Random(7)
    config = EngineConfig(root=store_paths.root, run=store_paths.run)
    base, one, two = ({name: seeds.randbytes(2_000_000)} for name in ("base", "one", "two"))
    first, second = (f"{registry.address}/web:{number}" for number in (1, 2))
    push_files(first, base, one)
    push_files(second, base, two)
    archive = layout_of(tmp_path / "layout", web_3=(made_layer("base"), made_layer("three")))
    kinds = (
        ("pull", first), ("pull", first), ("pull", second), ("load", archive), ("prune", archive),
    )  # fmt: skip
    for _round in range(ROUNDS):
        processes = [begun(command(config, "for ever", what, source)) for what, source in kinds]
        try:
            for process in processes:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
            seeds.shuffle(processes)
            for process in processes:
                with pytest.raises(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, seeds.uniform(0.02, 0.4))
                process.kill()
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        async with Engine.open(config) as engine:
            await require_whole(engine, config)
            for name in await image_names(engine):
                details = await engine.inspect_image(name)
                assert (await engine.list_layer_files(name, len(details.layers) - 1)).entries
    async with Engine.open(config) as engine:
        for name in (first, second):
            await engine.pull_image(name)
        await require_whole(engine, config)


async def test_a_manifest_that_another_one_took_the_place_of_is_not_left_over(
    engine: Engine, client: RegistryClient, registry: LocalRegistry, store_paths: StorePaths
) -> None:
    name = parse_reference(f"{registry.address}/web:1")
    push_files(name.familiar_name, {"base": b"base"})
    pulled = await engine.pull_image(name.familiar_name)
    old = client.get_manifest(name, tag_or_digest="1")
    manifest = replace(decode_manifest(old.content, "web"), annotations={"build": "2"})
    client.put_manifest(
        name, tag_or_digest="1", media_type=OCI_MANIFEST, content=encode_document(manifest)
    )
    again = await engine.pull_image(name.familiar_name)
    assert again.image_id == pulled.image_id
    assert again.digest != pulled.digest
    check = await engine.check_store()
    assert check.problems == ()
    assert check.blob_count == 3
    assert len(list((store_paths.root / "blobs" / "sha256").iterdir())) == 3
