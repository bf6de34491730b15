"""`fsck`: verify everything in the store, and repair what can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui import format as formats
from tui.cli import output
from tui.cli.command import Command
from tui.cli.documents import line
from tui.cli.images import wants_json
from tui.cli.options import Option
from tui.cli.progress import progress_line

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import StoreCheck, StoreProblem
    from tui.cli.options import Arguments

# The exit codes of fsck(8).
_REPAIRED = 1
_LEFT = 4


async def check(engine: EngineApi, arguments: Arguments) -> int:
    """Check the store; tell each problem with what to do about it."""
    is_json = wants_json(arguments, "fsck")
    with progress_line(is_quiet=arguments.is_on("quiet")) as listener:
        found = await engine.check_store(repairs=arguments.is_on("repair"), progress=listener)
    if is_json:
        output.write_line(line(found))
    else:
        for problem in found.problems:
            _tell(problem)
        if not arguments.is_on("quiet"):
            output.write_line(_summary(found))
    if not found.problems:
        return 0
    return _REPAIRED if found.is_whole else _LEFT


def _tell(problem: StoreProblem) -> None:
    subject = problem.subject
    if subject.startswith("sha256:") or len(subject) == 64:
        subject = output.short_id(subject)
    users = f" of {', '.join(problem.image_names)}" if problem.image_names else ""
    mark = "repaired" if problem.is_repaired else "PROBLEM"
    lines = [f"{mark}: {problem.kind.value} {subject}{users}: {problem.text}"]
    lines += [f"  {detail}" for detail in problem.details]
    if problem.remedy:
        lines.append(f"  -> {problem.remedy}")
    for text in lines:
        # Paths in layers may hold anything, also what looks like a line of ours.
        output.write_line(output.printable(text))


def _summary(found: StoreCheck) -> str:
    parts = [
        _count(found.image_count, "image"),
        _count(found.layer_count, "layer"),
        _count(found.blob_count, "blob"),
    ]
    text = f"Checked {', '.join(parts)}: read {formats.size(found.read_bytes)}, "
    if not found.problems:
        return f"{text}no problems"
    left = sum(not problem.is_repaired for problem in found.problems)
    return f"{text}{_count(len(found.problems), 'problem')}, {left} left"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


COMMANDS = (
    Command(
        "fsck",
        "",
        "Verify every image, blob and layer of the store: digests, files, attributes, contents.",
        check,
        (
            Option("repair", "", "", "Put right what can be; nothing that works is thrown away"),
            Option("quiet", "q", "", "Only problems"),
            Option("format", "", "json", "Print JSON"),
        ),
        details=(
            "Containers run on meanwhile, and images can be added and removed.",
            "",
            "Exit code: 0 nothing is wrong, 1 all of it was repaired, 4 something is left.",
        ),
    ),
)
