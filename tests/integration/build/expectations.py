"""What a case says of its image, held against the image."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.dockerfile_cases import Case, Table
    from tests.integration.build.image_contents import Entry, ImageContents


def unmet(case: Case, image: ImageContents) -> list[str]:
    """What a case says of its image that is not so."""
    found: list[str] = []
    for path, expected in case.expect.items():
        entry = image.files.get(path)
        if expected.get("absent"):
            if entry is not None:
                found.append(f"{path} is there")
        elif entry is None:
            found.append(f"{path} is not there")
        else:
            found += _unmet_fields(path, entry, expected)
    for name, value in case.configuration.items():
        if image.configuration.get(name) != value:
            found.append(f"{name}: {image.configuration.get(name)!r}, expected {value!r}")
    return found


def _unmet_fields(path: str, entry: Entry, expected: Table) -> list[str]:
    facts = asdict(entry)
    return [
        f"{path}: {name} {facts[name]!r}, expected {value!r}"
        for name, value in expected.items()
        if facts[name] != value
    ]
