"""`--chmod`: an octal number, or the symbolic form of chmod(1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import BuildCopyError

if TYPE_CHECKING:
    from collections.abc import Callable

_OCTAL = re.compile(r"[0-7]{1,5}", re.ASCII)
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", re.ASCII)
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])", re.ASCII)
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SET_ID = {"u": 0o4000, "g": 0o2000, "o": 0}
_STICKY = 0o1000


class _Action(NamedTuple):
    classes: str
    operator: str
    permissions: str


def parse_mode(text: str) -> Callable[[int, bool], int]:
    """Read a mode; what is returned makes a new mode of an old one and whether it is a directory's.

    Raises:
        BuildCopyError: It is neither an octal number up to 7777 nor symbolic.
    """
    if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
        number = int(text, 8)
        return lambda _mode, _is_directory: number
    actions = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise BuildCopyError(
                f"invalid chmod parameter: {text!r}",
                hint="It is an octal number up to 07777, or as chmod(1) has it: u=rwX,go=rX",
            )
        # No umask: without a letter everybody is meant.
        classes = "ugo" if not match[1] or "a" in match[1] else match[1]
        actions += [_Action(classes, *action) for action in _ACTION.findall(match[2])]

    def change(mode: int, is_directory: bool) -> int:  # noqa: FBT001 - as it is declared
        for action in actions:
            mode = _apply(action, mode, is_directory=is_directory)
        return mode

    return change


def _apply(action: _Action, mode: int, *, is_directory: bool) -> int:
    changed = cleared = 0
    for letter in action.classes:
        shift = _SHIFTS[letter]
        cleared |= 0o7 << shift | _SET_ID[letter]
        changed |= _bits(action.permissions, mode, is_directory=is_directory) << shift
        if "s" in action.permissions:
            changed |= _SET_ID[letter]
    if "t" in action.permissions:
        changed |= _STICKY
    if action.operator == "-":
        return mode & ~changed
    if action.operator == "=":
        # chmod(1): `=` leaves a directory's set-id bits alone.
        mode &= ~(cleared & (0o777 if is_directory else 0o7777))
    return mode | changed


def _bits(permissions: str, mode: int, *, is_directory: bool) -> int:
    """Read, write and execute of one class."""
    if permissions in _SHIFTS and permissions:
        return mode >> _SHIFTS[permissions] & 0o7
    bits = 0
    for permission in permissions:
        bits |= _BITS.get(permission, 0)
    if "X" in permissions and (is_directory or mode & 0o111):
        bits |= 0o1
    return bits
