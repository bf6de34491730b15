"""The command over a fake engine: what it is asked for, and what is said."""

import pytest

from tests.fakes import FakeEngine
from tui.__main__ import main


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def lamella(engine, capfd):
    """Runs the command; its exit status, standard output and standard error."""

    def call(*words):
        code = main(words, opener=lambda **_directories: engine.opened())
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def builds_asked_for(engine, monkeypatch):
    """The requests to build that reach the engine."""
    requests = []
    build = engine.build_image

    async def note(request, **options):
        requests.append(request)
        return await build(request, **options)

    monkeypatch.setattr(engine, "build_image", note)
    return requests
