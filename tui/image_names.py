"""Names of images as people type them, taken apart; the engine says whether they are any."""

from __future__ import annotations


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
