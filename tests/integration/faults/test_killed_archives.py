"""Who saves or imports is killed: an archive is whole or not there, and so is an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from tests.integration.faults.test_killed_removals import (
    BASE,
    ONE,
    TWO,
    image_names,
    killed,
    layout_of,
    names_in,
    require_whole,
)
from tests.unit.snapshots.tars import END, directory, entry

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig

SAVING_STEPS = (
    "engine.images.saving:_open_output",
    "engine.images.saving:ImageSaver._write",
    "engine.images.saving:_Output.finish",
    "engine.images.saving:_link",
    "engine.images.saving:_Output.drop",
    "engine.images.catalog:StoreCatalog.release",
    "engine.store.staging:StagingArea._drop",
)
IMPORTING_STEPS = (
    "engine.images.importing:_unpack",
    "engine.images.importing:sync_staging",
    "engine.images.importing:_new_image",
    "engine.images.catalog:StoreCatalog.publish",
    "engine.images.mending:LayerMender.place",
    "engine.store.blobs:BlobStore.adopt 2",
    "engine.store.image_records:ImageRecords.insert",
    "engine.images.catalog:StoreCatalog._tell",
    "engine.store.staging:StagingArea._drop",
)


@pytest.mark.parametrize("step", SAVING_STEPS)
async def test_a_save_that_is_killed_leaves_a_whole_archive_or_no_file_at_all(
    config: EngineConfig, tmp_path: Path, step: str
) -> None:
    layout = layout_of(tmp_path / "layout", web_1=(BASE, ONE), web_2=(BASE, TWO))
    saved = tmp_path / "saved"
    saved.mkdir()
    async with Engine.open(config) as engine:
        await engine.load_images(layout)
    await killed(config, step, "save", saved / "images.tar")

    is_written = SAVING_STEPS.index(step) >= SAVING_STEPS.index("engine.images.saving:_Output.drop")
    assert names_in(saved) == ({"images.tar"} if is_written else set())
    async with Engine.open(config) as engine:
        await require_whole(engine, config)
        await engine.save_images(["web:1", "web:2"], saved / "again.tar")
        loaded = await engine.load_images(saved / "again.tar")
        assert all(image.was_present for image in loaded)
    if is_written:
        assert (saved / "images.tar").read_bytes() == (saved / "again.tar").read_bytes()


@pytest.mark.parametrize("step", IMPORTING_STEPS)
async def test_an_import_that_is_killed_leaves_an_image_or_nothing(
    config: EngineConfig, tmp_path: Path, step: str
) -> None:
    tar = tmp_path / "root.tar"
    tar.write_bytes(directory(b"etc") + entry(b"etc/motd", b"hello") + END)
    await killed(config, step, "import", tar)

    is_recorded = IMPORTING_STEPS.index(step) > IMPORTING_STEPS.index(
        "engine.store.image_records:ImageRecords.insert"
    )
    async with Engine.open(config) as engine:
        await require_whole(engine, config)
        assert await image_names(engine) == ({"mine:latest"} if is_recorded else set())
        assert len(names_in(config.layers_directory)) == is_recorded
