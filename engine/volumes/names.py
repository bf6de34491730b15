"""Names of volumes."""

from __future__ import annotations

import os
import re

from engine.errors import InvalidInputError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LONGEST_NAME = 255  # what a file system takes


def check_volume_name(name: str) -> None:
    """Refuse what cannot be the name of a volume; the texts are Docker's.

    Raises:
        InvalidInputError: It has characters that it may not have, or too few or too many.
    """
    if len(name) == 1:
        raise InvalidInputError(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) > _LONGEST_NAME:
        raise InvalidInputError(
            f"create {name[:20]}...: volume name is too long, at most {_LONGEST_NAME} characters"
        )


def draw_volume_name() -> str:
    """A name for an anonymous volume: 64 hexadecimal digits, as Docker has it."""
    return os.urandom(32).hex()
