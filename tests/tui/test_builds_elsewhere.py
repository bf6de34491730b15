"""Builds of other applications in the list of builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.build.progress import BuildState
from engine.build.written_builds import KILLED
from engine.types import BuildStage, BuildStatus, BuildStep, BuildStepState, ignore_build
from tests.tui.builds import WIDE
from tests.tui.conftest import screen_text, settled, wait_until
from tests.tui.notices import told
from tui.screens.build import BuildScreen
from tui.screens.builds import BuildsScreen

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


def started_elsewhere(engine: FakeEngine, *, is_killed: bool = False) -> BuildState:
    """A build that the application has not asked for: it runs, or was killed."""
    other = BuildState(
        build_id="0" * 32,
        names=("web:elsewhere",),
        dockerfile="Dockerfile",
        target="",
        listener=ignore_build,
    )
    state = BuildStepState.CANCELLED if is_killed else BuildStepState.RUNNING
    step = BuildStep(
        position=0, stage=0, number=1, count=1, instruction="RUN", text="RUN make", line=2,
        end_line=2, state=state, error=KILLED if is_killed else "",
    )  # fmt: skip
    stage = BuildStage(
        position=0, number=0, name="", base="debian", depends_on=(), steps=(step.position,)
    )
    other.plan(stages=(stage,), steps=(step,))
    if is_killed:
        other.end(BuildStatus.FAILED, error=KILLED)
    engine.builds[other.build_id] = other
    return other


async def test_a_build_of_another_application_is_followed_in_the_list(
    app: LamellaApp, engine: FakeEngine
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("6")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildsScreen))
        await settled(pilot)
        assert "web:elsewhere" not in screen_text(app)
        other = started_elsewhere(engine)
        await wait_until(pilot, lambda: "web:elsewhere" in screen_text(app))
        assert "running" in screen_text(app)
        await pilot.press("x")
        await wait_until(pilot, lambda: "It runs in another application" in told(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildScreen))
        await settled(pilot)
        assert "> running     1/1 RUN make" in screen_text(app)
        other.finish(0)
        await wait_until(pilot, lambda: "+ done        1/1 RUN make" in screen_text(app))
        other.end(BuildStatus.DONE)
        await wait_until(pilot, lambda: "+ done  " in screen_text(app).splitlines()[1])
        await pilot.press("q")
        await wait_until(pilot, lambda: "+ done        web:elsewhere" in screen_text(app))


async def test_a_build_that_was_killed_elsewhere_says_so_and_what_to_do(
    app: LamellaApp, engine: FakeEngine
) -> None:
    started_elsewhere(engine, is_killed=True)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("6")
        await wait_until(pilot, lambda: "web:elsewhere" in screen_text(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, BuildScreen))
        await settled(pilot)
        text = screen_text(app)

        assert "the application that it ran in was killed" in text
        assert "build it again: what was done is in the cache" in text
        assert "opens a shell" not in text
