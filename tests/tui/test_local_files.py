"""Files of layers that are here: shown by enter in the Files tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.types import FileKind
from tests.fakes import file_entry
from tests.tui.conftest import screen_text, settled, viewed_lines
from tests.tui.notices import told
from tui.screens.dashboard import Dashboard

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = [(120, 40), (80, 24)]


async def go_to_files(pilot: Pilot[None], image: str) -> None:
    """The files of the topmost layer of an image, from wherever the cursor is."""
    await settled(pilot)
    app = pilot.app
    await pilot.press("1", "slash", *image, "enter")
    await settled(pilot)
    await pilot.press("enter", "enter")
    await settled(pilot)
    assert isinstance(app.screen, Dashboard)


@pytest.mark.parametrize("size", SIZES)
async def test_enter_on_a_file_shows_it_and_esc_comes_back_to_it(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    engine.file_contents["srv/app.py"] = b"import os\x1b]52;c;x\x07\nos.abort()\n"
    async with app.run_test(size=size) as pilot:
        await go_to_files(pilot, "web")
        await pilot.press("j", "enter")
        await settled(pilot)
        assert "/srv/app.py" in screen_text(app)
        shown = viewed_lines(app)
        assert shown[1] == "2 os.abort()"
        assert "\x1b" not in shown[0]
        assert "\x07" not in shown[0]
        await pilot.press("escape")
        await settled(pilot)
        current = app.dashboard.detail.files.current
        assert current is not None
        assert current.path == "srv/app.py"


async def test_bytes_that_are_no_text_stand_in_columns(app: LamellaApp, engine: FakeEngine) -> None:
    engine.file_contents["srv/app.py"] = b"\x7fELF\0\1"
    async with app.run_test(size=(120, 40)) as pilot:
        await go_to_files(pilot, "web")
        await pilot.press("j", "enter")
        await settled(pilot)
        assert "6 B  not text" in screen_text(app)
        assert viewed_lines(app) == [f"00000000  {'7f 45 4c 46 00 01':<48}|.ELF..|"]


async def test_what_has_no_content_says_so_and_is_not_asked_for(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.add_image(
        "odd:1",
        files=(
            file_entry("link", kind=FileKind.SYMLINK),
            file_entry("pipe", kind=FileKind.FIFO),
        ),
    )
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await go_to_files(pilot, "odd")
        await pilot.press("enter", "j", "enter")
        await settled(pilot)
        await pilot.press("escape", "escape", "escape")
        await go_to_files(pilot, "web")
        await pilot.press("j", "j", "enter")
        await settled(pilot)
        text = told(app)
    assert "/link has nothing to show: symlink" in text
    assert "/pipe has nothing to show: fifo" in text
    assert "/srv/old.py is removed by this layer: nothing to show" in text
    assert all(name != "read-layer" for name, _about in engine.calls)


async def test_a_file_of_a_writable_layer_is_the_containers(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.file_contents["tmp/new"] = b"hello"
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "2", "g", "enter")
        await settled(pilot)
        await pilot.press("G", "enter")
        await settled(pilot)
        assert viewed_lines(app) == ["1 hello"]
        container = app.dashboard.containers.current
        assert container is not None
    assert ("read-writable", f"{container.container_id} tmp/new") in engine.calls


async def test_a_layer_that_cannot_be_read_says_why(app: LamellaApp, engine: FakeEngine) -> None:
    engine.failures["read-layer"] = StoreError("a layer of web:latest is missing from the store")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await go_to_files(pilot, "web")
        await pilot.press("j", "enter")
        await settled(pilot)
        assert isinstance(app.screen, Dashboard)
        assert "a layer of web:latest is missing from the store" in told(app)
