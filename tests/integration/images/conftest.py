from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.images.corpus import debian_corpus, nasty_corpus
from tests.integration.images.loading import Store
from tests.integration.images.stacks import many_corpus, multi_corpus, odd_corpus

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["debian_corpus", "many_corpus", "multi_corpus", "nasty_corpus", "odd_corpus"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
