from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.images.corpus import debian_corpus, nasty_corpus
from tests.integration.images.loading import Store

__all__ = ["debian_corpus", "nasty_corpus"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
