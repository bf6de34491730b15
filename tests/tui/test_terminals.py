from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tui.conftest import screen_text, settled
from tui.app import LamellaApp

if TYPE_CHECKING:
    import pytest

    from tests.fakes import FakeEngine


async def test_a_locale_without_utf8_is_drawn_in_ascii(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        for keys in ("1", "down", "3", "4"):
            await pilot.press(keys)
            await settled(pilot)
        frame = {character for character in screen_text(app) if ord(character) > 126}
    assert frame <= {"·", "…"}


async def test_without_colours_state_is_still_told(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        text = screen_text(app)
    assert "> web-1" in text
    assert "x job" in text
    assert "Exited (1)" in text
