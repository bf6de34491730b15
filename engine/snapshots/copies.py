"""What both sides of a copy do: the name on the way, and receiving."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from engine.errors import ArchiveError
from engine.snapshots.destinations import open_destination
from engine.snapshots.tar import TarKind
from engine.snapshots.tree_extraction import TreeExtractor

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.snapshots.destinations import PathOpener
    from engine.snapshots.tar import TarReader
    from engine.snapshots.tree_extraction import ExtractionPolicy

TOP_NAME = b"top"
"""What the copied thing is called on its way between the two sides."""


def name_in_archive(path: bytes) -> bytes:
    """What a path is called in the archive that is made of it: its last name."""
    stripped = path.rstrip(b"/")
    name = stripped.rpartition(b"/")[2]
    return b"." if name in {b"", b".", b".."} else name


def receive(
    reader: TarReader,
    paths: PathOpener,
    path: bytes,
    policy: ExtractionPolicy,
    *,
    source_name: bytes,
    copies_content: bool,
    on_entry: Callable[[], None],
) -> TreeExtractor:
    """Extract what the other side packed as TOP_NAME, where Docker's rules put it; blocking."""
    entries = iter(reader)
    first = next(entries, None)
    if first is None:
        raise ArchiveError(policy.label, "it is empty")
    destination = open_destination(
        paths,
        path,
        is_directory=first.kind is TarKind.DIRECTORY,
        source_name=source_name,
        copies_content=copies_content,
    )
    try:

        def rename(name: bytes) -> bytes:
            _top, _, below = name.partition(b"/")
            return b"/".join(part for part in (destination.name, below) if part)

        extractor = TreeExtractor(destination.directory, policy)
        extractor.extract(
            reader, itertools.chain((first,), entries), rename=rename, on_entry=on_entry
        )
        return extractor
    finally:
        os.close(destination.directory)
