"""Every test here is on the machine of a world of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.worlds import World, opened_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# By itself, so that it is there before an engine is opened and until that is closed.
@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("only root can make network namespaces without a user namespace")
    with opened_world(tmp_path) as opened:
        yield opened
