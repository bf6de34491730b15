"""The times that a build writes: the same for the same files, whenever it is done."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.types import BuildRequest

_ARGUMENT = "SOURCE_DATE_EPOCH"
_MOST_BYTES = 1 << 20
_OBJECT = re.compile(rb"[0-9a-f]{40}")
_COMMITTER = re.compile(rb"^committer [^\n]* ([0-9]{1,12}) [+-][0-9]{4}$", re.MULTILINE)


DEFAULT_EPOCH_SECONDS = 315_532_800
"""The beginning of 1980: what zip, and with it Python's wheels, can say at the earliest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTimes:
    """The times of one build; None is for times as they happen.

    Attributes:
        latest_seconds: No file of a layer is younger. It does not follow the commits of a context:
            a step would be another one after each of them.
        created_seconds: When the image was made, as it says itself.
    """

    latest_seconds: int | None
    created_seconds: int | None


def build_times(request: BuildRequest) -> BuildTimes:
    """The times of a build. Blocking.

    What the request says, then the argument SOURCE_DATE_EPOCH, and else 1980, which is also when
    the image was made unless the context has a commit that can be read without git.
    """
    if request.keeps_times:
        return BuildTimes(latest_seconds=None, created_seconds=None)
    epoch = request.epoch_seconds
    argument = dict(request.arguments).get(_ARGUMENT, "")
    if epoch is None and argument.isascii() and argument.isdigit():
        epoch = int(argument)
    if epoch is not None:
        return BuildTimes(latest_seconds=epoch, created_seconds=epoch)
    created = None
    if isinstance(request.context, Path):
        created = _commit_time(request.context / ".git")
    return BuildTimes(
        latest_seconds=DEFAULT_EPOCH_SECONDS, created_seconds=created or DEFAULT_EPOCH_SECONDS
    )


def _commit_time(repository: Path) -> int | None:
    """When HEAD was committed, of a repository that has it as a loose object."""
    try:
        head = _read(repository / "HEAD").strip()
        if head.startswith(b"ref: "):
            reference = os.fsdecode(head.removeprefix(b"ref: "))
            if not reference.startswith("refs/") or ".." in reference:
                return None
            head = _read(repository / reference).strip()
        if not _OBJECT.fullmatch(head):
            return None
        name = head.decode()
        packed = _read(repository / "objects" / name[:2] / name[2:])
        content = zlib.decompressobj().decompress(packed, _MOST_BYTES)
    except (OSError, zlib.error):
        return None
    header, _, commit = content.partition(b"\0")
    if not header.startswith(b"commit "):
        return None
    found = _COMMITTER.search(commit.partition(b"\n\n")[0])
    return int(found[1]) if found else None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)
