"""Builds of one context at once: they share work or wait, and make one image."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from engine.types import BuildRequest
from tests.command_line import CommandLine
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi
    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

AT_ONCE = 4
DOCKERFILE = """\
FROM starter AS made
RUN --mount=type=cache,target=/cache,sharing=locked echo x >> /cache/lines; echo one > /one
RUN for i in 1 2 3 4 5 6 7 8 9; do echo $i > /file$i; done
FROM starter
COPY site /site
WORKDIR /srv/deep
COPY --from=made /one /file1 ./
RUN echo two > /two
RUN true
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context/site").mkdir(parents=True)
    for number in range(200):
        (tmp_path / f"context/site/{number}").write_text(str(number))
    (tmp_path / "context/Dockerfile").write_text(DOCKERFILE)
    return tmp_path / "context"


async def is_whole(engine: EngineApi, store: StorePaths) -> None:
    """Nothing is damaged, nothing is twice, and nothing is left."""
    assert (await engine.check_store()).problems == ()
    # What waits for the next build has no need to.
    await engine._close_builds()  # type: ignore[attr-defined]
    assert left_in_staging(store.root) == []
    assert list((store.run / "containers").glob("*")) == []
    images = [image for image in await engine.list_images() if "made:latest" in image.names]
    assert len(images) == 1


@pytest.mark.parametrize("uses_cache", [True, False])
async def test_several_in_one_process_make_one_image(uses_cache, engine, store_paths, context):
    request = BuildRequest(context=context, names=("made",), network="none", uses_cache=uses_cache)
    built = await asyncio.gather(*(engine.build_image(request) for _ in range(AT_ONCE)))

    assert len({one.image_id for one in built}) == 1
    await is_whole(engine, store_paths)
    again = await engine.build_image(BuildRequest(context=context, network="none"))
    assert (again.image_id, again.cached_count) == (built[0].image_id, 7)


@pytest.mark.parametrize("count", [2, AT_ONCE])
async def test_several_processes_make_one_image(count, store_paths, context):
    lamella = CommandLine(store_paths)
    words = ("build", "-q", "--network", "none", "-t", "made", str(context))
    ended = await asyncio.gather(*(asyncio.to_thread(lamella, *words) for _ in range(count)))

    assert [one.returncode for one in ended] == [0] * count, ended
    (identity,) = {one.stdout.decode().strip() for one in ended}
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await is_whole(engine, store_paths)
        again = await engine.build_image(BuildRequest(context=context, network="none"))
        assert (again.image_id, again.cached_count) == (identity, 7)


async def test_builds_go_on_while_others_are_cancelled_pruned_and_removed(
    engine, store_paths, context
):
    """Whoever removes takes nothing from under a build."""
    request = BuildRequest(context=context, names=("made",), network="none")
    first = await engine.build_image(request)

    async def disturb() -> None:
        from engine.types import BuildCacheFilter

        for _turn in range(6):
            with contextlib.suppress(Exception):
                await engine.remove_image("made")
            await engine.prune_build_cache(BuildCacheFilter(includes_shared=True))
            cancelled = asyncio.create_task(engine.build_image(request))
            await asyncio.sleep(0)
            cancelled.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cancelled

    builds = [engine.build_image(request) for _ in range(3)]
    *built, _nothing = await asyncio.gather(*builds, disturb())
    assert {one.image_id for one in built} == {first.image_id}
    await engine.build_image(request)
    await engine._services.staging.finish()
    await is_whole(engine, store_paths)
    assert set(os.listdir(store_paths.root / "layers")) >= {
        layer.chain_id.removeprefix("sha256:")
        for layer in (await engine.inspect_image("made")).layers
        if layer.chain_id
    }
