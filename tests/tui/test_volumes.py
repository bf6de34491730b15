"""The volumes, by keyboard."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.types import ContainerRequest, MountRequest
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.notices import told
from tui.app import LamellaApp
from tui.screens.dialogs import ChoiceScreen, ConfirmScreen, PromptScreen, ReadingScreen
from tui.screens.volumes import VolumesScreen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.api import EngineApi
    from tests.fakes import FakeEngine

ANONYMOUS = "f" * 64


@pytest.fixture
def volumes(engine: FakeEngine) -> FakeEngine:
    engine.add_volume("files", size_bytes=4_200_000)
    engine.add_volume("notes", size_bytes=1_000)
    engine.add_volume(ANONYMOUS, size_bytes=2_000, is_anonymous=True)
    mount = MountRequest(kind="volume", source="files", target="/data")
    engine._add(ContainerRequest(image="web:latest", name="web-9", mounts=(mount,)), "web-9")
    return engine


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 16)])
async def test_the_list_shows_size_users_and_what_is_anonymous(
    app: LamellaApp, volumes: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        text = screen_text(app)
        (line,) = [line for line in text.splitlines() if "files" in line]
        assert "4.2 MB" in line
        assert "web-9" in line
        assert "not used" in text
        assert "ffffffff anon" in text
        assert "Volumes  3" in text
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.dashboard


async def test_an_empty_list_says_which_key_fills_it_and_the_key_does(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        assert "No volumes here yet" in screen_text(app)
        assert "c  makes one" in screen_text(app)
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press("enter")
        assert "Which name?" in screen_text(app)
        await pilot.press(*"new", "enter")
        await settled(pilot)
        assert "new" in engine.volumes
        assert isinstance(app.screen, VolumesScreen)
        current = app.screen.list.current
        assert current is not None
        assert current.volume.name == "new"


async def test_a_name_that_cannot_be_is_told(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v", "c")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press(*"a/b", "enter")
        await settled(pilot)
        assert "includes invalid characters" in told(app)
        assert not engine.volumes


async def test_removing_says_what_is_lost_and_asks(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        await pilot.press("G", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "Its files will be lost, 1.0 kB" in screen_text(app)
        await pilot.press("enter")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("y")
        await settled(pilot)
        assert set(volumes.volumes) == {"files", ANONYMOUS}
        assert "notes" not in screen_text(app).replace("Removed notes", "")


async def test_one_in_use_says_by_whom_and_stays(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        assert isinstance(app.screen, VolumesScreen)
        app.screen.list.move_to_key("files")
        await pilot.press("d")
        await settled(pilot)
        assert "files is used by web-9" in told(app)
        assert "files" in volumes.volumes


async def test_inspect_shows_where_the_files_are(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        await pilot.press("G", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        text = screen_text(app)
        assert "/var/lib/lamella/volumes/notes/_data" in text
        assert "no container" in text
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, VolumesScreen)


async def test_prune_lets_choose_and_lists_what_goes(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v", "x")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        text = screen_text(app)
        assert "Remove 2 volumes?" in text
        assert "notes" in text
        await pilot.press("y")
        await settled(pilot)
        assert set(volumes.volumes) == {"files"}
        assert "Removed 2 volumes, 3.0 kB freed" in told(app)


async def test_a_filter_shows_only_what_has_the_text(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v", "slash")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press(*"web-9", "enter")
        await settled(pilot)
        assert "1 of 3" in screen_text(app)
        assert "notes" not in screen_text(app)


async def test_what_others_do_shows_at_once(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v")
        await settled(pilot)
        await app.bridge.call(lambda engine: engine.create_volume("elsewhere"))
        await wait_until(pilot, lambda: "elsewhere" in screen_text(app))


async def test_the_palette_leads_there(app: LamellaApp, volumes: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("colon", *"everywhere volumes")
        await wait_until(pilot, lambda: "Everywhere: volumes" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, VolumesScreen))
        await settled(pilot)


async def test_a_list_that_cannot_be_read_says_why(
    app: LamellaApp, volumes: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise StoreError("the store is damaged", hint="Restore it from a copy")

    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        monkeypatch.setattr(volumes, "list_volumes", broken)
        await pilot.press("v")
        await settled(pilot)
        assert "the store is damaged" in screen_text(app)
        assert "Restore it from a copy" in screen_text(app)


async def test_a_screen_that_is_opened_before_the_store_fills_when_it_is(
    volumes: FakeEngine,
) -> None:
    gate = asyncio.Event()
    opened = volumes.opened

    @contextlib.asynccontextmanager
    async def opened_late() -> AsyncIterator[EngineApi]:
        await gate.wait()
        async with opened() as engine:
            yield engine

    app = LamellaApp(opened_late)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("v")
        await wait_until(pilot, lambda: "the engine is not open" in screen_text(app))
        assert "esc close" in screen_text(app)
        await wait_until(pilot, lambda: app.bridge._loop is not None)
        loop = app.bridge._loop
        assert loop is not None
        loop.call_soon_threadsafe(gate.set)
        await wait_until(pilot, lambda: "notes" in screen_text(app))
        await settled(pilot)


async def test_help_lists_the_keys_with_the_command_lines(
    app: LamellaApp, volumes: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("v", "question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        assert "lamella volume prune" in screen_text(app)
