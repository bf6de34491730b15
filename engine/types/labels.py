"""Labels, and what a filter means by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def matches_labels(labels: Iterable[tuple[str, str]], filters: Iterable[str]) -> bool:
    """Whether labels have all that the filters ask for.

    A filter is `key` or `key=value`; with a `!` before it the label must be missing.
    """
    found = dict(labels)
    return all(
        _has_label(found, wanted.removeprefix("!")) is not wanted.startswith("!")
        for wanted in filters
    )


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return key in labels and (not has_value or labels[key] == value)
