"""Several images at once: marked, saved together, removed together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tui.conftest import screen_text, settled
from tests.tui.notices import notices
from tui.screens.dialogs import ConfirmScreen
from tui.screens.save_form import SaveScreen

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


def marked(app: LamellaApp) -> list[str]:
    return [row.name for row in app.dashboard.images.marked]


async def test_what_is_marked_is_saved_together(
    app: LamellaApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("g", "space", "space")
        await settled(pilot)
        assert marked(app) == ["debian:bookworm", "web:latest"]
        assert "* web " in screen_text(app)
        assert "2 marked, esc clears" in screen_text(app)
        await pilot.press("S")
        await settled(pilot)
        assert isinstance(app.screen, SaveScreen)
        assert "debian:bookworm web:latest" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert (tmp_path / "images.tar").read_text() == "debian:bookworm\nweb:latest"
        assert marked(app) == []


async def test_marks_stay_below_a_filter_and_go_by_the_key_or_with_their_image(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("g", "space", "slash", *"web", "enter", "space")
        await settled(pilot)
        assert marked(app) == ["debian:bookworm", "web:latest"]
        await pilot.press("escape")  # the filter
        await settled(pilot)
        await app.bridge.call(lambda opened: opened.remove_image("debian:bookworm"))
        await settled(pilot)
        assert marked(app) == ["web:latest"]
        await pilot.press("space")
        await settled(pilot)
        assert marked(app) == []
        await pilot.press("space", "escape")
        await settled(pilot)
        assert marked(app) == []
        assert "marked" not in screen_text(app)


async def test_what_is_marked_is_removed_after_a_yes_and_what_cannot_be_is_said(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.add_image("old:1")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("g", "space", "space", "space", "d")
        await settled(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        assert "Remove 3 images?" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert len(app.dashboard.images.rows) == 3
        await pilot.press("y")
        await settled(pilot)
        # web:latest has containers.
        assert [row.name for row in app.dashboard.images.rows] == ["web:latest"]
        messages = notices(app)
        assert "Removed 2 images, 2.0 kB freed" in messages
        assert any("web:latest" in message for message in messages)
