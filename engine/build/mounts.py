"""`RUN --mount`: what is there only while one step runs."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.build.spans import Word

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
          "rw": "readwrite"}  # fmt: skip
_KEYS = (
    "type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id",
    "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
_BARE_KEYS = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s?([kmgtp]?)(i?b?)", re.IGNORECASE)
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(?=,|$)')
_LARGEST_MODE = 0o7777
_LARGEST_ID = 2**32 - 1


class MountError(ValueError):
    """A mount that means nothing; `expected` is what would have been right."""

    def __init__(self, reason: str, *, expected: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class MountField:
    """`key=value` of a mount.

    Attributes:
        key: In small letters, `src` and its like by their whole names.
        value: May have variables; None when there is no equals sign.
    """

    key: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountFlag:
    """A mount as it was written.

    Attributes:
        source_stage: What `from` says: a stage, a named context or an image; empty without it.
    """

    word: Word
    fields: tuple[MountField, ...]
    source_stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMount:
    """A mount whose variables have their values.

    Attributes:
        kind: `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
        source_stage: A stage, a named context or an image; empty for the build's context.
        source: Path in that, or a secret's id.
        target: As it was written: relative ones stand below the working directory.
        identifier: A cache's, secret's or agent's; empty without one.
        sharing: Of a cache: `shared`, `private` or `locked`.
        size_bytes: Of a tmpfs; 0 without a limit.
        environment: A secret's: the variable that holds it; empty without one.
        mode: None for the kind's own.
    """

    kind: str
    source_stage: str
    source: str
    target: str
    identifier: str
    is_read_only: bool
    is_required: bool
    sharing: str
    size_bytes: int
    environment: str
    mode: int | None
    user: int | None
    group: int | None


def read_mount(word: Word) -> MountFlag:
    """Divide a mount into its fields.

    A mount without variables is known to be right then.

    Raises:
        MountError: It has no fields, a key is unknown, or `from` has a variable.
    """
    fields: list[MountField] = []
    for text in _comma_separated(word.text):
        written, equals, value = text.partition("=")
        key = _NAMES.get(written.lower(), written.lower())
        if not equals and key not in _BARE_KEYS:
            raise MountError(
                f"invalid field '{text}' must be a key=value pair", expected=f"{text}=VALUE"
            )
        if key not in _KEYS:
            raise MountError(
                f"unexpected key '{written}' in '{text}'{_guess(key, _KEYS)}",
                expected=f"one of {', '.join(_KEYS)}",
            )
        if key == "from" and re.search(r"\$.", value):
            raise MountError(
                "'from' doesn't support variable expansion, define alias stage instead",
                expected="the name of a stage that is FROM that image",
            )
        fields.append(MountField(key=key, value=value if equals else None))
    stages = [field.value for field in fields if field.key == "from" and field.value]
    flag = MountFlag(word=word, fields=tuple(fields), source_stage=stages[-1] if stages else "")
    if not any("$" in (field.value or "") for field in fields):
        resolve_mount(flag, lambda text: text)
    return flag


def _comma_separated(text: str) -> list[str]:
    """Divide at commas that are not between double quotes (RFC 4180)."""
    values: list[str] = []
    position = 0
    while position <= len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise MountError(
                f"failed to parse csv mounts: {text}",
                expected='quotes around a whole field, as in type=cache,"target=/a,b"',
            )
        quoted, plain = match.groups()
        values.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end() + 1
    return values


def resolve_mount(flag: MountFlag, expand: Callable[[str], str]) -> RunMount:
    """Give a mount's variables their values.

    Args:
        flag: The mount.
        expand: What a value comes to.

    Raises:
        MountError: A value is not one that its key can have, or keys do not go together.
    """
    values: dict[str, str] = {}
    kind = "bind"
    is_read_only: bool | None = None
    is_required = False
    for field in flag.fields:
        value = None if field.value is None else expand(field.value)
        if field.key == "type":
            kind = (value or "").lower()
            if kind not in KINDS:
                raise MountError(
                    f'unsupported mount type "{value}"{_guess(kind, KINDS)}',
                    expected=f"one of {', '.join(KINDS)}",
                )
        elif field.key == "readonly":
            is_read_only = _boolean(field.key, value)
        elif field.key == "readwrite":
            is_read_only = not _boolean(field.key, value)
        elif field.key == "required":
            _allow(field.key, kind, "secret", "ssh")
            is_required = _boolean(field.key, value)
        else:
            if field.key == "size":
                _allow(field.key, kind, "tmpfs")
            values[field.key] = value or ""
    mount = RunMount(
        kind=kind,
        source_stage=values.get("from", ""),
        source=values.get("source", ""),
        target=values.get("target", ""),
        identifier=values.get("id", ""),
        is_read_only=kind not in ("cache", "tmpfs") if is_read_only is None else is_read_only,
        is_required=is_required,
        sharing=_sharing(values.get("sharing", "")),
        size_bytes=_size_bytes(values["size"]) if "size" in values else 0,
        environment=values.get("env", ""),
        mode=_number("mode", values.get("mode"), base=8, largest=_LARGEST_MODE),
        user=_number("uid", values.get("uid"), base=10, largest=_LARGEST_ID),
        group=_number("gid", values.get("gid"), base=10, largest=_LARGEST_ID),
    )
    _check_together(mount)
    return mount


def _check_together(mount: RunMount) -> None:
    if mount.kind in ("bind", "tmpfs"):
        for name, value in (("mode", mount.mode), ("uid", mount.user), ("gid", mount.group)):
            if value is not None:
                raise MountError(
                    f'{name} not allowed for "{mount.kind}" type mounts',
                    expected=f"no {name}, or a mount of type cache, secret or ssh",
                )
    if mount.sharing and mount.kind != "cache":
        raise MountError(f"invalid cache sharing set for {mount.kind} mount", expected="type=cache")
    if mount.kind == "secret":
        if mount.source_stage:
            raise MountError("secret mount should not have a from", expected="no from")
        if mount.source and mount.identifier:
            raise MountError("both source and id can't be set", expected="one of them")
        if not (mount.source or mount.target or mount.identifier):
            raise MountError(
                "invalid secret mount. one of source, target required", expected="id=NAME"
            )
    elif mount.environment:
        raise MountError(
            f"unexpected key 'env' for mount type '{mount.kind}'", expected="type=secret"
        )
    if mount.kind in ("bind", "cache", "tmpfs"):
        if not mount.target:
            raise MountError("mount target is required", expected="target=PATH")
        if mount.target.strip("/") in ("", "."):
            # What would be mounted over everything cannot be below it at the same time.
            raise MountError(f'invalid mount target "{mount.target}"', expected="a path below /")


def _allow(key: str, kind: str, *kinds: str) -> None:
    if kind not in kinds:
        raise MountError(
            f"unexpected key '{key}' for mount type '{kind}'",
            expected=f"type={' or type='.join(kinds)} before it",
        )


def _sharing(text: str) -> str:
    sharing = text.lower()
    if sharing and sharing not in SHARINGS:
        raise MountError(
            f'unsupported sharing value "{text}"{_guess(sharing, SHARINGS)}',
            expected=f"one of {', '.join(SHARINGS)}",
        )
    return sharing


def _boolean(key: str, value: str | None) -> bool:
    if value is None or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise MountError(f"invalid value for {key}: {value}", expected="true or false")


def _number(key: str, text: str | None, *, base: int, largest: int) -> int | None:
    if text is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not text or text.strip(digits) or int(text, base) > largest:
        raise MountError(
            f"invalid value {text} for {key}",
            expected="an octal number such as 0755" if base == 8 else "a number",
        )
    return int(text, base)


def _size_bytes(text: str) -> int:
    """As go-units reads a size of memory: `64m`, `1.5g`, 1024 of each in the next."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise MountError(f"invalid value for size: {text}", expected="a size such as 64m")
    exponent = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**exponent)


def _guess(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
