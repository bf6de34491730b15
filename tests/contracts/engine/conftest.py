"""The engines that keep the contract."""

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from tests.fakes import FakeEngine


@pytest.fixture(params=["real", "fake"])
async def any_engine(request, tmp_path):
    if request.param == "fake":
        yield FakeEngine()
        return
    config = EngineConfig(root=tmp_path / "store", run=tmp_path / "store" / "run")
    async with Engine.open(config) as engine:
        yield engine
