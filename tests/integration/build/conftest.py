from __future__ import annotations

from tests.integration.images.corpus import debian_corpus

__all__ = ["debian_corpus"]
