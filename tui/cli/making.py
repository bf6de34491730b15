"""Commands that make something of a container: commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import CommitRequest
from tui.cli import output
from tui.cli.command import Command
from tui.cli.options import Option, UsageError
from tui.cli.progress import progress_line

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments


async def commit(engine: EngineApi, arguments: Arguments) -> int:
    """Make an image of a container and print its id."""
    name = arguments.operands[1] if len(arguments.operands) > 1 else None
    if name == "":
        raise UsageError("the image's name is empty", command="commit")
    request = CommitRequest(
        name=name,
        author=arguments.text("author") or "",
        message=arguments.text("message") or "",
        changes=arguments.texts("change"),
        is_pausing=arguments.text("pause") != "false",
    )
    with progress_line() as listener:
        made = await engine.commit_container(arguments.operands[0], request, progress=listener)
    for warning in made.warnings:
        output.write_message(f"WARNING: {warning}")
    output.write_line(made.image_id)
    return 0


COMMANDS = (
    Command(
        "commit",
        "CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of a container: its image, and its changes as one more layer.",
        commit,
        (
            Option("author", "a", "NAME", "Who made it, such as `Ada <ada@example.org>`"),
            Option("message", "m", "TEXT", "What was changed; the history shows it"),
            Option("change", "c", "INSTRUCTION", "Apply a Dockerfile instruction", True),
            Option("pause", "p", "", "Freeze a running container meanwhile; on without it"),
        ),
        (1, 2),
        details=(
            "Instructions: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER",
            "VOLUME WORKDIR. What volumes and bind mounts hold is not part of the image.",
            "`--pause=false` lets the container run while its files are read.",
        ),
    ),
)
