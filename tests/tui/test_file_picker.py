"""Paths of this host: walked to, typed, pasted, completed, and never overwritten unasked."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import PlatformMismatchError
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tests.tui.notices import told
from tui.screens.dialogs import ChoiceScreen, ConfirmScreen, ProgressScreen, ReadingScreen
from tui.screens.file_picker import FilePicker
from tui.screens.save_form import SaveScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = [(120, 40), (80, 24), (60, 16)]


def picker(app: LamellaApp) -> FilePicker:
    assert isinstance(app.screen, FilePicker), app.screen
    return app.screen


def names(app: LamellaApp) -> list[str]:
    return [row.name for row in picker(app).list.rows]


def typed(app: LamellaApp) -> str:
    return picker(app)._field.value


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: an archive, a layout two levels below, hidden and hostile names."""
    place = tmp_path / "place"
    (place / "images" / "layout").mkdir(parents=True)
    (place / "images" / "layout" / "oci-layout").write_text("{}")
    (place / "web.tar").write_bytes(bytes(2000))
    (place / ".hidden").touch()
    with open(os.fsencode(place) + b"/evil\x1b[2J\xe2\x80\xae\xff", "wb"):
        pass
    monkeypatch.chdir(place)
    return place


async def load(pilot: Pilot[None]) -> None:
    await settled(pilot)
    await pilot.press("L")
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_an_archive_is_walked_to_and_loaded(
    app: LamellaApp, engine: FakeEngine, place: Path, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await load(pilot)
        assert names(app)[:3] == [".", "..", "images"]
        assert "web.tar" in screen_text(app)
        assert "2.0 kB" in screen_text(app)
        assert "enter open" in screen_text(app)
        await pilot.press("G", "enter")
        await settled(pilot)
        assert ("load", str(place / "web.tar")) in engine.calls
        assert "Loaded loaded:latest" in told(app)


async def test_an_archive_for_other_platforms_is_loaded_for_the_one_that_is_chosen(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    engine.failures["load"] = PlatformMismatchError(
        "web.tar", platforms=("linux/arm64", "linux/s390x"), wanted="linux/amd64", is_host=True
    )
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await load(pilot)
        await pilot.press("G", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "linux/arm64" in screen_text(app)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "Loaded loaded:latest" in told(app)
    assert ("load", f"{place / 'web.tar'} linux/s390x") in engine.calls


async def test_a_directory_is_taken_where_one_can_be_loaded(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert names(app) == [".", "..", "layout"]
        await pilot.press("enter")
        await settled(pilot)
        assert names(app) == [".", "..", "oci-layout"]
        await pilot.press("g", "enter")
        await settled(pilot)
        assert ("load", str(place / "images" / "layout")) in engine.calls
        # It is opened again where it was left.
        await load(pilot)
        assert picker(app).directory == str(place / "images" / "layout")


async def test_the_way_up_leads_to_the_directory_that_was_left(
    app: LamellaApp, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place / "images"))
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("tilde")
        await settled(pilot)
        assert picker(app).directory == str(place / "images")
        await pilot.press("backspace")
        await settled(pilot)
        assert picker(app).directory == str(place)
        current = picker(app).list.current
        assert current is not None
        assert current.name == "images"
        for _ in place.parts:
            await pilot.press("h")
            await settled(pilot)
        assert picker(app).directory == "/"
        assert ".." not in names(app)


async def test_names_are_filtered_while_they_are_typed_and_hidden_ones_shown(
    app: LamellaApp, place: Path
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        assert "1 hidden, . shows them" in screen_text(app)
        await pilot.press("full_stop")
        await settled(pilot)
        assert ".hidden" in names(app)
        await pilot.press("full_stop", "slash", *"EB")
        await settled(pilot)
        assert names(app) == [".", "..", "web.tar"]
        await pilot.press("escape")
        await settled(pilot)
        assert "images" in names(app)
        assert app.focused is picker(app).list
        await pilot.press("slash", *".hid")
        await settled(pilot)
        assert names(app) == [".", "..", ".hidden"]
        await pilot.press("enter")
        await settled(pilot)
        assert app.focused is picker(app).list
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert app.screen is app.dashboard


async def test_a_path_is_typed_and_completed(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("tab", *"none", "tab")
        await settled(pilot)
        assert "No name begins with this" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert f"There is no {place}/none" in screen_text(app)
        await pilot.press(*("backspace",) * 4, *"im", "tab")
        await settled(pilot)
        assert typed(app) == f"{place}/images/"
        await pilot.press("enter")
        await settled(pilot)
        assert picker(app).directory == str(place / "images")
        assert app.focused is picker(app).list
        await pilot.press("tab", "ctrl+u", *"../we", "tab")
        await settled(pilot)
        assert typed(app) == "../web.tar"
        await pilot.press("enter")
        await settled(pilot)
        assert ("load", str(place / "web.tar")) in engine.calls


async def test_a_path_that_is_pasted_is_taken(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await paste(pilot, f"  {place}/web.tar\n")
        await pilot.press("enter")
        await settled(pilot)
        assert ("load", str(place / "web.tar")) in engine.calls


async def test_a_hostile_name_is_drawn_clean_and_taken_as_it_is(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    odd = os.fsdecode(b"evil\x1b[2J\xe2\x80\xae\xff")
    (place / f"{odd}.d").mkdir()
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("slash", *"evil", "enter", "g", "j", "j", "enter")
        await settled(pilot)
        assert picker(app).directory == f"{place}/{odd}.d"
        assert "\x1b" not in typed(app)
        # What is shown of it stands for what it is.
        await pilot.press("tab", *"none", "enter")
        await settled(pilot)
        assert "There is no" in screen_text(app)
        assert "\x1b" not in screen_text(app)
        assert "\u202e" not in screen_text(app)
        await pilot.press("down", "h")
        await settled(pilot)
        await pilot.press("slash", *"evil", "enter", "G", "enter")
        await settled(pilot)
        assert ("load", f"{place}/{odd}") in engine.calls


async def test_what_cannot_be_read_is_said_and_can_be_left(
    app: LamellaApp, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: object) -> object:
        raise PermissionError(13, "Permission denied")

    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        with monkeypatch.context() as patched:
            patched.setattr("tui.host_files.os.scandir", refused)
            await pilot.press("enter")
            await settled(pilot)
        assert f"{place}/images: Permission denied" in screen_text(app)
        assert names(app) == [".", ".."]
        await pilot.press("h")
        await settled(pilot)
        assert "web.tar" in names(app)
        assert "Permission denied" not in screen_text(app)


async def test_a_huge_directory_is_read_beside_the_keys(app: LamellaApp, place: Path) -> None:
    many = place / "many"
    many.mkdir()
    for number in range(30_000):
        os.close(os.open(many / f"entry-{number:06}", os.O_CREAT | os.O_WRONLY))
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: len(picker(app).list.rows) == 30_002)
        await pilot.press("slash", *"029999", "enter")
        await settled(pilot)
        assert names(app) == [".", "..", "entry-029999"]
        # A reading that nobody waits for any more changes nothing.
        await pilot.press("escape", "ctrl+r", "h")
        await settled(pilot)
        assert picker(app).directory == str(place)
        assert "web.tar" in names(app)


async def test_help_lists_the_keys_of_the_picker(app: LamellaApp, place: Path) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await load(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        assert isinstance(app.screen, ReadingScreen)
        assert "Go to the directory above" in screen_text(app)
        await pilot.press("escape", "q")
        await settled(pilot)
        assert app.screen is app.dashboard


@pytest.mark.parametrize("size", SIZES)
async def test_an_image_is_saved_under_the_name_that_is_filled_in(
    app: LamellaApp, engine: FakeEngine, place: Path, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("G", "S")
        await settled(pilot)
        assert isinstance(app.screen, SaveScreen)
        await pilot.press("enter")
        await settled(pilot)
        assert typed(app) == f"{place}/web_latest.tar"
        assert "/web_latest.tar" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert (place / "web_latest.tar").read_text() == "web:latest"
        assert f"Saved web:latest to {place}/web_latest.tar" in told(app)


async def test_several_images_are_saved_as_it_is_chosen(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    options = []
    save = engine.save_images

    async def noted(references, target, **given):  # type: ignore[no-untyped-def]
        options.append(given["options"])
        return await save(references, target, **given)

    engine.save_images = noted  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("G", "S")
        await settled(pilot)
        await pilot.press("left", "tab", "right", "right", "tab", "right")
        await settled(pilot)
        assert "An OCI layout, as a directory." in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert "a directory cannot be compressed as a whole" in screen_text(app)
        await pilot.press("up", "up", "left", "up", "end", "space", *"debian:bookworm", "enter")
        await settled(pilot)
        assert typed(app) == f"{place}/images.tar.gz"
        await pilot.press("enter")
        await settled(pilot)
        assert (place / "images.tar.gz").read_text() == "web:latest\ndebian:bookworm"
    assert [
        (one.format.value, one.layer_compression, one.archive_compression) for one in options
    ] == [("oci-archive", "zstd", "gzip")]


async def test_a_file_is_replaced_only_after_a_yes(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("G", "S", "enter")
        await settled(pilot)
        # A file in the list gives its name; the directory of the list is the target's.
        await pilot.press("down", "G", "enter")
        await settled(pilot)
        assert typed(app) == f"{place}/web.tar"
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert "2.0 kB" in screen_text(app)
        await pilot.press("enter", "escape")
        await settled(pilot)
        assert (place / "web.tar").read_bytes() == bytes(2000)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("y")
        await settled(pilot)
        assert app.screen is app.dashboard
        assert (place / "web.tar").read_text() == "web:latest"


async def test_a_target_that_cannot_be_one_is_refused(app: LamellaApp, place: Path) -> None:
    os.mkfifo(place / "pipe")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("G", "S", "enter")
        await settled(pilot)
        await pilot.press("ctrl+u", *"none/x.tar", "enter")
        await settled(pilot)
        assert f"There is no directory {place}/none" in screen_text(app)
        await pilot.press("ctrl+u", *"pipe", "enter")
        await settled(pilot)
        assert f"{place}/pipe is a pipe" in screen_text(app)


async def test_a_directory_that_is_typed_is_opened_and_the_name_stays(
    app: LamellaApp, place: Path
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("G", "S", "enter")
        await settled(pilot)
        for directory in ("images", "images/", "layout", ".."):
            await pilot.press("ctrl+u", *directory, "enter")
            await settled(pilot)
            assert typed(app) == f"{picker(app).directory}/web_latest.tar"
            if directory == "images":
                await pilot.press("down", "h")
                await settled(pilot)
                assert typed(app) == f"{place}/web_latest.tar"
                await pilot.press("tab")
        assert picker(app).directory == str(place / "images")
        # So does one that was typed, when the list goes elsewhere.
        await pilot.press("ctrl+u", *"other.tar", "down", "h")
        await settled(pilot)
        assert typed(app) == f"{place}/other.tar"


async def test_a_save_goes_on_behind_other_work_and_says_when_it_is_done(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    engine.gates["save"] = asyncio.Event()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("G", "S", "enter")
        await settled(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Saving web:latest to" in screen_text(app))
        assert isinstance(app.screen, ProgressScreen)
        await pilot.press("b")
        await wait_until(pilot, lambda: "1 in background (B)" in screen_text(app))
        assert app.screen is app.dashboard
        await pilot.press("3")
        await wait_until(pilot, lambda: app.focused is app.dashboard.containers)
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(engine.gates["save"].set)
        await settled(pilot)
        assert f"Saved web:latest to {place}/web_latest.tar" in told(app)
        assert "in background" not in screen_text(app)


async def test_a_cancelled_save_leaves_no_file(
    app: LamellaApp, engine: FakeEngine, place: Path
) -> None:
    engine.gates["save"] = asyncio.Event()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("G", "S", "enter")
        await settled(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ProgressScreen))
        await pilot.press("escape")
        await settled(pilot)
        assert "Cancelled: Saving web:latest" in told(app)
        assert not (place / "web_latest.tar").exists()
