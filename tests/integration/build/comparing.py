"""Two images of one Dockerfile, compared: what differs and was not announced."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tests.dockerfile_cases import general_differences
from tests.integration.build.image_contents import History, ImageContents

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dockerfile_cases import Case, Difference, GeneralDifference
    from tests.integration.build.image_contents import Entry

_MADE_BY_TOOLS = {"io.buildah.version"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of a comparison."""

    unexpected: list[str] = field(default_factory=list)
    """What differs, and what was to differ and does not."""
    met: set[str] = field(default_factory=set)
    """Which general differences it met."""


def compare(
    ours: ImageContents | str,
    theirs: ImageContents | str,
    differences: list[Difference],
    general: list[GeneralDifference],
) -> Comparison:
    """Compare files and configuration."""
    if any(each.outcome for each in differences):
        same = isinstance(ours, str) == isinstance(theirs, str)
        return Comparison(unexpected=["one was to succeed and the other not"] if same else [])
    if isinstance(ours, str) and isinstance(theirs, str):
        return Comparison()
    if isinstance(ours, str):
        return Comparison(unexpected=[f"ours fails: {ours}"])
    if isinstance(theirs, str):
        return Comparison(unexpected=[f"theirs fails: {theirs[-600:]}"])
    files = _different_files(ours, theirs)
    announced = {name for each in differences for name in (*each.paths, *each.configuration)}
    met: set[str] = set()
    for each in general:
        for path in each.added:
            if path in theirs.files and path not in ours.files and path not in announced:
                del files[path]
                met.add(each.name)
    found = files | _different_configurations(ours, theirs)
    return Comparison(
        unexpected=[
            *(text for name, text in sorted(found.items()) if name not in announced),
            *(f"{name} was to differ" for name in sorted(announced - found.keys())),
        ],
        met=met,
    )


def _different_files(ours: ImageContents, theirs: ImageContents) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in ours.files.keys() | theirs.files.keys():
        mine, other = ours.files.get(path), theirs.files.get(path)
        if mine is None or other is None:
            found[path] = f"{path}: only in {'theirs' if mine is None else 'ours'}"
        elif mine != other:
            found[path] = f"{path}: {_different_fields(mine, other)}"
    return found


def _different_fields(mine: Entry, other: Entry) -> str:
    theirs = asdict(other)
    return ", ".join(
        f"{name} {value!r}, theirs {theirs[name]!r}"
        for name, value in asdict(mine).items()
        if value != theirs[name]
    )


def _different_configurations(ours: ImageContents, theirs: ImageContents) -> dict[str, str]:
    mine, other = _plain(ours.configuration), _plain(theirs.configuration)
    return {
        name: f"{name}: {mine.get(name)!r}, theirs {other.get(name)!r}"
        for name in mine.keys() | other.keys()
        if mine.get(name) != other.get(name)
    }


def _plain(configuration: dict[str, object]) -> dict[str, object]:
    """Without what says nothing, or who made it."""
    plain = dict(configuration)
    if plain.get("WorkingDir") == "/":
        del plain["WorkingDir"]
    labels = plain.get("Labels")
    if isinstance(labels, dict):
        kept = {name: value for name, value in labels.items() if name not in _MADE_BY_TOOLS}
        plain["Labels"] = kept
        if not kept:
            del plain["Labels"]
    return plain


def compare_histories(
    ours: list[History],
    theirs: list[History],
    differences: list[Difference],
    general: list[GeneralDifference],
) -> Comparison:
    """Compare the lines of two histories."""
    met: set[str] = set()
    for each in general:
        changed = ours, theirs
        if each.keeps_empty_layers:
            changed = _without_empty_layers(ours, theirs)
        elif each.is_of_history:
            change = _OLDER_TEXTS[each.name]
            changed = (
                [_older(line, change) for line in ours],
                [_older(line, change) for line in theirs],
            )
        if changed != (ours, theirs):
            met.add(each.name)
            ours, theirs = changed
    same = ours == theirs
    unexpected: list[str] = []
    if any(each.history for each in differences):
        unexpected = ["the history was to differ"] if same else []
    elif not same:
        unexpected = ["ours:", *map(repr, ours), "theirs:", *map(repr, theirs)]
    return Comparison(unexpected=unexpected, met=met)


def _without_empty_layers(
    ours: list[History], theirs: list[History]
) -> tuple[list[History], list[History]]:
    """Let lines whose layer is empty there be as here, where there is none."""
    if len(ours) != len(theirs):
        return ours, theirs
    return ours, [
        mine if mine == replace(other, is_empty=True) else other
        for mine, other in zip(ours, theirs, strict=True)
    ]


def _older(line: History, change: Callable[[str], str]) -> History:
    return replace(line, created_by=change(line.created_by))


def _without_flags(text: str) -> str:
    if not text.startswith(("COPY ", "ADD ")):
        return text
    return re.sub(r" --(chown|chmod)=\S+", "", text)


def _ports_as_a_map(text: str) -> str:
    ports = re.fullmatch(r"EXPOSE \[(.*)\]", text)
    if ports is None:
        return text
    return f"EXPOSE map[{' '.join(f'{port}:{{}}' for port in ports[1].split())}]"


def _health_check_unsaid(text: str) -> str:
    return text.partition(" ")[0] if text.startswith("HEALTHCHECK ") else text


_OLDER_TEXTS = {
    "history-says-flags": _without_flags,
    "history-lists-ports": _ports_as_a_map,
    "history-says-health-checks": _health_check_unsaid,
}
"""How an older BuildKit writes lines; its health checks cannot be told from their text."""


def compare_case(
    case: Case, builder: str, ours: ImageContents | str, theirs: ImageContents | str
) -> Comparison:
    """Two images of a case; histories too, where they are to be the same to the letter."""
    general, named = general_differences(builder), case.of(builder)
    found = compare(ours, theirs, named, general)
    if (
        builder == "docker"
        and isinstance(ours, ImageContents)
        and isinstance(theirs, ImageContents)
    ):
        lines = compare_histories(ours.history, theirs.history, named, general)
        return Comparison(unexpected=found.unexpected + lines.unexpected, met=found.met | lines.met)
    return found


def without_contents(image: ImageContents, paths: frozenset[str]) -> ImageContents:
    """An image in which nobody looks into some files; that they are there still counts."""
    return replace(
        image,
        files={
            path: replace(entry, digest="", text="") if path in paths else entry
            for path, entry in image.files.items()
        },
    )
