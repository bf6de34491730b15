"""What a build tells its listener and whoever watches it."""

import asyncio

import pytest

from engine.build import progress
from engine.build.progress import BuildState
from engine.types import (
    BuildChanged,
    BuildOutput,
    BuildStage,
    BuildStatus,
    BuildStep,
    BuildStepChanged,
    BuildStepState,
    OutputStream,
)


def step(position):
    return BuildStep(
        position=position, stage=0, number=position + 1, count=2, instruction="RUN",
        text="RUN true", line=position + 1, end_line=position + 1,
    )  # fmt: skip


def new_build(listener=lambda _event: None):
    build = BuildState(
        build_id="b" * 32, names=("web:latest",), dockerfile="Dockerfile", target="",
        listener=listener,
    )  # fmt: skip
    stage = BuildStage(position=0, number=0, name="", base="scratch", depends_on=(), steps=(0, 1))
    build.plan(stages=(stage,), steps=(step(0), step(1)))
    return build


def test_a_listener_hears_of_the_plan_and_of_every_change():
    heard = []
    build = new_build(heard.append)

    build.begin(0)
    build.write(0, OutputStream.STDOUT, b"hello\n")
    build.finish(0, size_bytes=3)

    assert [type(event) for event in heard] == [
        BuildChanged, BuildStepChanged, BuildOutput, BuildStepChanged,
    ]  # fmt: skip
    assert heard[-1].step.state is BuildStepState.DONE
    assert heard[-1].step.size_bytes == 3
    assert heard[-1].step.seconds >= 0


def test_the_end_of_a_build_is_that_of_every_step():
    build = new_build()
    build.begin(0)

    build.end(BuildStatus.CANCELLED)

    states = [one.state for one in build.progress.steps]
    assert states == [BuildStepState.CANCELLED, BuildStepState.SKIPPED]


def test_a_failed_step_stays_what_it_is_when_the_build_ends():
    build = new_build()
    build.begin(0)
    build.fail(0, error="it did not work", exit_code=3)

    build.end(BuildStatus.FAILED, error="it did not work")

    failed = build.progress.steps[0]
    assert (failed.state, failed.exit_code) == (BuildStepState.FAILED, 3)


async def test_who_comes_late_sees_everything():
    build = new_build()
    build.begin(0)
    build.write(0, OutputStream.STDOUT, b"one\n")
    build.write(0, OutputStream.STDERR, b"two\n")
    build.finish(0)

    events = build.follow()
    first = await anext(events)

    assert first[0].progress.steps[0].state is BuildStepState.DONE
    assert [event.data for event in first[1:]] == [b"one\n", b"two\n"]
    await events.aclose()


async def test_what_happens_while_the_first_events_are_looked_at_is_not_missed():
    build = new_build()
    events = build.follow()
    await anext(events)

    build.write(0, OutputStream.STDOUT, b"later\n")
    build.begin(0)
    build.finish(0)

    told = await anext(events)
    assert told[0].data == b"later\n"
    # Only the last state of a step counts.
    assert [event.step.state for event in told[1:]] == [BuildStepState.DONE]
    await events.aclose()


async def test_following_ends_with_the_build():
    build = new_build()
    seen = []

    async def watch():
        async for events in build.follow():
            seen.extend(events)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    build.end(BuildStatus.DONE)
    await asyncio.wait_for(watching, 5)

    assert seen[-1].progress.status is BuildStatus.DONE


async def test_a_build_that_has_ended_can_still_be_followed():
    build = new_build()
    build.end(BuildStatus.DONE)

    told = [event async for events in build.follow() for event in events]

    assert told[-1].progress.status is BuildStatus.DONE


async def test_a_watcher_that_does_not_look_keeps_little(monkeypatch):
    monkeypatch.setattr(progress, "_MAXIMUM_QUEUED_BYTES", 100)
    build = new_build()
    events = build.follow()
    await anext(events)

    for number in range(1000):
        build.write(0, OutputStream.STDOUT, b"%09d\n" % number)

    told = await anext(events)
    assert sum(len(event.data) for event in told) <= 100
    assert told[-1].data == b"000000999\n"
    assert len(build.log(0).read()) == 10_000
    await events.aclose()


@pytest.mark.parametrize("size", [1, 7])
def test_a_log_that_grows_without_end_keeps_its_end(monkeypatch, size):
    monkeypatch.setattr(progress, "MAXIMUM_LOG_BYTES", 100)
    build = new_build()

    for number in range(200):
        build.write(0, OutputStream.STDOUT, b"%d" % (number % 10) * size)

    log = build.log(0)
    assert len(log.read()) <= 100
    assert log.read().endswith(b"9" * size)
    assert log.dropped_bytes + len(log.read()) == 200 * size
