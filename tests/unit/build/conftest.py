import os

import pytest

from tests.unit.build.layers import make_layer


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def lower(tmp_path):
    """A layer below, to be filled."""
    layer = make_layer(tmp_path / "lower")
    (layer / "diff").chmod(0o755)
    return layer


@pytest.fixture
def layer(tmp_path):
    return tmp_path / "layer"


@pytest.fixture(autouse=True)
def _plain_modes():
    umask = os.umask(0o022)
    yield
    os.umask(umask)
