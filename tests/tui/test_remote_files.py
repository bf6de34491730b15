"""Files of a layer in a registry, shown without pulling it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import RegistryRefusedError
from engine.types import FileKind
from tests.fakes import file_entry
from tests.tui.conftest import screen_text, settled, viewed_lines, wait_until
from tests.tui.notices import notices
from tui.screens.login_form import LoginScreen
from tui.screens.remote_image import RemoteFilesScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = [(120, 40), (80, 24)]


async def open_layer(pilot: Pilot[None], engine: FakeEngine) -> None:
    """The topmost layer of web:latest, which has a file, `two`."""
    engine.remote_names.add("web:latest")
    await settled(pilot)
    await pilot.press("P", *"web:latest", "enter")
    await settled(pilot)
    await pilot.press("enter")
    await settled(pilot)
    await pilot.press("enter")
    await settled(pilot)
    assert isinstance(pilot.app.screen, RemoteFilesScreen)


@pytest.mark.parametrize("size", SIZES)
async def test_enter_on_a_file_shows_its_lines(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    engine.remote_content["two"] = b"hello\x1b[2J\nthere\n"
    async with app.run_test(size=size) as pilot:
        await open_layer(pilot, engine)
        await pilot.press("enter")
        await settled(pilot)
        assert "/two  16 B" in screen_text(app)
        assert viewed_lines(app) == ["1 hello", "2 there"]
        await pilot.press("slash", *"ther", "enter")
        await settled(pilot)
        assert viewed_lines(app) == ["2 there"]
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)


async def test_long_lines_are_broken_anew_when_the_width_changes(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.remote_content["two"] = b"0123456789" * 30
    async with app.run_test(size=(120, 40)) as pilot:
        await open_layer(pilot, engine)
        await pilot.press("enter")
        await settled(pilot)
        wide = viewed_lines(app)
        assert "".join(wide) == "1 " + "0123456789" * 30
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        narrow = viewed_lines(app)
        assert len(narrow) > len(wide)
        assert "".join(narrow) == "".join(wide)


async def test_a_large_file_that_is_no_text_says_so(app: LamellaApp, engine: FakeEngine) -> None:
    engine.remote_content["two"] = bytes(3_000_000)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_layer(pilot, engine)
        await pilot.press("enter")
        await settled(pilot)
        assert "the first 1.0 MB of 3.0 MB  not text" in screen_text(app)
        assert viewed_lines(app)[-1] == "Only the first 65,536 bytes are shown"


async def test_a_registry_that_refuses_is_told_who_one_is(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.failures["read-remote"] = RegistryRefusedError("docker.io", "denied")
    async with app.run_test(size=(120, 40)) as pilot:
        await open_layer(pilot, engine)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, LoginScreen))


async def test_what_is_no_file_is_not_fetched(app: LamellaApp, engine: FakeEngine) -> None:
    entry = file_entry("two", kind=FileKind.SYMLINK)
    listed = engine.list_remote_layer_files

    async def list_files(reference, position, **options):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        return replace(await listed(reference, position, **options), entries=(entry,))

    engine.list_remote_layer_files = list_files  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_layer(pilot, engine)
        await pilot.press("enter")
        await settled(pilot)
        messages = notices(app)
        assert messages == ["/two has nothing to show: symlink"]
        assert all(name != "read-remote" for name, _about in engine.calls)
