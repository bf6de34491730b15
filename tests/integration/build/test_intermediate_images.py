"""`images -a`: what there was after each step of a build."""

from __future__ import annotations

import json

import pytest

from engine.types import BuildRequest
from tests.command_line import CommandLine

pytestmark = pytest.mark.usefixtures("starter_image")

_TEXT = (
    "FROM starter\nENV A=1\nRUN echo one > /one\nRUN echo two > /two\nLABEL a=b\n"
    "RUN echo three > /three\nCMD true\n"
)


async def test_each_step_is_an_image_that_can_be_run_and_goes_with_the_last_one(
    engine, store_paths
):
    await engine.build_image(
        BuildRequest(dockerfile_content=_TEXT.encode(), names=("web",), network="none")
    )
    lamella = CommandLine(store_paths)
    before = set(lamella.text("images", "-q").split())
    after = set(lamella.text("images", "-aq").split())

    assert len(after - before) == 2
    assert set(lamella.text("images", "-q").split()) == before
    assert "<none>" in lamella.text("images", "-a")
    found = {}
    for image in after - before:
        details = await engine.inspect_image(image)
        document = json.loads(details.config_json)
        history = document["history"]
        found[history[-1]["created_by"]] = image
        layers = sum(not one.get("empty_layer", False) for one in history)
        assert layers == len(document["rootfs"]["diff_ids"])
    assert sorted(found) == [
        "RUN /bin/sh -c echo one > /one # buildkit",
        "RUN /bin/sh -c echo two > /two # buildkit",
    ]
    first = found["RUN /bin/sh -c echo one > /one # buildkit"]
    said = lamella.text("run", "--rm", first, "/bin/sh", "-c", "cat /one; ls /two || true")
    assert said.startswith("one\n")

    lamella.text("rmi", "web")
    assert not (after - before) & set(lamella.text("images", "-aq").split())
