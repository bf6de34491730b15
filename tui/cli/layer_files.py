"""The files of one step of an image, here or in a registry: listed, or one of them shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import LimitError
from tui.cli import docker_texts, output
from tui.cli.documents import document, indented
from tui.cli.options import Option, UsageError

if TYPE_CHECKING:
    from engine.types import FileContent, FileEntry, FileTree
    from tui.cli.options import Arguments

SHOW = Option("show", "", "PATH", "Show a file of that step instead, up to 1 MiB of it")


class WantedFiles(NamedTuple):
    """Which step somebody looks into, and at which of its files."""

    position: int
    path: str | None
    """None to list them all."""


def wanted_files(arguments: Arguments, command: str, *, has_json: bool) -> WantedFiles | None:
    """Read `--files STEP` and `--show PATH`; None for neither.

    Raises:
        UsageError: The one without the other.
        LimitError: The step is no number.
    """
    step, path = arguments.text("files"), arguments.text("show")
    if path is not None and (step is None or has_json):
        raise UsageError("--show needs --files STEP, and no --format", command=command)
    if step is None:
        return None
    if not (step.isascii() and step.isdecimal()):
        raise LimitError("--files", step, "the number of a step")
    return WantedFiles(int(step[:9]), path)


def write_files(tree: FileTree, *, has_json: bool) -> None:
    """List the files of a step."""
    if has_json:
        output.write_text(indented([document(entry) for entry in tree.entries]))
        return
    output.write_table(
        ("CHANGE", "SIZE", "PATH"),
        [
            (str(entry.change), docker_texts.size(entry.size_bytes), _path(entry))
            for entry in tree.entries
        ],
    )


def write_content(file: FileContent) -> None:
    """Pass a file on as it is, or as lines that a terminal can be shown."""
    if sys.stdout.isatty():
        output.write_text(file.content.decode("utf-8", "replace").removesuffix("\n"))
    else:
        output.write_all(1, file.content)
    if not file.is_complete:
        shown, whole = docker_texts.size(len(file.content)), docker_texts.size(file.size_bytes)
        output.write_message(f"WARNING: this is the first {shown} of {whole}")


def _path(entry: FileEntry) -> str:
    return f"{entry.path} -> {entry.link_target}" if entry.link_target else entry.path
