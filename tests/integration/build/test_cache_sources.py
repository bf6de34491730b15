"""`--cache-from`: the layers of an image, on a store that never built it."""

from __future__ import annotations

import os

import pytest

from engine.api import open_engine
from engine.types import BuildRequest, BuildStepState
from tests.integration.build.base_images import write_base_images

_TEXT = (
    "FROM localhost/base\nARG V=1\nLABEL made=once\nCOPY needs /needs\nENV E=$V\n"
    "RUN cat /needs > /made && cat /proc/sys/kernel/random/uuid >> /made\n"
    "WORKDIR /srv/app\nCOPY code /code\nRUN cat /code > /copy\nCMD true\n"
)
CACHED, DONE = BuildStepState.CACHED, BuildStepState.DONE


@pytest.fixture
def context(tmp_path):
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "needs").write_text("needs\n")
    (directory / "code").write_text("code\n")
    return directory


@pytest.fixture
async def base_images(tmp_path):
    write_base_images(tmp_path / "bases.tar")
    return tmp_path / "bases.tar"


@pytest.fixture
async def built_elsewhere(base_images, context, store_paths, tmp_path):
    """An archive of an image that another store has built."""
    archive = tmp_path / "built.tar"
    top = store_paths.root.parent / "other"
    async with open_engine(root=top / "root", run=top / "run") as other:
        await other.load_images(base_images)
        request = BuildRequest(
            dockerfile_content=_TEXT.encode(), context=context, names=("ci",), network="none"
        )
        await other.build_image(request)
        await other.save_images(["ci"], archive)
    return archive


@pytest.fixture(autouse=True)
async def loaded(engine, built_elsewhere, base_images):
    await engine.load_images(base_images)
    await engine.load_images(built_elsewhere)


async def states_of(engine, text, context, **options):
    heard = []
    options.setdefault("cache_sources", ("ci",))
    built = await engine.build_image(
        BuildRequest(dockerfile_content=text.encode(), context=context, network="none", **options),
        listener=heard.append,
    )
    steps = heard[-1].progress.steps
    return built, [step.state for step in steps if step.instruction != "FROM"]


async def test_a_build_with_its_own_image_is_all_cache_and_gives_that_image(engine, context):
    for name in ("needs", "code"):
        os.utime(context / name, (1, 1))
    built, states = await states_of(engine, _TEXT, context)

    assert states == [CACHED] * 5
    assert built.image_id == (await engine.inspect_image("ci")).summary.image_id


async def test_a_changed_file_is_copied_and_what_stands_on_it_is_run(engine, context):
    (context / "code").write_text("other code\n")
    built, states = await states_of(engine, _TEXT, context)

    assert states == [CACHED, CACHED, CACHED, DONE, DONE]
    position = len((await engine.inspect_image(built.image_id)).layers) - 2
    copied = await engine.read_layer_file(built.image_id, position, "copy")
    assert copied.content == b"other code\n"


@pytest.mark.parametrize(
    "text",
    [
        _TEXT.replace("cat /needs", "cat  /needs"),
        _TEXT.replace("ENV E=$V", "ENV E=other"),
        _TEXT.replace("ENV E=$V", 'SHELL ["/bin/sh", "-ec"]'),
        _TEXT.replace("RUN cat /needs", "RUN --network=none cat /needs"),
        _TEXT.replace("RUN cat /needs", "RUN --mount=target=/context cat /needs"),
    ],
)
async def test_a_step_that_may_have_made_other_files_is_run(engine, context, text):
    _built, states = await states_of(engine, text, context)

    assert states[:2] == [CACHED, DONE]


async def test_another_argument_is_another_step(engine, context):
    _built, states = await states_of(engine, _TEXT, context, arguments=(("V", "2"),))

    assert states[:2] == [CACHED, DONE]


async def test_a_label_or_command_that_no_program_sees_makes_no_difference(engine, context):
    text = _TEXT.replace("made=once", "made=twice").replace("CMD true", "CMD false\nEXPOSE 80")
    _built, states = await states_of(engine, text, context)

    assert states == [CACHED] * 5


async def test_what_was_taken_serves_no_build_that_does_not_name_the_image(engine, context):
    await states_of(engine, _TEXT, context)
    _built, states = await states_of(engine, _TEXT, context, cache_sources=())

    assert states[1] is DONE


async def test_no_cache_asks_no_image(engine, context):
    _built, states = await states_of(engine, _TEXT, context, uses_cache=False)

    assert states == [DONE] * 5


async def test_an_image_on_another_base_gives_nothing(engine, context):
    text = _TEXT.replace("localhost/base", "localhost/bare")
    _built, states = await states_of(engine, text, context)

    assert CACHED not in states


async def test_an_image_that_cannot_be_had_is_a_warning(engine, context):
    built, states = await states_of(
        engine, _TEXT, context, cache_sources=("127.0.0.1:9/nowhere", "ci")
    )

    assert states == [CACHED] * 5
    (warning,) = [one for one in built.warnings if not one.rule]
    assert "127.0.0.1:9/nowhere" in warning.text
