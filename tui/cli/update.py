"""`update`: other limits and another restart policy for containers that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import ContainerUpdate
from tui.cli import lifecycle_options, output
from tui.cli.command import Command
from tui.cli.limit_options import LIMIT_OPTIONS, read_limits
from tui.cli.session import for_each

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments

_NOT_CHANGED = "memory-swappiness"
"""Docker's `update` does not have it either."""


async def update(engine: EngineApi, arguments: Arguments) -> int:
    """Change containers, and print the name of each as it was typed."""
    wanted = ContainerUpdate(
        limits=read_limits(arguments),
        restart_policy=lifecycle_options.restart_policy(arguments),
    )

    async def update_and_say(reference: str) -> None:
        for warning in await engine.update_container(reference, wanted):
            output.write_message(f"WARNING: {warning}")
        output.write_line(reference)

    return await for_each(arguments.operands, update_and_say)


COMMANDS = (
    Command(
        "update",
        "CONTAINER [CONTAINER...]",
        "Change limits and restart policy of containers, also while they run.",
        update,
        (
            *(option for option in LIMIT_OPTIONS if option.name != _NOT_CHANGED),
            lifecycle_options.RESTART,
        ),
        (1, None),
        details=("What is not given stays as it is; 0 takes a limit away.",),
    ),
)
