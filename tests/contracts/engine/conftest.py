"""The engines that keep the contract."""

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from tests.fakes import FakeEngine

IMAGE = "starter:latest"


@pytest.fixture(params=["real", "fake"])
async def any_engine(request, tmp_path, starter_store):
    """An empty store, or one with the starter image if the test asks for `image`."""
    has_image = "image" in request.fixturenames
    if request.param == "fake":
        fake = FakeEngine()
        if has_image:
            await fake.make_starter_image()
        yield fake
        return
    config = EngineConfig(root=tmp_path / "store", run=tmp_path / "store" / "run")
    if has_image:
        starter_store.copy_to(config.root)
    async with Engine.open(config) as engine:
        yield engine


@pytest.fixture
def image(any_engine):
    """The name of the starter image, which the engine has."""
    del any_engine
    return IMAGE
