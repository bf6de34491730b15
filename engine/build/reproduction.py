"""Which files a step writes differently each time, when all that it is made of is the same."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.errors import StoreError
from engine.snapshots.base import INDEX_NAME
from engine.snapshots.index import is_same, read_index

if TYPE_CHECKING:
    from pathlib import Path

    from engine.snapshots.index import LayerEntry

_SHOWN_PATHS = 5


def differences(before: Path, now: Path) -> tuple[str, ...]:
    """What makes two layers of one step differ, as a warning; blocking. Nothing if that is gone.

    Args:
        before: Directory of the layer that it made before.
        now: Of the one that it has made now.
    """
    with contextlib.suppress(StoreError, FileNotFoundError):
        old, new = _entries(before), _entries(now)
        paths = [
            path
            for path in sorted(old.keys() | new.keys())
            if path not in old or path not in new or not _is_alike(old[path], new[path])
        ]
        if paths:
            shown = ", ".join(f"/{os.fsdecode(path)}" for path in paths[:_SHOWN_PATHS])
            more = len(paths) - _SHOWN_PATHS
            return (f"not reproducible: {shown}" + (f" and {more} more" if more > 0 else ""),)
    return ()


def _entries(layer: Path) -> dict[bytes, LayerEntry]:
    return {entry.path: entry for entry in read_index(str(layer / INDEX_NAME)).entries}


def _is_alike(old: LayerEntry, new: LayerEntry) -> bool:
    return is_same(old, new) and old.mtime_ns == new.mtime_ns
