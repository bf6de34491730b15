"""An image goes out to an archive and comes back, by keyboard, over a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from tests.integration.applications.test_beginner_walk import SIZES, Walker
from tests.tui.conftest import settled
from tui.app import LamellaApp

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StorePaths

pytestmark = pytest.mark.timeout(240)


async def takes_from_the_picker(walker: Walker, name: str) -> None:
    """Put the cursor on a name of the list by the filter, and take it."""
    await walker.sees(name)
    await walker.press("slash")
    await walker.types(name)
    await walker.sees(f"filter: {name}")
    await walker.press("enter", "G", "enter")


async def loads(walker: Walker, file: str, name: str) -> None:
    await walker.use("L", "load", "Load an image archive or an OCI layout from disk")
    await walker.sees("Load images")
    await takes_from_the_picker(walker, file)
    await walker.sees(f"Loaded {name}")


async def removes(walker: Walker, name: str) -> None:
    repository = name.partition(":")[0]
    await walker.press("g")
    await settled(walker.pilot)
    while f"▌{repository} " not in walker.screen:
        before = walker.screen
        await walker.press("j")
        await settled(walker.pilot)
        assert before != walker.screen, f"no row of {name}"
    await walker.use("d", "remove", "Remove the image, or one of its names")
    await walker.sees(f"Remove {name}?")
    await walker.press("y")
    await walker.sees(f"Removed {name}")


@pytest.mark.parametrize("size", SIZES, ids=["120x40", "80x24"])
async def test_an_image_is_loaded_tagged_saved_removed_and_loaded_again(
    store_paths: StorePaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
) -> None:
    place = tmp_path / "archives"
    place.mkdir()
    monkeypatch.chdir(place)
    root, run = store_paths.root, store_paths.run
    async with open_engine(root=root, run=run) as engine:
        image_id = (await engine.make_starter_image()).image_id
        await engine.save_images(["starter"], place / "starter.tar")
        await engine.remove_image("starter")
    app = LamellaApp(lambda: open_engine(root=root, run=run))
    async with app.run_test(size=size, notifications=True) as pilot:
        walker = Walker(pilot)
        await walker.sees("No images here yet")
        await settled(pilot)
        await loads(walker, "starter.tar", "starter:latest")

        await walker.use("t", "tag", "Give the image another name")
        await walker.sees("Another name for starter:latest")
        await walker.press("ctrl+u")
        await walker.types("walked:1\n")
        await walker.sees("Tagged starter:latest as walked:1")
        await walker.sees("▌walked")

        await walker.use("S", "save", "Save images to an archive or as an OCI layout")
        await walker.sees("(*) docker-archive")
        await walker.press("tab", "right", "tab", "right", "right", "enter")
        await walker.sees("archives/walked_1.tar.zst")
        await walker.press("enter")
        await walker.sees("Saved walked:1 to")
        assert (place / "walked_1.tar.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"

        for name in ("walked:1", "starter:latest"):
            await removes(walker, name)
        await walker.sees("No images here yet")
        await settled(pilot)
        await loads(walker, "walked_1.tar.zst", "walked:1")
        await walker.sees("▌walked")
        await walker.use("q", "quit")
    async with open_engine(root=root, run=run) as engine:
        (image,) = await engine.list_images()
        assert (image.image_id, image.names) == (image_id, ("walked:1",))
    assert sorted(path.name for path in place.iterdir()) == ["starter.tar", "walked_1.tar.zst"]
