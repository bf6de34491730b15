"""Registries, by keyboard: found, looked into, logged in to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from engine.errors import RegistryRefusedError, RegistryUnreachableError
from engine.types import FoundImage
from tests.fake_registry import LAYER_DIGESTS
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tests.tui.notices import told
from tests.tui.registries import NAME, SIZES, search
from tui.screens.dialogs import ChoiceScreen, PromptScreen, ReadingScreen
from tui.screens.login_form import LoginScreen
from tui.screens.registry import RegistryScreen, TagsScreen
from tui.screens.remote_image import RemoteFilesScreen, RemoteImageScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    engine.remote_names.add(NAME)
    engine.repositories += [
        FoundImage(
            name="nginx",
            description="Official build\x1b]0;owned\x07 of\nNginx.",
            star_count=21034,
            is_official=True,
        ),
        FoundImage(name="somebody/nginx-more", description="One more", star_count=3),
    ]
    engine.remote_tags["localhost:5000/web"] = ("1", "2", "latest")
    return engine


@pytest.mark.parametrize("size", SIZES)
async def test_a_search_lists_the_typed_name_and_what_it_found(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await search(pilot, "ngin")
        lines = screen_text(app).splitlines()
        (typed,) = [line for line in lines if "as typed" in line]
        assert "▌ngin " in typed
        (official,) = [line for line in lines if " nginx " in line]
        assert "21034" in official
        assert "official" in official
        assert "\x1b" not in official
        assert "somebody/nginx-more" in screen_text(app)
        assert "2 found for ngin" in screen_text(app)
        assert engine.calls == [("search", "ngin")]
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.dashboard


async def test_a_name_that_was_found_and_typed_stands_there_once(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, "nginx:1.27")
        names = [row.name for row in app.screen.list.rows]
        assert names == ["nginx:1.27", "nginx", "somebody/nginx-more"]
        await pilot.press("slash", *["backspace"] * 5, "enter")
        await settled(pilot)
        rows = app.screen.list.rows
        assert [row.name for row in rows] == ["nginx", "somebody/nginx-more"]
        assert rows[0].found is not None


async def test_a_registry_alone_is_no_name_and_lists_what_it_has(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, "localhost:5000/")
        assert engine.calls == [("search", "localhost:5000/")]
        assert isinstance(app.screen, RegistryScreen)
        assert [row.name for row in app.screen.list.rows] == ["nginx", "somebody/nginx-more"]


async def test_without_a_network_the_reason_stands_there_and_the_name_can_be_used(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.failures["search"] = RegistryUnreachableError(
        "docker.io", "cannot reach docker.io: no route to host", hint="Is there a network?"
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        text = screen_text(app)
        assert "cannot reach docker.io: no route to host" in text
        assert "Is there a network?" in text
        assert "The name itself can be looked into and pulled all the same" in text
        await pilot.press("P")
        await settled(pilot)
        assert f"Pulled {NAME}" in told(app)


async def test_tags_are_listed_filtered_and_pulled(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("t")
        await settled(pilot)
        assert isinstance(app.screen, TagsScreen)
        assert "Tags of localhost:5000/web  3" in screen_text(app)
        await pilot.press("slash")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press(*"late", "enter")
        await settled(pilot)
        assert "1 of 3" in screen_text(app)
        engine.remote_names.add("localhost:5000/web:latest")
        await pilot.press("P")
        await settled(pilot)
        assert ("pull", "localhost:5000/web:latest") in engine.calls
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, RegistryScreen)


async def test_tags_that_are_not_told_say_why(app: LamellaApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, "nowhere")
        await pilot.press("t")
        await settled(pilot)
        assert "manifest for nowhere not found: name unknown" in screen_text(app)


@pytest.mark.parametrize("size", SIZES)
async def test_enter_looks_into_an_image_and_into_a_layer_and_esc_comes_back(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteImageScreen)
        text = screen_text(app)
        assert NAME in text
        assert "2 layers  2.0 kB  2.0 kB to fetch" in text
        assert "linux/amd64" in text
        first, second = (line for line in text.splitlines() if "COPY" in line)
        assert "COPY 1" in first
        assert "1.0 kB" in first
        assert "COPY 0" in second
        config = [row.text.split() for row in app.screen.config.rows]
        assert ["Digest", LAYER_DIGESTS[0]] in config
        assert ["Command", "/none"] in config
        await pilot.press("down", "enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)
        assert "one" in screen_text(app)
        await pilot.press("K")
        await settled(pilot)
        assert "two" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, RegistryScreen)


async def test_fetching_a_layer_to_look_into_shows_how_far_it_is_and_can_be_cancelled(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.gates["remote-files"] = asyncio.Event()
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "500 B of 1.0 kB" in screen_text(app))
        assert "Fetching layer 1 of localhost:5000/web:1" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)
        assert "enter on its step fetches it again" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        engine.gates["remote-files"].set()
        await pilot.press("enter")
        await settled(pilot)
        assert "two" in screen_text(app)


async def test_what_is_here_is_marked_once_it_was_pulled(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        assert " here" not in screen_text(app)
        await pilot.press("P")
        await settled(pilot)
        assert "all of it is here" in screen_text(app)
        assert [line.rstrip("│ ").endswith(" here") for line in screen_text(app).splitlines()
                if "COPY" in line] == [True, True]  # fmt: skip
        await pilot.press("escape", "escape")
        await settled(pilot)
        current = app.dashboard.images.current
        assert current is not None
        assert current.name == NAME


async def test_an_image_that_is_not_there_says_so(app: LamellaApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, "nowhere")
        await pilot.press("enter")
        await settled(pilot)
        assert "manifest for nowhere:latest not found" in screen_text(app)
        await pilot.press("enter")  # there is no step to open
        assert isinstance(app.screen, RemoteImageScreen)
        await pilot.press("escape", "P")
        await settled(pilot)
        assert "manifest for nowhere:latest not found" in told(app)
        assert "What has arrived is kept" not in told(app)


async def test_a_refusal_asks_who_one_is_and_then_goes_on(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.accounts["localhost:5000", "ada"] = "secret"
    engine.failures["pull"] = RegistryRefusedError("localhost:5000", "pull access denied")
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: isinstance(app.screen, LoginScreen))
        await pilot.pause()
        assert "pull access denied" in screen_text(app)
        assert "localhost:5000" in screen_text(app)
        await pilot.press(*"ada", "tab", *"wrong", "enter")
        await wait_until(pilot, lambda: "incorrect username or password" in screen_text(app))
        assert "wrong" not in screen_text(app)
        await pilot.press(*"secret", "enter")
        await settled(pilot)
        assert "Logged in to localhost:5000 as ada" in told(app)
        assert "stored unencrypted in /fake/config.json" in told(app)
        assert f"Pulled {NAME}" in told(app)
        assert [name for name, _ in engine.calls] == ["search", "pull", "login", "login", "pull"]


async def test_who_does_not_log_in_is_told_the_refusal(app: LamellaApp, engine: FakeEngine) -> None:
    engine.failures["peek"] = RegistryRefusedError("localhost:5000", "pull access denied")
    async with app.run_test(size=(80, 24)) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, LoginScreen))
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(app.screen, RemoteImageScreen)
        assert "pull access denied" in screen_text(app)
        assert "`lamella login localhost:5000` says who you are" in screen_text(app)


async def test_run_of_a_name_that_is_not_here_offers_to_pull_it(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r", *"new", "shift+tab", "ctrl+u")
        await paste(pilot, NAME)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.pause()
        assert f"{NAME} is not here" in screen_text(app)
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RemoteImageScreen))
        await settled(pilot)
        await pilot.press("escape", "r", *"new", "shift+tab", "ctrl+u")
        await paste(pilot, NAME)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("enter")
        await settled(pilot)
        assert f"Pulled {NAME}" in told(app)
        assert "Started new" in told(app)
        assert engine._find("new").summary.image == NAME


async def test_log_in_and_out_by_keys(app: LamellaApp, engine: FakeEngine) -> None:
    engine.accounts["docker.io", "ada"] = "secret"
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("l")
        await wait_until(pilot, lambda: isinstance(app.screen, LoginScreen))
        await pilot.press("tab", "enter")
        await pilot.pause()
        assert "Which user?" in screen_text(app)
        await pilot.press(*"ada", "enter", *"secret", "enter")
        await settled(pilot)
        assert "Logged in to docker.io as ada" in told(app)
        await pilot.press("o", "enter")
        await settled(pilot)
        assert "Removed the login for docker.io" in told(app)
        assert not engine.kept_logins


async def test_help_lists_the_keys_with_the_command_lines(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        await pilot.pause()
        assert "lamella search --list-tags NAME" in screen_text(app)
        await pilot.press("escape", "enter")
        await settled(pilot)
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, ReadingScreen))
        await pilot.pause()
        assert "lamella peek --files STEP NAME" in screen_text(app)


async def test_the_palette_leads_there(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("colon", *"everywhere pull")
        await wait_until(pilot, lambda: "Everywhere: pull" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, RegistryScreen))
        await settled(pilot)
