"""`images --tree`: each image with what it is for, and what of it the disk holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.cli import docker_texts, output
from tui.cli.options import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import ImageSummary
    from tui.cli.options import Arguments

_HEADS = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_UNSUPPORTED = ("quiet", "digests", "format")


def check_tree_options(arguments: Arguments) -> None:
    """Refuse what a tree has no place for.

    Raises:
        UsageError: There is such an option.
    """
    for name in _UNSUPPORTED:
        if arguments.text(name) not in (None, "false"):
            raise UsageError(f"--{name} is not yet supported with --tree", command="images")


def write_tree(found: Iterable[tuple[ImageSummary, tuple[str, ...]]], *, is_whole: bool) -> None:
    """Write each name of an image, and below the last one the platform that it is for."""
    rows: list[tuple[str, ...]] = []
    for image, names in found:
        sizes = (
            docker_texts.size(image.size_bytes + image.kept_bytes),
            docker_texts.size(image.kept_bytes),
            "U" if image.container_count else "",
        )
        identifiers = [str(image.image_id), str(image.digest or "-")]
        own, manifest = identifiers if is_whole else map(output.short_id, identifiers)
        rows += [(name, own, *sizes) for name in names or ("<untagged>",)]
        rows.append((f"└─ {image.platform}", manifest, *sizes))
    output.write_table(_HEADS, rows)
