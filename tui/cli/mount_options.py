"""`-v`, `--mount`, `--tmpfs` and `--volumes-from` of `run` and `create`; the texts are Docker's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.types import MountRequest
from tui.cli import values
from tui.cli.options import Option

if TYPE_CHECKING:
    from tui.cli.options import Arguments

OPTIONS = (
    Option("volume", "v", "[SOURCE:]TARGET[:OPTIONS]", "Mount a volume or a directory", True),
    Option(
        "mount", "", "TYPE=…,SRC=…,DST=…", "Mount a volume, a path of the host or a tmpfs", True
    ),
    Option("tmpfs", "", "TARGET[:OPTIONS]", "Mount a tmpfs, such as /tmp:size=64m,mode=1777", True),
    Option("volumes-from", "", "CONTAINER[:ro]", "Mount what another container has", True),
)
_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_FIELDS = (
    "type", "source", "target", "bind-propagation", "bind-recursive", "volume-label",
    "volume-subpath", "tmpfs-size", "tmpfs-mode",
)  # fmt: skip
_SWITCHES = ("readonly", "bind-nonrecursive", "volume-nocopy")
_OTHER_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_BOOLEANS = {"1": "true", "true": "true", "0": "false", "false": "false"}


def mounts(arguments: Arguments) -> tuple[MountRequest, ...]:
    """Read what is to be mounted.

    Raises:
        InvalidInputError: An option has a form that there is not.
    """
    return (
        *(read_volume(text) for text in arguments.texts("volume")),
        *(read_mount(text) for text in arguments.texts("mount")),
        *(_read_tmpfs(text) for text in arguments.texts("tmpfs")),
    )


def read_volume(text: str) -> MountRequest:
    """Read `-v`: `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.

    A source with a slash at its beginning, or a dot, is a path of the host; else a volume.
    """
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidInputError(
            f"invalid volume specification: '{text}'",
            hint="Write TARGET, VOLUME:TARGET or /HOST/PATH:TARGET, and :ro behind it",
        )
    if len(parts) == 1:
        return MountRequest(kind="volume", source="", target=parts[0])
    source, target, options = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if len(parts) == 2 and target in {"ro", "rw"}:
        raise InvalidInputError(
            f"invalid volume specification: '{text}'",
            hint=f"Write VOLUME:{source}:{target}: only with a source there are options",
        )
    if len(parts) == 3 and not options:
        raise InvalidInputError(f"invalid volume specification: '{text}'")
    if source.startswith("."):
        source = os.path.abspath(source)
    is_bind = source.startswith("/")
    propagation, is_read_only, has_copy = _read_options(options, is_bind=is_bind)
    return MountRequest(
        kind="bind" if is_bind else "volume",
        source=source,
        target=target,
        is_read_only=is_read_only,
        propagation=propagation,
        makes_source=is_bind,
        has_copy=has_copy,
    )


def _read_options(text: str, *, is_bind: bool) -> tuple[str, bool, bool]:
    """Propagation, whether it is read-only, and whether a volume is filled."""
    propagation = mode = copy = ""
    for word in text.split(",") if text else ():
        if word in {"ro", "rw"} and not mode:
            mode = word
        elif word in _PROPAGATIONS and is_bind and not propagation:
            propagation = word
        elif word == "nocopy" and not is_bind and not copy:
            copy = word
        else:
            raise InvalidInputError(f"invalid mode: {text}", hint=_mode_hint(word, is_bind=is_bind))
    return propagation, mode == "ro", not copy


def _mode_hint(word: str, *, is_bind: bool) -> str:
    if word in {"z", "Z"}:
        return "Files get no SELinux labels here: leave z and Z out"
    known = ("ro", "rw", *_PROPAGATIONS) if is_bind else ("ro", "rw", "nocopy")
    return f"Behind the target: {', '.join(known)}, each kind once"


def _read_tmpfs(text: str) -> MountRequest:
    target, _, options = text.partition(":")
    return MountRequest(
        kind="tmpfs",
        source="",
        target=target,
        tmpfs_options=tuple(options.split(",")) if options else (),
    )


def read_mount(text: str) -> MountRequest:
    """Read `--mount`: fields with commas between them."""
    if not text:
        raise InvalidInputError("value is empty", hint="Write type=bind,src=/HOST,dst=/PATH")
    found = _read_fields(text)

    def last(name: str) -> str:
        return found.get(name, [""])[-1]

    def is_on(name: str) -> bool:
        return last(name) == "true"

    kind = (last("type") or "volume").lower()
    for name in found:
        owner, dash, _ = name.partition("-")
        if dash and owner != kind:
            raise InvalidInputError(
                f"cannot mix '{owner}-*' options with mount type '{kind}'",
                hint=f"Leave {name} out",
            )
    if not last("target"):
        raise InvalidInputError("target is required", hint="Add target=/PATH")
    source = last("source")
    recursion = last("bind-recursive") or ("disabled" if is_on("bind-nonrecursive") else "enabled")
    return MountRequest(
        kind=kind,
        source=os.path.abspath(source) if source.startswith(".") else source,
        target=last("target"),
        is_read_only=is_on("readonly"),
        propagation=last("bind-propagation").lower(),
        recursion=recursion,
        has_copy=not is_on("volume-nocopy"),
        subpath=last("volume-subpath"),
        volume_labels=values.labels(tuple(found.get("volume-label", ()))),
        tmpfs_options=(
            *(
                f"size={values.size_bytes('tmpfs-size', size)}"
                for size in found.get("tmpfs-size", ())
            ),
            *(f"mode={mode}" for mode in found.get("tmpfs-mode", ())),
        ),
    )


def _read_fields(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field in _split(text):
        key, has_value, value = field.partition("=")
        key = key.strip().lower()
        name = _OTHER_NAMES.get(key, key)
        if name in _SWITCHES:
            if has_value and value not in _BOOLEANS:
                raise InvalidInputError(f"invalid value for {key}: {value}", hint="true or false")
            found.setdefault(name, []).append(_BOOLEANS[value] if has_value else "true")
        elif not has_value:
            raise InvalidInputError(f"invalid field '{field}' must be a key=value pair")
        elif name in _FIELDS:
            found.setdefault(name, []).append(value)
        else:
            raise InvalidInputError(
                f"unexpected key '{key}' in '{field}'",
                hint=f"Known are {', '.join((*_FIELDS, *_SWITCHES))}",
            )
    return found


def _split(text: str) -> list[str]:
    """Split as CSV has it: a field in double quotes may hold commas."""
    import csv

    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise InvalidInputError(f"invalid mount: {text}: {error}") from None
    return fields
