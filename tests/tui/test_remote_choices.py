"""What can be chosen of a registry: a platform, a registry alone, and commands by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import PlatformMismatchError, RegistryError
from engine.types import FoundImage
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.notices import told
from tests.tui.registries import NAME, search
from tui.screens.dialogs import ChoiceScreen, ConfirmScreen, PromptScreen
from tui.screens.registry import RegistryScreen, TagsScreen
from tui.screens.remote_image import RemoteFilesScreen, RemoteImageScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

SIZES = [(120, 40), (80, 24), (60, 16)]
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")


def mismatch() -> PlatformMismatchError:
    return PlatformMismatchError(NAME, platforms=PLATFORMS[1:], wanted="linux/amd64", is_host=True)


@pytest.mark.parametrize("size", SIZES)
async def test_the_platform_that_is_chosen_is_looked_at_and_pulled(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    engine.remote_names.add(NAME)
    engine.remote_platforms = PLATFORMS
    async with app.run_test(size=size, notifications=True) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        # Below 80 columns the end of the line has to go.
        more = ", p: 3 platforms" if size[0] >= 80 else ""
        assert f"linux/amd64{more}" in screen_text(app)
        await pilot.press("p")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("down", "down", "enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteImageScreen)
        assert f"linux/arm/v7{more}" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("escape", "P")
        await settled(pilot)
    asked = [about for name, about in engine.calls if name in {"peek", "pull"}]
    # The first look is for this host; everything after the choice is for that.
    assert asked[0] == NAME
    assert len(asked) > 3
    assert all(about.endswith(" linux/arm/v7") for about in asked[1:])
    assert ("pull", f"{NAME} linux/arm/v7") in engine.calls


async def test_an_image_for_other_platforms_alone_can_be_looked_into(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.remote_names.add(NAME)
    engine.failures["peek"] = mismatch()
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        assert "the image is for linux/arm64, linux/arm/v7" in screen_text(app)
        assert "p  looks at it for another platform" in screen_text(app)
        await pilot.press("enter", "p")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("enter")
        await settled(pilot)
        assert "COPY 1" in screen_text(app)
    assert ("peek", f"{NAME} linux/arm64") in engine.calls


@pytest.mark.parametrize("is_chosen", [True, False])
async def test_a_pull_for_which_there_is_no_image_offers_those_that_there_are(
    app: LamellaApp, engine: FakeEngine, is_chosen: bool
) -> None:
    engine.remote_names.add(NAME)
    engine.failures["pull"] = mismatch()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await search(pilot, NAME)
        await pilot.press("P")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("down", "enter" if is_chosen else "escape")
        await settled(pilot)
        assert isinstance(app.screen, RegistryScreen)
        assert (f"Pulled {NAME}" in told(app)) is is_chosen
    assert (("pull", f"{NAME} linux/arm/v7") in engine.calls) is is_chosen


async def test_an_image_for_one_platform_says_that_there_is_no_other(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.remote_names.add(NAME)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await search(pilot, NAME)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("p")
        await settled(pilot)
        assert "There is nothing here but linux/amd64" in told(app)


@pytest.mark.parametrize("typed", ["localhost:5000", "registry.lan:5000", "127.0.0.1:5000"])
async def test_a_registry_with_its_port_alone_lists_all_that_it_has(
    app: LamellaApp, engine: FakeEngine, typed: str
) -> None:
    engine.repositories.append(FoundImage(name=f"{typed}/team/web", description=""))
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, typed)
        assert isinstance(app.screen, RegistryScreen)
        assert [row.name for row in app.screen.list.rows] == [f"{typed}/team/web"]
    assert ("search", typed) in engine.calls


async def test_a_name_with_a_tag_is_no_registry(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, "debian:12")
        assert isinstance(app.screen, RegistryScreen)
        assert [row.name for row in app.screen.list.rows] == ["debian:12"]
    assert ("search", "debian") in engine.calls


async def test_the_palette_of_a_registry_screen_has_its_commands_alone(
    app: LamellaApp, engine: FakeEngine
) -> None:
    engine.remote_names.add(NAME)
    engine.remote_tags["localhost:5000/web"] = ("1", "2")
    async with app.run_test(size=(120, 40)) as pilot:
        await search(pilot, NAME)
        await pilot.press("colon")
        await wait_until(pilot, lambda: "Registry: tags" in screen_text(app))
        assert "Containers:" not in screen_text(app)
        await pilot.press(*"registry tags")
        await wait_until(pilot, lambda: "Registry: pull" not in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, TagsScreen))
        await settled(pilot)
        await pilot.press("escape", "enter")
        await settled(pilot)
        await pilot.press("colon", *"platform")
        await wait_until(pilot, lambda: "Image in a registry: platform" in screen_text(app))
        await pilot.press("escape")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)
        # Here p is another key, and the files have commands of their own.
        await pilot.press("colon", *"files sort")
        await wait_until(pilot, lambda: "Files: sort" in screen_text(app))
        await pilot.press("down", "enter")
        await settled(pilot)
        assert isinstance(app.screen, RemoteFilesScreen)
        assert app.screen.files._is_by_size
        await pilot.press("question_mark")
        await settled(pilot)
        assert "Look at the image for another platform" not in screen_text(app)


@pytest.mark.parametrize(
    ("words", "screen"),
    [
        ("registry look", RemoteImageScreen),
        ("registry tags", TagsScreen),
        ("registry pull", None),
    ],
)
async def test_the_palette_asks_for_the_name_of_what_is_in_a_registry(
    app: LamellaApp, engine: FakeEngine, words: str, screen: type | None
) -> None:
    engine.remote_names.add("debian:bookworm")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("1", "colon", *words)
        await wait_until(pilot, lambda: words.replace(" ", ": ", 1).title()[:9] in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        assert "debian:bookworm" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        if screen is not None:
            assert isinstance(app.screen, screen)
        else:
            assert ("pull", "debian:bookworm") in engine.calls


@pytest.mark.parametrize("is_sure", [True, False])
async def test_a_tag_is_deleted_after_asking_and_gone_from_the_list(
    app: LamellaApp, engine: FakeEngine, is_sure: bool
) -> None:
    engine.remote_tags["localhost:5000/web"] = ("1", "2")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await search(pilot, "localhost:5000/web")
        await pilot.press("d")
        await settled(pilot)
        assert "t lists its tags, and d deletes one" in told(app)
        await pilot.press("t")
        await settled(pilot)
        await pilot.press("down", "d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "under every tag that it has there" in screen_text(app)
        # enter alone deletes nothing
        await pilot.press("enter", "y" if is_sure else "escape")
        await settled(pilot)
        assert isinstance(app.screen, TagsScreen)
        assert list(app.screen.list.rows) == (["1"] if is_sure else ["1", "2"])
    assert (("delete-remote", "localhost:5000/web:2") in engine.calls) is is_sure


async def test_a_registry_that_deletes_nothing_says_so(app: LamellaApp, engine: FakeEngine) -> None:
    engine.remote_tags["localhost:5000/web"] = ("1",)
    engine.failures["delete-remote"] = RegistryError(
        "localhost:5000", "localhost:5000 does not let images be deleted"
    )
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await search(pilot, "localhost:5000/web")
        await pilot.press("t")
        await settled(pilot)
        await pilot.press("d")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await settled(pilot)
        assert "localhost:5000 does not let images be deleted" in told(app)
        assert isinstance(app.screen, TagsScreen)
        assert list(app.screen.list.rows) == ["1"]
