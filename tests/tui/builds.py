"""Builds for tests of screens: one in the middle of its way, and how one is begun by keyboard."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.types import (
    BuildChanged,
    BuildOutput,
    BuildProgress,
    BuildRequest,
    BuildStage,
    BuildStatus,
    BuildStep,
    BuildStepState,
    BuildWarning,
    CacheOutcome,
    CacheReason,
    CacheReasonKind,
    CacheVerdict,
    ChainId,
    OutputStream,
)
from tests.tui.conftest import settled, wait_until
from tui.builds.funnel import BuildNews
from tui.builds.model import BuildModel
from tui.screens.build import BuildScreen
from tui.screens.build_form import BuildFormScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tui.app import LamellaApp

WIDE, NARROW, SMALLEST = (120, 40), (80, 24), (60, 16)
S = BuildStepState

HIT = CacheVerdict(outcome=CacheOutcome.HIT)
CHANGED = CacheVerdict(
    outcome=CacheOutcome.MISS,
    reasons=(
        CacheReason(
            kind=CacheReasonKind.FILE,
            subject="src/app.py",
            text="src/app.py has another content",
        ),
        CacheReason(kind=CacheReasonKind.FILE, subject="new.txt", text="new.txt was not there"),
    ),
    reason_count=14,
)

# Stage, instruction, state, seconds, bytes, verdict
STEPS: tuple[tuple[int, str, BuildStepState, float, int, CacheVerdict | None], ...] = (
    (0, "FROM debian:bookworm AS tools", S.DONE, 0.0, 0, None),
    (0, "RUN apt-get update && apt-get install --yes gcc make", S.CACHED, 0.0, 214_000_000, HIT),
    (0, "COPY src /src", S.DONE, 0.3, 1_240_000, CHANGED),
    (0, "RUN make -C /src install DESTDIR=/out", S.RUNNING, 0.0, 0, CHANGED),
    (1, "FROM node:22 AS assets", S.DONE, 0.0, 0, None),
    (1, "COPY package.json package-lock.json /web/", S.CACHED, 0.0, 312_000, HIT),
    (1, "RUN npm ci --omit=dev", S.RUNNING, 0.0, 0, CHANGED),
    (2, "FROM debian:bookworm", S.DONE, 0.0, 0, None),
    (2, "RUN apt-get update && apt-get install --yes nginx", S.DONE, 12.4, 61_300_000, CHANGED),
    (2, "WORKDIR /srv/app", S.QUEUED, 0.0, 0, None),
    (2, "COPY --from=tools /out /", S.QUEUED, 0.0, 0, None),
    (2, "COPY --from=assets /web /srv/web", S.QUEUED, 0.0, 0, None),
)
STAGES = (("tools", "debian:bookworm"), ("assets", "node:22"), ("", "debian:bookworm"))
WAITS = {10: (3,), 11: (6,)}


def sample_progress(*, now: float | None = None) -> BuildProgress:
    """Three stages; two steps run, and the last two wait for them."""
    now = time.time() if now is None else now
    stages = tuple(
        BuildStage(
            position=number,
            number=number,
            name=name,
            base=base,
            depends_on=(0, 1) if number == 2 else (),
            steps=tuple(n for n, step in enumerate(STEPS) if step[0] == number),
        )
        for number, (name, base) in enumerate(STAGES)
    )
    steps = tuple(
        BuildStep(
            position=position,
            stage=stage,
            number=stages[stage].steps.index(position) + 1,
            count=len(stages[stage].steps),
            instruction=text.split()[0],
            text=text,
            line=position * 2 + 1,
            end_line=position * 2 + 1 + ("&&" in text),
            depends_on=(
                *((position - 1,) if position != stages[stage].steps[0] else ()),
                *WAITS.get(position, ()),
            ),
            state=state,
            started_at=None if state is S.QUEUED else now - 20 + (state is S.RUNNING) * 13,
            ended_at=now - 20 + seconds if state in (S.DONE, S.CACHED) else None,
            cache=verdict,
            size_bytes=size_bytes,
            entry_count=size_bytes // 9_000,
            chain_id=ChainId(f"sha256:{position:064x}") if state is S.DONE else None,
        )
        for position, (stage, text, state, seconds, size_bytes, verdict) in enumerate(STEPS)
    )
    warning = BuildWarning(
        rule="LegacyKeyValueFormat",
        text='"ENV key=value" should be used instead of legacy "ENV key value" format',
        line=4,
        column=1,
        source="ENV MODE production",
    )
    return BuildProgress(
        build_id="5" * 32,
        names=("shop/web:1.4",),
        dockerfile="Dockerfile",
        target="",
        status=BuildStatus.RUNNING,
        started_at=now - 20,
        stages=stages,
        steps=steps,
        warnings=(warning,),
    )


LOGS: dict[int, tuple[tuple[OutputStream, bytes], ...]] = {
    3: (
        (OutputStream.STDOUT, b"make: Entering directory '/src'\n"),
        (OutputStream.STDOUT, b"gcc -O2 -Wall -c -o main.o main.c\n"),
        (
            OutputStream.STDERR,
            b"main.c:42:9: \x1b[01;35mwarning:\x1b[0m unused variable 'count' [-Wunused]\n",
        ),
        (OutputStream.STDOUT, b"gcc -O2 -Wall -c -o serve.o serve.c\n"),
    ),
    6: (
        (OutputStream.STDERR, b"npm warn deprecated inflight@1.0.6: this module leaks memory\n"),
        (OutputStream.STDOUT, b"[###.......] 31 %\r[#####.....] 52 %\r[#######...] 74 %"),
    ),
}


def sample_news(progress: BuildProgress) -> BuildNews:
    output = tuple(
        BuildOutput(position=position, stream=stream, data=data, time=progress.started_at)
        for position, parts in LOGS.items()
        for stream, data in parts
        if progress.steps[position].state is not S.QUEUED
    )
    return BuildNews(whole=BuildChanged(progress=progress), steps=(), output=output, lost_bytes={})


def earlier(progress: BuildProgress) -> BuildProgress:
    """The build of the same name before: done, with a smaller nginx and a larger copy."""
    sizes = {2: 1_300_000, 8: 49_200_000}
    steps = tuple(
        replace(
            step,
            state=S.DONE,
            started_at=progress.started_at - 7_200,
            ended_at=progress.started_at - 7_190,
            size_bytes=sizes.get(step.position, step.size_bytes),
        )
        for step in progress.steps
    )
    return replace(
        progress,
        build_id="4" * 32,
        status=BuildStatus.DONE,
        started_at=progress.started_at - 7_200,
        ended_at=progress.started_at - 7_100,
        steps=steps,
    )


def sample_model() -> BuildModel:
    """A build in the middle of its way, with one before it."""
    progress = sample_progress()
    model = BuildModel(BuildRequest(context=Path("/srv/shop"), names=progress.names))
    model.compare_with(earlier(progress))
    model.take(sample_news(progress))
    return model


async def build(pilot: Pilot[None], app: LamellaApp, context: Path, names: str) -> BuildScreen:
    """Fill the form in by keyboard; returns when the build is on the screen."""
    await settled(pilot)
    await pilot.press("b")
    await wait_until(pilot, lambda: isinstance(app.screen, BuildFormScreen))
    form = app.screen
    form.query_one("#field-context").value = str(context)  # type: ignore[attr-defined]
    form.query_one("#field-names").value = names  # type: ignore[attr-defined]
    await pilot.press("enter")
    await wait_until(pilot, lambda: isinstance(app.screen, BuildScreen))
    screen = app.screen
    assert isinstance(screen, BuildScreen)
    return screen
