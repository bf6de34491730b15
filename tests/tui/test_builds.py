"""Builds in the application, by keyboard: the form, the steps live, cancel, watch, the list."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Checkbox, Input

from engine.types import BuildStatus, BuildStepState
from tests.tui.builds import NARROW, WIDE, build
from tests.tui.conftest import paste, screen_text, settled, wait_until
from tests.tui.notices import told
from tui.screens.build import BuildScreen
from tui.screens.build_files import StepFilesScreen
from tui.screens.build_form import BuildFormScreen
from tui.screens.build_log import StepLogScreen
from tui.screens.builds import BuildsScreen
from tui.screens.dialogs import ConfirmScreen, QuitScreen, ReadingScreen
from tui.screens.file_picker import FilePicker
from tui.screens.file_view import FileViewScreen

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

DOCKERFILE = """\
FROM debian:bookworm
RUN echo one two
COPY app /srv/app
RUN echo three
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def hold(engine: FakeEngine, gate: str) -> None:
    engine.gates[gate] = asyncio.Event()


def release(app: LamellaApp, engine: FakeEngine, gate: str) -> None:
    loop = app.bridge._loop
    assert loop is not None
    loop.call_soon_threadsafe(engine.gates.pop(gate).set)


async def ended(pilot: Pilot[None], screen: BuildScreen) -> None:
    await wait_until(pilot, lambda: not screen.job.is_running)
    await settled(pilot)


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_an_image_is_built_from_the_form_and_its_steps_are_shown(
    app: LamellaApp, engine: FakeEngine, context: Path, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        text = screen_text(app)
        assert "Build  web:built" in text
        assert "+ done" in text
        assert "4/4 RUN echo three" in text
        assert screen.job.model.status is BuildStatus.DONE
        assert any("web:built" in image.summary.names for image in engine.images.values())


async def test_the_second_build_is_all_cache_and_says_so(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        await pilot.press("r")
        await ended(pilot, screen)
        text = screen_text(app)
        assert "3 cached" in text
        assert "= cached    " in text
        assert "in the cache: nothing that it reads has changed" in text
        assert "as large as before" in text


async def test_a_build_that_failed_is_not_as_large_as_the_one_before(
    app: LamellaApp, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        (context / "Dockerfile").write_text("FROM starter:latest\nRUN exit 3\n")
        await pilot.press("r")
        await ended(pilot, screen)
        text = screen_text(app)
        assert "x failed" in text
        assert "as large as before" not in text


async def test_why_a_step_was_run_is_said_below_and_in_full(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        assert "not in the cache: no earlier build had RUN echo three" in screen_text(app)
        await pilot.press("i")
        await settled(pilot)
        assert isinstance(app.screen, ReadingScreen)
        assert "Why it was run" in screen_text(app)
        assert "first build" in screen_text(app)


async def test_a_dockerfile_that_is_none_is_said_in_the_form_which_stays(
    app: LamellaApp, context: Path
) -> None:
    (context / "Dockerfile").write_text("RUN echo too early\n")
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot)
        await pilot.press("b")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildFormScreen))
        field = app.screen.query_one("#field-context", Input)
        field.focus()
        field.value = ""
        await paste(pilot, str(context))
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, BuildFormScreen)
        assert "no build stage in current context" in screen_text(app)
        assert not app.dashboard.build_jobs


async def test_arguments_without_a_value_are_refused_where_they_stand(
    app: LamellaApp, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(context)
    monkeypatch.delenv("NOWHERE_SET", raising=False)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("b")
        await settled(pilot)
        await pilot.press("tab", "tab")
        await paste(pilot, "VERSION=1.4\nNOWHERE_SET")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "NOWHERE_SET has no value" in screen_text(app)
        assert app.focused is not None
        assert app.focused.id == "arguments"


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_what_the_command_line_takes_has_a_field_and_a_mistake_is_said_at_it(
    app: LamellaApp, context: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.chdir(context)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("b")
        await settled(pilot)
        form = app.screen
        text = screen_text(app)
        for name in ("Labels", "Secrets", "SSH agents", "Cache from", "Network", "Platform"):
            assert name in text
        assert "squash" in text
        form.query_one("#field-ssh", Input).value = "default=/nowhere/agent"
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert app.screen is form
        assert "cannot use /nowhere/agent" in screen_text(app)
        assert app.focused is form.query_one("#field-ssh")
        form.query_one("#field-ssh", Input).value = ""
        form.query_one("#field-labels", Input).value = "'a=two words'"
        form.query_one("#squashes", Checkbox).value = True
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.dashboard.build_jobs))
        request = app.dashboard.build_jobs[0].model.request
        assert request is not None
        assert request.labels == (("a", "two words"),)
        assert request.squashes


async def test_the_context_is_chosen_by_walking_and_a_file_becomes_the_dockerfile(
    app: LamellaApp, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (context / "deeper").mkdir()
    (context / "deeper" / "web.dockerfile").write_text("FROM debian:bookworm\n")
    monkeypatch.chdir(context)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("b")
        await settled(pilot)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(app.screen, FilePicker))
        await settled(pilot)
        await pilot.press("enter")  # the directory
        await settled(pilot)
        await pilot.press("enter")  # the file
        await settled(pilot)
        form = app.screen
        assert isinstance(form, BuildFormScreen)
        assert form.query_one("#field-context", Input).value == str(context / "deeper")
        assert form.query_one("#field-dockerfile", Input).value == "web.dockerfile"
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildScreen))
        await settled(pilot)
        assert "FROM debian:bookworm" in screen_text(app)


async def test_what_a_step_writes_is_folded_below_it_and_shown_by_a_key(
    app: LamellaApp, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        assert "│ one two" not in screen_text(app)
        await pilot.press("g", "j", "space")
        await settled(pilot)
        assert "│ one two" in screen_text(app)
        assert "▾ 2/4" in screen_text(app)
        await pilot.press("space")
        await settled(pilot)
        assert "│ one two" not in screen_text(app)
        await pilot.press("z")
        await settled(pilot)
        assert "│ one two" in screen_text(app)
        assert "│ three" in screen_text(app)


async def test_files_of_a_step_are_walked_while_the_build_still_runs(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE + "WAIT\nRUN echo four\n")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        hold(engine, "step")
        screen = await build(pilot, app, context, "web:built")
        for _ in range(2):
            await wait_until(pilot, lambda: "step" in engine.gates)
            await _let_one_pass(pilot, app, engine, screen)
        assert screen.job.is_running
        await pilot.press("g", "j")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, StepFilesScreen))
        await wait_until(pilot, lambda: "by-step-2" in screen_text(app))
        assert "What step 2/5 has changed" in screen_text(app)
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, FileViewScreen))
        assert screen.job.is_running
        release(app, engine, "step")
        await ended(pilot, screen)


async def _let_one_pass(
    pilot: Pilot[None], app: LamellaApp, engine: FakeEngine, screen: BuildScreen
) -> None:
    """Have the fake do one step, and wait before the next."""

    def made() -> int:
        return sum(step.state is BuildStepState.DONE for step in screen.job.model.steps)

    before = made()
    gate = engine.gates["step"]
    loop = app.bridge._loop
    assert loop is not None

    def turn() -> None:
        engine.gates["step"] = asyncio.Event()
        gate.set()

    loop.call_soon_threadsafe(turn)
    await wait_until(pilot, lambda: made() > before)


async def test_a_failed_step_is_under_the_cursor_with_its_log_and_its_way_out(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    (context / "Dockerfile").write_text("FROM debian:bookworm\nRUN exit 3\nRUN echo never\n")
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        text = screen_text(app)
        assert "x failed" in text
        assert "- skipped" in text
        assert "exit code: 3" in text
        assert "e opens a shell in what it has left" in text
        step = screen.steps.current
        assert step is not None
        assert screen.steps.row_key(step) == "step 1"


async def test_one_key_opens_a_shell_in_a_failed_step(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    from tui.screens.terminal import TerminalScreen

    (context / "Dockerfile").write_text("FROM debian:bookworm\nRUN exit 3\n")
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        await pilot.press("e")
        await wait_until(pilot, lambda: isinstance(app.screen, TerminalScreen))
        progress = screen.job.model.progress
        assert progress is not None
        await wait_until(
            pilot,
            lambda: any(
                one.summary.image_id == progress.failed_image_id
                for one in engine.containers.values()
            ),
        )
        assert "failed step 2/2" in screen_text(app)


async def test_a_build_goes_on_behind_other_screens_and_its_end_is_told(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        hold(engine, "build")
        screen = await build(pilot, app, context, "web:built")
        await wait_until(pilot, lambda: "4/4" in screen_text(app))
        await pilot.press("q")
        await wait_until(pilot, lambda: app.screen is app.dashboard)
        assert "1 building (6)" in screen_text(app)
        release(app, engine, "build")
        await ended(pilot, screen)
        assert "Built web:built in " in told(app)
        assert "building (6)" not in screen_text(app)


async def test_cancelling_asks_first_and_says_what_is_lost(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        hold(engine, "step")
        screen = await build(pilot, app, context, "web:built")
        await wait_until(pilot, lambda: "4/4" in screen_text(app))
        await pilot.press("x")
        await wait_until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "stay in the cache" in screen_text(app)
        await pilot.press("y")
        await ended(pilot, screen)
        await wait_until(pilot, lambda: "! cancelled" in screen_text(app))
        assert "- skipped" in screen_text(app)
        assert screen.job.model.status is BuildStatus.CANCELLED


async def test_quitting_says_which_builds_would_be_cancelled(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        hold(engine, "build")
        screen = await build(pilot, app, context, "web:built")
        await pilot.press("q", "q")
        await wait_until(pilot, lambda: isinstance(app.screen, QuitScreen))
        assert "Building web:built" in screen_text(app)
        await pilot.press("n")
        release(app, engine, "build")
        await ended(pilot, screen)


async def test_a_change_of_the_context_builds_again_once_the_build_before_has_ended(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        hold(engine, "build")
        screen = await build(pilot, app, context, "web:built")
        first = screen.job
        await pilot.press("w")
        await wait_until(pilot, lambda: "watching (w)" in screen_text(app))
        assert engine.watched_since == first.model.progress.started_at
        loop = app.bridge._loop
        assert loop is not None
        for paths in (("app/a.py",), ("app/b.py", "app/c.py")):
            loop.call_soon_threadsafe(engine.context_changes.put_nowait, paths)
        await wait_until(pilot, engine.context_changes.empty)
        assert screen.job is first
        release(app, engine, "build")
        await wait_until(pilot, lambda: screen.job is not first)
        await ended(pilot, screen)
        assert "app/a.py, app/b.py and 1 more changed" in screen_text(app)
        assert len(app.dashboard.build_jobs) == 2
        await pilot.press("w")
        await settled(pilot)
        assert "watching" not in screen_text(app).splitlines()[0]


async def test_ended_builds_stay_in_a_list_with_what_became_of_them(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        (context / "Dockerfile").write_text("FROM debian:bookworm\nRUN exit 3\n")
        await pilot.press("r")
        await ended(pilot, screen)
        await pilot.press("q", "6")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildsScreen))
        await settled(pilot)
        text = screen_text(app)
        assert "Builds  2" in text
        assert "x failed" in text
        assert "+ done" in text
        await pilot.press("G", "enter")
        await settled(pilot)
        assert isinstance(app.screen, BuildScreen)
        assert "4/4 RUN echo three" in screen_text(app)


async def test_a_build_that_another_process_has_made_can_be_looked_at(
    app: LamellaApp, engine: FakeEngine, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        app.dashboard.build_jobs.clear()
        await pilot.press("q", "6", "enter")
        await settled(pilot)
        assert isinstance(app.screen, BuildScreen)
        assert "4/4 RUN echo three" in screen_text(app)
        await pilot.press("r")
        await settled(pilot)
        assert "is not known here" in told(app)


async def test_the_whole_log_of_a_step_is_shown_and_searched(
    app: LamellaApp, context: Path
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        await pilot.press("g", "j", "l")
        await wait_until(pilot, lambda: isinstance(app.screen, StepLogScreen))
        await wait_until(pilot, lambda: "one two" in screen_text(app))
        await pilot.press("slash", *"two", "enter")
        await settled(pilot)
        assert "search two" in screen_text(app)


async def test_the_graph_shows_a_lane_for_each_stage_and_leads_to_steps(
    app: LamellaApp, context: Path
) -> None:
    (context / "Dockerfile").write_text(
        "FROM debian:bookworm AS tools\nRUN echo tools\n"
        "FROM debian:bookworm\nRUN echo base\nCOPY --from=tools /a /a\n"
    )
    async with app.run_test(size=NARROW) as pilot:
        screen = await build(pilot, app, context, "web:built")
        await ended(pilot, screen)
        assert not screen.graph.display
        await pilot.press("tab")
        await settled(pilot)
        assert screen.graph.display
        lanes = [line for line in screen_text(app).splitlines() if "[+]" in line]
        assert len(lanes) == 2
        assert "╮" in lanes[0]
        assert "╰" in lanes[1] or "┴" in lanes[1]
        await pilot.press("j", "enter")
        await settled(pilot)
        assert screen.steps.has_focus
        row = screen.steps.current
        assert row is not None
        assert screen.steps.row_key(row) == "step 4"


async def test_intermediate_images_are_shown_by_a_key(app: LamellaApp, engine: FakeEngine) -> None:
    image_id = engine.add_image("")
    image = engine.images[image_id]
    summary = replace(image.summary, is_intermediate=True)
    engine.images[image_id] = replace(image, summary=summary)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert "<none>" not in screen_text(app)
        await pilot.press("A")
        await settled(pilot)
        assert "<none>" in screen_text(app)
        assert "with intermediate images" in screen_text(app)
        await pilot.press("A")
        await settled(pilot)
        assert "<none>" not in screen_text(app)
