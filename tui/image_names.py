"""Names of images as people type them, taken apart; the engine says whether they are any."""

from __future__ import annotations

import re

# What cannot be taken for a repository with a tag, as `debian:12` is.
_HOST_WITH_PORT = re.compile(
    r"(?:localhost|\[[0-9a-f:.]+\]|[a-z0-9-]+(?:\.[a-z0-9-]+)+):\d{1,5}", re.IGNORECASE | re.ASCII
)


def is_registry(text: str) -> bool:
    """Whether it is a registry alone, by its host and its port."""
    return _HOST_WITH_PORT.fullmatch(text) is not None


def repository_of(name: str) -> str:
    """The name without its tag and its digest: `localhost:5000/web:1` is `localhost:5000/web`."""
    without_digest = name.partition("@")[0]
    last = without_digest.rpartition("/")[2]
    if ":" not in last:
        return without_digest
    return without_digest[: -len(last.partition(":")[2]) - 1]


def with_tag(repository: str, tag: str) -> str:
    """The image that a tag of a repository is."""
    return f"{repository_of(repository)}:{tag}"
