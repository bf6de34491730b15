"""Digests: the names of content. Nothing becomes part of a path before it passed through here."""

from __future__ import annotations

import hashlib
import re

from engine.errors import InvalidInputError
from engine.types import Digest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX = "sha256:"


def is_digest(text: str) -> bool:
    """Whether the text is `sha256:` and 64 lower-case hexadecimal digits, and nothing else."""
    return _DIGEST.fullmatch(text) is not None


def require_digest(text: str) -> Digest:
    """Check a digest that came from outside.

    Raises:
        InvalidInputError: It is malformed, or of an algorithm other than sha256, the one that
            every registry and tool must have (OCI image-spec, descriptor.md).
    """
    if not is_digest(text):
        shown = text if len(text) <= 100 else f"{text[:100]}…"
        raise InvalidInputError(f"not a sha256 digest: {shown!r}")
    return Digest(text)


def digest_hex(digest: str) -> str:
    """The 64 digits of a digest, fit for a file name.

    Raises:
        InvalidInputError: It is not a sha256 digest.
    """
    return require_digest(digest)[len(_PREFIX) :]


def digest_of(content: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest(_PREFIX + hashlib.sha256(content).hexdigest())
