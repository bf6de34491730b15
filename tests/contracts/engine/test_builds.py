"""Builds: what every engine that builds keeps to."""

import asyncio

import pytest

from engine.errors import BuildNotFoundError, BuildStepError, EngineError
from engine.types import (
    BuildCacheFilter,
    BuildChanged,
    BuildOutput,
    BuildRequest,
    BuildStatus,
    BuildStepState,
    CacheOutcome,
    CacheReasonKind,
)


@pytest.fixture
def builder(any_engine, image):
    """An engine that has the starter image."""
    del image
    return any_engine


def request_of(*lines, **options):
    return BuildRequest(dockerfile_content="\n".join(lines).encode() + b"\n", **options)


async def test_a_built_image_has_its_names_and_can_be_looked_at(builder):
    built = await builder.build_image(
        request_of("FROM starter:latest", "RUN echo hello", names=("web", "web:2"))
    )

    assert built.names == ("web:latest", "web:2")
    for name in built.names:
        assert (await builder.inspect_image(name)).summary.image_id == built.image_id
    assert built.step_count == 2


async def test_a_build_tells_what_there_is_to_do_first(builder):
    heard = []
    await builder.build_image(
        request_of("FROM starter:latest AS base", "RUN echo one", "FROM base", "RUN echo two"),
        listener=heard.append,
    )

    first = heard[0]
    assert isinstance(first, BuildChanged)
    assert [stage.base for stage in first.progress.stages] == ["starter:latest", "base"]
    assert first.progress.stages[1].depends_on == (0,)
    assert [(one.number, one.count) for one in first.progress.steps] == [
        (1, 2), (2, 2), (1, 2), (2, 2),
    ]  # fmt: skip
    last = heard[-1]
    assert last.progress.status is BuildStatus.DONE
    assert all(one.state.is_final for one in last.progress.steps)


async def test_output_comes_with_its_step(builder):
    heard = []
    built = await builder.build_image(
        request_of("FROM starter:latest", "RUN echo hello"), listener=heard.append
    )

    output = [event for event in heard if isinstance(event, BuildOutput)]
    assert b"".join(event.data for event in output) == b"hello\n"
    assert {event.position for event in output} == {1}
    assert await builder.read_step_log(built.build_id, 1) == b"hello\n"


async def test_the_second_build_is_all_cache_and_the_same_image(builder):
    request = request_of("FROM starter:latest", "RUN echo hello")
    first = await builder.build_image(request)
    heard = []
    second = await builder.build_image(request, listener=heard.append)

    assert (first.cached_count, second.cached_count) == (0, 1)
    step = heard[-1].progress.steps[1]
    assert step.state is BuildStepState.CACHED
    assert step.cache.outcome is CacheOutcome.HIT


async def test_a_step_without_an_earlier_one_says_so(builder):
    heard = []
    await builder.build_image(
        request_of("FROM starter:latest", "RUN echo hello"), listener=heard.append
    )

    verdict = heard[-1].progress.steps[1].cache
    assert verdict.outcome is CacheOutcome.MISS
    assert verdict.reasons[0].kind is CacheReasonKind.FIRST_BUILD


async def test_a_build_that_wants_no_cache_runs_everything(builder):
    lines = ("FROM starter:latest", "RUN echo hello")
    await builder.build_image(request_of(*lines))
    heard = []
    built = await builder.build_image(request_of(*lines, uses_cache=False), listener=heard.append)

    assert built.cached_count == 0
    assert heard[-1].progress.steps[1].cache.outcome is CacheOutcome.UNUSED


async def test_a_step_that_fails_ends_the_build_with_its_place_and_its_code(builder):
    heard = []
    with pytest.raises(BuildStepError) as caught:
        await builder.build_image(
            request_of("FROM starter:latest", "RUN exit 3", "RUN echo never", names=("web",)),
            listener=heard.append,
        )

    assert (caught.value.line, caught.value.step_exit_code) == (2, 3)
    states = [one.state for one in heard[-1].progress.steps]
    assert states[1:] == [BuildStepState.FAILED, BuildStepState.SKIPPED]
    assert heard[-1].progress.status is BuildStatus.FAILED
    assert not [image for image in await builder.list_images() if "web:latest" in image.names]


async def test_what_a_failed_step_has_written_is_kept_if_asked_for(builder):
    with pytest.raises(BuildStepError) as caught:
        await builder.build_image(
            request_of("FROM starter:latest", "RUN exit 3", keeps_failed_step=True)
        )

    assert caught.value.failed_image_id in {image.image_id for image in await builder.list_images()}


async def test_a_dockerfile_that_is_none_is_refused_before_anything_runs(builder):
    with pytest.raises(EngineError):
        await builder.build_image(request_of("RUN echo hello"))
    with pytest.raises(EngineError):
        await builder.build_image(request_of(""))


async def test_a_plan_runs_nothing(builder):
    plan = await builder.plan_build(request_of("FROM starter:latest", "RUN exit 3"))

    assert [step.state for step in plan.steps] == [BuildStepState.QUEUED] * 2
    assert await builder.list_builds() == ()


async def test_builds_are_listed_newest_first_and_by_name(builder):
    for name in ("web", "app"):
        await builder.build_image(request_of("FROM starter:latest", names=(name,)))

    assert [one.names for one in await builder.list_builds()] == [("app:latest",), ("web:latest",)]
    assert [one.names for one in await builder.list_builds("web:latest")] == [("web:latest",)]


async def test_the_files_of_a_step_can_be_looked_at(builder):
    built = await builder.build_image(
        request_of("FROM starter:latest", "RUN echo hello > /greeting")
    )

    tree = await builder.list_step_files(built.build_id, 1)
    assert tree.entries
    content = await builder.read_step_file(built.build_id, 1, tree.entries[-1].path)
    assert content.content


async def test_an_image_can_be_made_of_a_finished_step(builder):
    built = await builder.build_image(
        request_of("FROM starter:latest", "RUN echo one > /one", "RUN echo two > /two")
    )

    image_id = await builder.make_step_image(built.build_id, 1)
    assert (await builder.inspect_image(image_id)).summary.names == ()


async def test_what_was_never_built_is_not_found(builder):
    built = await builder.build_image(request_of("FROM starter:latest"))

    with pytest.raises(BuildNotFoundError):
        await builder.read_step_log("0" * 32, 0)
    with pytest.raises(BuildNotFoundError):
        await builder.list_step_files(built.build_id, 7)
    with pytest.raises(BuildNotFoundError):
        async for _events in builder.follow_build("0" * 32):
            pass


async def test_who_follows_a_build_hears_until_its_end(builder):
    heard = []
    begun = asyncio.Event()

    def listen(event):
        heard.append(event)
        begun.set()

    building = asyncio.create_task(
        builder.build_image(request_of("FROM starter:latest", "RUN echo hello"), listener=listen)
    )
    await begun.wait()
    build_id = heard[0].progress.build_id
    told = [event async for events in builder.follow_build(build_id) for event in events]
    await building

    assert isinstance(told[0], BuildChanged)
    wholes = [event for event in told if isinstance(event, BuildChanged)]
    assert wholes[-1].progress.status is BuildStatus.DONE


async def test_the_cache_lists_what_was_run_and_forgets_it_when_pruned(builder):
    request = request_of("FROM starter:latest", "RUN echo one > /one", "RUN echo two > /two")
    await builder.build_image(request)

    entries = await builder.list_build_cache()
    assert sorted(entry.text for entry in entries) == [
        "RUN echo one > /one", "RUN echo two > /two",
    ]  # fmt: skip
    pruned = await builder.prune_build_cache(BuildCacheFilter(includes_shared=True))
    assert set(pruned.entry_ids) == {entry.entry_id for entry in entries}
    assert await builder.list_build_cache() == ()
    assert (await builder.build_image(request)).cached_count == 0


async def test_what_there_was_after_each_step_is_an_image_for_who_asks(builder):
    await builder.build_image(
        request_of(
            "FROM starter:latest", "RUN echo one > /one", "RUN echo two > /two", names=("web",)
        )
    )
    before = await builder.list_images()
    assert not any(image.is_intermediate for image in before)

    await builder.record_intermediate_images()
    await builder.record_intermediate_images()

    new = [image for image in await builder.list_images() if image.is_intermediate]
    assert len(new) == 1
    assert new[0].names == ()
    assert len(await builder.list_images()) == len(before) + 1
