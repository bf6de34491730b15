from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import FileNotInContainerError
from tests.tui.conftest import paste, screen_text, settled
from tests.tui.notices import told

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


async def test_a_commit_puts_a_layer_on_the_stack_that_the_writable_layer_lay_on(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await settled(pilot)
        before = [row for row in app.dashboard.stack.rows if not hasattr(row, "container_id")]
        await pilot.press("c")
        await settled(pilot)
        assert "Make an image of web-1" in screen_text(app)
        await pilot.press(*"mine", "tab", *"Ada", "tab", *"one more", "enter")
        await settled(pilot)
        made = next(
            image for image in engine.images.values() if "mine:latest" in image.summary.names
        )
        assert (made.author, made.layers[-1].comment) == ("Ada", "one more")
        assert app.focused is app.dashboard.images
        assert app.dashboard.selected_image is not None
        assert app.dashboard.selected_image.name == "mine:latest"
        stack = list(app.dashboard.stack.rows)
        assert stack[0] == made.layers[-1]
        assert stack[1:] == before
        assert "mine" in screen_text(app)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_commit_that_makes_no_sense_says_why(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settled(pilot)
        count = len(engine.images)
        await pilot.press("3", "c", *"Not A Name", "enter")
        await settled(pilot)
        assert "invalid reference format" in told(app)
        assert len(engine.images) == count
        await pilot.press("c", "escape")
        await settled(pilot)
        assert app.focused is app.dashboard.containers


async def test_files_are_copied_out_and_in_and_all_of_them_exported(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path
) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3", "o", *"/tmp/new", "enter")
        await settled(pilot)
        await pilot.press("ctrl+u")
        await paste(pilot, f"{tmp_path}/")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("ctrl+u", *"copied", "enter")
        await settled(pilot)
        assert engine.copied_files == {f"{tmp_path}/copied": b"x\n"}
        assert "Copied /tmp/new" in told(app)

        (tmp_path / "note").write_text("hello")
        await pilot.press("O")
        await settled(pilot)
        await paste(pilot, f"{tmp_path}/note")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press(*"/tmp", "enter")
        await settled(pilot)
        assert [path for _container, path in engine.files] == ["/tmp/note"]

        await pilot.press("x")
        await settled(pilot)
        await pilot.press("ctrl+u")
        await paste(pilot, f"{tmp_path}/web.tar")
        await pilot.press("enter")
        await settled(pilot)
        assert (tmp_path / "web.tar").read_bytes()[257:262] == b"ustar"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["note", "web.tar"]


async def test_what_cannot_be_copied_says_why(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        engine.failures["copy-from"] = FileNotInContainerError("/tmp/new", "web-1")
        await pilot.press("3", "o", *"/tmp/new", "enter")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert "Could not find the file /tmp/new in container web-1" in told(app)
