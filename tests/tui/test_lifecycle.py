"""Health, restarts and want of memory on screen, and changing a container that exists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.types import (
    ContainerHealth,
    ContainerStatus,
    HealthCheck,
    HealthProbe,
    ResourceLimits,
    RestartPolicy,
)
from tests.tui.conftest import screen_text, settled, wait_until

if TYPE_CHECKING:
    from tests.fakes import FakeEngine
    from tui.app import LamellaApp


def health(status: str, exit_code: int, output: str = "") -> ContainerHealth:
    probe = HealthProbe(started_at=1e9, finished_at=1e9, exit_code=exit_code, output=output)
    return ContainerHealth(status=status, failing_streak=exit_code, probes=(probe,))


async def test_health_is_shown_as_it_turns(app: LamellaApp, engine: FakeEngine) -> None:
    container = engine._find("web-1")
    container.health_check = HealthCheck(
        command=("CMD-SHELL", "curl localhost"), interval_seconds=30, timeout_seconds=5, retries=3
    )

    async def turn(found: ContainerHealth) -> None:
        async def run(_engine: object) -> None:
            engine.set_health("web-1", found)

        await app.bridge.call(run)

    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "i")
        await turn(health("healthy", 0))
        await wait_until(pilot, lambda: "Healthy" in screen_text(app))
        await turn(health("unhealthy", 4, "no\x1b[31m answer\n"))
        await wait_until(pilot, lambda: "Unhealthy" in screen_text(app))
        await wait_until(pilot, lambda: "4 in a row" in screen_text(app))
        shown = screen_text(app)
        assert "curl localhost" in shown
        assert "4  no answer" in shown


async def test_restarts_and_want_of_memory_are_shown(app: LamellaApp, engine: FakeEngine) -> None:
    container = engine._find("web-1")
    container.summary = replace(
        container.summary,
        status=ContainerStatus.RESTARTING,
        exit_code=137,
        is_out_of_memory_killed=True,
        restart_count=7,
    )
    container.request = replace(container.request, restart_policy=RestartPolicy(name="always"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "i")
        await wait_until(pilot, lambda: "7 times" in screen_text(app))
        shown = screen_text(app)
        assert "Restarting (137) OOM" in shown
        assert "always" in shown
        assert "out of memory" in shown


async def test_the_form_changes_what_was_changed_in_it(app: LamellaApp, engine: FakeEngine) -> None:
    container = engine._find("web-1")
    limits = ResourceLimits(memory_bytes=64 << 20, cpu_count=1.5, pids=9)
    container.request = replace(container.request, limits=limits)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await pilot.press("3", "u")
        await wait_until(pilot, lambda: "Change web-1" in screen_text(app))
        assert "64m" in screen_text(app)
        # Memory to 5m: too little. Then 50m, processors to none, and a restart policy.
        await pilot.press("home", "ctrl+k", *"5m", "enter")
        await settled(pilot)
        assert "Memory: at least 6m" in screen_text(app)
        await pilot.press("left", "0", "tab", "home", "ctrl+k", "tab", "tab")
        await pilot.press("home", "ctrl+k", *"sometimes", "enter")
        await settled(pilot)
        assert "Restart: no, always" in screen_text(app)
        await pilot.press("home", "ctrl+k", *"on-failure:2", "enter")
        await wait_until(pilot, lambda: bool(engine.calls))
        await settled(pilot)
    assert engine.calls == [("update", "web-1")]
    changed = container.request
    assert changed.limits == ResourceLimits(memory_bytes=50 << 20, cpu_count=None, pids=9)
    assert changed.restart_policy == RestartPolicy(name="on-failure", maximum_retry_count=2)


async def test_a_form_without_changes_changes_nothing(app: LamellaApp, engine: FakeEngine) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("3", "u")
        await wait_until(pilot, lambda: "Change web-1" in screen_text(app))
        await pilot.press("enter")
        await settled(pilot)
        assert "Change web-1" not in screen_text(app)
    assert engine.calls == []
