"""A check that repairs is killed at each step: the next one finds the same, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.types import ProblemKind
from tests.integration.faults.test_killed_removals import (
    BASE,
    ONE,
    killed,
    layout_of,
    names_in,
    require_whole,
)

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import EngineConfig

STEPS = (
    "engine.images.checking:StoreChecker._snapshot",
    "engine.store.check_records:CheckRecords.mark_damaged",
    "engine.images.repairs:StoreRepairs._unpack",
    "engine.images.repairs:StoreRepairs._put_in_place",
    "engine.images.mending:LayerMender.place",
    "engine.images.mending:LayerMender.mended",
    "engine.store.claims:ClaimRecords.release",
    "engine.store.staging:StagingArea._drop",
)


@pytest.fixture
async def damaged(config: EngineConfig, tmp_path: Path) -> Path:
    """A file that is missing in a layer, which is kept compressed as well."""
    layout = layout_of(tmp_path / "layout", web_1=(BASE, ONE))
    async with Engine.open(config) as engine:
        await engine.load_images(layout)
        (_base, top) = (await engine.inspect_image("web:1")).layers
    assert top.chain_id is not None
    assert top.diff_id is not None
    content = gzip.compress((layout / "blobs/sha256" / top.diff_id[7:]).read_bytes(), mtime=0)
    digest = hashlib.sha256(content).hexdigest()
    (config.blobs_directory / "sha256" / digest).write_bytes(content)
    with sqlite3.connect(config.database_path) as database:
        database.execute(
            "UPDATE image_layers SET blob_digest = ?, blob_size_bytes = ? WHERE position = 1",
            (f"sha256:{digest}", len(content)),
        )
    database.close()
    missing = config.layers_directory / top.chain_id[7:] / "diff" / "one"
    missing.unlink()
    return missing


@pytest.mark.parametrize("step", STEPS)
async def test_the_next_check_repairs_what_the_killed_one_left(
    config: EngineConfig, damaged: Path, step: str
) -> None:
    await killed(config, step, "repair", damaged)
    is_replaced = STEPS.index(step) > STEPS.index("engine.images.mending:LayerMender.place")
    async with Engine.open(config) as engine:
        problems = (await engine.check_store()).problems
        assert [problem.kind for problem in problems] == [ProblemKind.LAYER] * (not is_replaced)
        problems = (await engine.check_store(repairs=True)).problems
        assert all(problem.is_repaired for problem in problems)
        assert damaged.read_bytes() == b"one" * 1000
        await require_whole(engine, config)
        await engine.remove_image("web:1")
        assert names_in(config.layers_directory) == set()
