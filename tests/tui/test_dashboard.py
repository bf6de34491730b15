from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import StoreError
from engine.types import ChangeKind, ContainerStatus, LayerChange
from tests.fakes import FakeEngine
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tests.tui.notices import notices
from tui.app import LamellaApp

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 16)])
async def test_an_image_leads_to_its_layers_and_their_files(
    app: LamellaApp, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        assert "debian" in screen_text(app)
        await pilot.press("down", "enter")
        await settled(pilot)
        text = screen_text(app)
        assert "COPY app /srv/app" in text
        assert "RUN apt-get install" in text
        await pilot.press("enter")
        await settled(pilot)
        text = screen_text(app)
        assert "app.py" in text
        assert "added" in text
        assert "removed" in text
        await pilot.press("escape", "escape")
        assert app.focused is app.dashboard.images


async def test_a_terminal_that_is_too_small_says_so(app: LamellaApp) -> None:
    async with app.run_test(size=(50, 10)) as pilot:
        await settled(pilot)
        assert "60x16" in screen_text(app)


async def test_an_empty_store_says_which_key_fills_it() -> None:
    engine = FakeEngine()
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "D  makes the demo" in screen_text(app)
        await pilot.press("D")
        await settled(pilot)
        assert "demo-web" in screen_text(app)


async def test_an_engine_that_does_not_open_shows_why_and_what_to_do() -> None:
    engine = FakeEngine()
    engine.opening_error = StoreError("the store is damaged", hint="Restore it from a copy")
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        assert "the store is damaged" in screen_text(app)
        assert "Restore it from a copy" in screen_text(app)


async def test_pause_resume_stop_and_start_follow_the_state(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "p")
        await settled(pilot)
        assert "Paused" in screen_text(app)
        await pilot.press("p")
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        assert "Exited (143)" in screen_text(app)
        await pilot.press("s", "r")
        await settled(pilot)
    operations = [operation for operation, _ in engine.calls]
    assert operations == ["pause", "unpause", "stop", "start", "restart"]


async def test_a_refused_action_says_why_and_what_to_do(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3", "down", "p")
        await settled(pilot)
        messages = notices(app)
    assert any("is not running\n`lamella start job` starts it" in message for message in messages)


@pytest.mark.parametrize(
    ("ask", "answer"), [(["d"], ["y"]), (["ctrl+k"], ["enter"]), (["N"], [*"new", "enter"])]
)
async def test_an_answer_is_about_the_container_of_the_question_also_when_the_cursor_moved(
    app: LamellaApp, engine: FakeEngine, ask: list[str], answer: list[str]
) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3", *ask)
        await settled(pilot)
        assert "web-1" in screen_text(app)
        await app.bridge.call(lambda _engine: engine.remove_container("web-1", is_forced=True))
        await settled(pilot)
        assert app.dashboard.selected_container is not None
        assert app.dashboard.selected_container.name == "job"
        del engine.calls[:]
        await pilot.press(*answer)
        await settled(pilot)
        messages = notices(app)
    assert engine.calls == []
    assert any("No such container" in message for message in messages)


async def test_removing_asks_first_and_only_y_removes(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "d")
        await settled(pilot)
        assert "writable layer and its log will be lost" in screen_text(app)
        await pilot.press("enter", "escape")
        await settled(pilot)
        assert engine.calls == []
        await pilot.press("d", "y")
        await settled(pilot)
        assert engine.calls == [("remove", "web-1 forced")]
        assert "web-1" not in {row.name for row in app.dashboard.containers.rows}


async def test_the_run_form_says_what_is_wrong_and_then_runs(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("r", *"two", "tab", *"sleep 5", *["tab"] * 4, *"12", "enter")
        await settled(pilot)
        assert "Memory: at least 6m" in screen_text(app)
        await pilot.press("m", "enter")
        await settled(pilot)
    assert engine.calls == [("create", "two"), ("start", "two")]
    request = next(c.request for c in engine.containers.values() if c.summary.name == "two")
    assert request.command == ("sleep", "5")
    assert request.limits.memory_bytes == 12 * 1024 * 1024


async def test_a_log_is_followed_and_can_be_held(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "enter")
        await wait_until(pilot, lambda: "GET / 200" in screen_text(app))

        async def write(text: bytes) -> None:
            async def run(_engine: object) -> None:
                engine.write_log("web-1", text)

            await app.bridge.call(run)

        await write(b"\x1b[31mred\x1b[0m \x1b]0;title\x07end")
        await wait_until(pilot, lambda: "red end" in screen_text(app))
        await pilot.press("f")
        assert not app.dashboard.detail.logs.is_following
        await pilot.press("slash", *"GET", "enter")
        await settled(pilot)
        line = app.dashboard.detail.logs.current_line
        assert line is not None
        assert line.raw == b"GET / 200"


async def test_a_change_by_another_process_appears(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)

        async def run(_engine: object) -> None:
            engine.change_status("web-1", ContainerStatus.EXITED, "die", exit_code=137)

        await app.bridge.call(run)
        await wait_until(pilot, lambda: "Exited (137)" in screen_text(app))


async def test_the_filter_shows_matches_and_escape_clears_it(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("slash", *"web", "enter")
        await settled(pilot)
        assert [row.name for row in app.dashboard.images.rows] == ["web:latest"]
        await pilot.press("escape")
        assert len(app.dashboard.images.rows) == 2


async def test_help_lists_keys_with_their_command_lines(app: LamellaApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        assert "lamella history IMAGE" in screen_text(app)
        await pilot.press("escape")
        assert app.screen is app.dashboard


async def test_the_palette_finds_a_command_by_name(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "colon")
        await pilot.press(*"containers pause")
        await wait_until(pilot, lambda: "Containers: pause" in screen_text(app))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: ("pause", "web-1") in engine.calls)


async def test_hostile_text_never_reaches_the_terminal() -> None:
    evil = "a\x1b]0;owned\x07b\x9b31mc\u202ed\x00"
    engine = FakeEngine()
    engine.add_image(f"{evil}:latest", steps=((f"RUN {evil}", 10),))
    engine.add_container(evil, image=f"{evil}:latest", log=(evil.encode(),))
    app = LamellaApp(engine.opened)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        for keys in ("1", "2", "3", "4", "right_square_bracket", "y", "escape", "d"):
            await pilot.press(keys)
            await settled(pilot)
            text = screen_text(app)
            bad = [c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0]
            assert bad == []
            assert "\u202e" not in text


async def test_a_long_load_shows_progress_and_escape_cancels_it(
    app: LamellaApp, engine: FakeEngine, tmp_path: Path
) -> None:
    import asyncio

    engine.gates["load"] = asyncio.Event()
    archive = tmp_path / "image.tar"
    archive.touch()
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("L")
        await settled(pilot)
        await paste(pilot, str(archive))
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Unpacking layer 1 of 1" in screen_text(app))
        await pilot.press("escape")
        await settled(pilot)
        assert "loaded" not in screen_text(app)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_every_change_is_shown_that_there_is_room_for(
    app: LamellaApp, engine: FakeEngine, size: tuple[int, int]
) -> None:
    async def list_changes(_reference: str) -> tuple[LayerChange, ...]:
        return tuple(LayerChange(path=f"tmp/{n}", change=ChangeKind.ADDED) for n in range(12))

    engine.list_changes = list_changes  # type: ignore[method-assign]
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("3", "enter", *("right_square_bracket",) * 3)
        await settled(pilot)
        shown = screen_text(app)
    assert [n for n in range(12) if f"+ added     /tmp/{n} " in shown] == list(range(12))


async def test_the_key_of_the_next_tab_is_shown_also_where_there_is_little_room(
    app: LamellaApp,
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("3", "enter")
        await settled(pilot)
        assert screen_text(app).splitlines()[-1].startswith(" ] next tab  f follow ")
