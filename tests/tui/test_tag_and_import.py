"""Names given to images, and images made of root filesystems."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tui.conftest import paste, screen_text, settled
from tests.tui.notices import told
from tui.screens.dialogs import PromptScreen
from tui.screens.import_form import ImportScreen, name_of_file

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = [(120, 40), (80, 24)]


def names_of(engine: FakeEngine, one_of_them: str) -> tuple[str, ...]:
    return next(
        image.summary.names
        for image in engine.images.values()
        if one_of_them in image.summary.names
    )


async def ask_for_tag(pilot: Pilot[None], name: str) -> None:
    """Of web:latest."""
    await settled(pilot)
    await pilot.press("G", "t")
    await settled(pilot)
    await pilot.press("ctrl+u", *name, "enter")
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_an_image_gets_another_name_and_the_cursor_goes_to_it(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("G", "t")
        await settled(pilot)
        assert "Another name for web:latest" in screen_text(app)
        assert app.screen.query_one("#prompt").value == "web:latest"  # type: ignore[attr-defined]
        await pilot.press("ctrl+u", *"site", "enter")
        await settled(pilot)
        assert names_of(engine, "web:latest") == ("web:latest", "site:latest")
        assert "Tagged web:latest as site:latest" in told(app)
        assert app.dashboard.selected_image is not None
        assert app.dashboard.selected_image.name == "site:latest"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "Which name?"),
        ("Not:A:Name", "invalid reference format"),
        ("web:latest", "web:latest is a name of this image already"),
    ],
)
async def test_a_name_that_cannot_be_given_is_refused_where_it_is_typed(
    app: LamellaApp, engine: FakeEngine, name: str, problem: str
) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await ask_for_tag(pilot, name)
        assert isinstance(app.screen, PromptScreen)
        assert problem in screen_text(app)
        await pilot.press("ctrl+u", *"fine:1", "enter")
        await settled(pilot)
        assert app.screen is app.dashboard
        assert names_of(engine, "fine:1") == ("web:latest", "fine:1")


async def test_the_name_of_another_image_moves_after_a_second_enter(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await ask_for_tag(pilot, "debian:bookworm")
        assert "debian:bookworm is a name of" in screen_text(app)
        assert "Enter again moves it." in screen_text(app)
        assert names_of(engine, "web:latest") == ("web:latest",)
        await pilot.press("enter")
        await settled(pilot)
        assert names_of(engine, "web:latest") == ("web:latest", "debian:bookworm")


def test_a_file_gives_its_name_to_the_image() -> None:
    for file, name in (
        ("rootfs.tar.gz", "rootfs"),
        ("Debian 12 (bookworm).tar.zst", "debian-12-bookworm"),
        ("Straße_1.3.tgz", "stra-e_1.3"),
        ("..a - b__c..tar", "a-b-c"),
        ("x" * 200, "x" * 100),
        (".tar", ""),
    ):
        assert name_of_file(Path("/srv") / file) == name


async def choose_tar(pilot: Pilot[None], path: Path) -> None:
    await settled(pilot)
    await pilot.press("I")
    await settled(pilot)
    await paste(pilot, str(path))
    await pilot.press("enter")
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_a_root_filesystem_is_imported_with_what_the_form_says(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "Root.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"), io.BytesIO())
    async with app.run_test(size=size, notifications=True) as pilot:
        await choose_tar(pilot, path)
        assert isinstance(app.screen, ImportScreen)
        await pilot.press("end", *":1", "tab", *"by", "space", *"hand", "tab", "tab")
        await paste(pilot, "RUN no")
        await pilot.press("shift+tab", "enter")
        await settled(pilot)
        # What makes no sense is said where it can be put right, and nothing typed is lost.
        assert isinstance(app.screen, ImportScreen)
        assert "run is not a valid change command" in screen_text(app)
        await pilot.press("tab", "tab", "tab", "ctrl+u", "ctrl+k")
        await paste(pilot, 'CMD ["sh"]')
        await pilot.press("shift+tab", "enter")
        await settled(pilot)
        made = await engine.inspect_image("root:1")
        assert made.config.command == ("sh",)
        assert made.layers[0].comment == "by hand"
        assert "Imported root:1" in told(app)
        assert app.dashboard.selected_image is not None
        assert app.dashboard.selected_image.name == "root:1"


async def test_what_is_no_tar_is_said_and_a_directory_is_not_taken(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "text.tar").write_text("no tar at all")
    count = len(engine.images)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("I")
        await settled(pilot)
        await paste(pilot, str(tmp_path))
        await pilot.press("enter")
        await settled(pilot)
        assert "take this directory" not in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert "it is not a tar" in told(app)
        assert len(engine.images) == count
