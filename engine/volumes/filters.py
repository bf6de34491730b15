"""Which volumes a filter means."""

from __future__ import annotations


def matches_labels(labels: tuple[tuple[str, str], ...], filters: tuple[str, ...]) -> bool:
    """Whether labels have all that the filters ask for.

    A filter is `key` or `key=value`; with a `!` before it the label must be missing.
    """
    return all(
        _has_label(labels, wanted.removeprefix("!")) is not wanted.startswith("!")
        for wanted in filters
    )


def _has_label(labels: tuple[tuple[str, str], ...], wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return any(name == key and (not has_value or text == value) for name, text in labels)
