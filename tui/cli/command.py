"""What a command is: its usage, its options, and the coroutine that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from tui.cli.options import Arguments, Option, UsageError, describe

if TYPE_CHECKING:
    from engine.api import EngineApi


class CommandAction(Protocol):
    """Does a command with an open engine."""

    async def __call__(self, engine: EngineApi, arguments: Arguments, /) -> int:
        """Return the exit code; an EngineError becomes a message and its exit code."""


class Command(NamedTuple):
    """One command.

    Attributes:
        name: As it is typed.
        usage: Its operands, as the help shows them.
        summary: What it does, one sentence.
        action: Does it.
        options: What it takes.
        operand_counts: Fewest and most operands; None is any number.
        stops_at_operand: Everything behind the first operand belongs to the container.
        details: Further lines of its help.
        only_looks: It starts nothing, so nothing is made ready for that.
        members: Second words that make it a command (`ls` of `volume`); it is none without one.
    """

    name: str
    usage: str
    summary: str
    action: CommandAction
    options: tuple[Option, ...] = ()
    operand_counts: tuple[int, int | None] = (0, 0)
    stops_at_operand: bool = False
    details: tuple[str, ...] = ()
    only_looks: bool = False
    members: tuple[str, ...] = ()

    def check_operands(self, arguments: Arguments) -> None:
        """Refuse a wrong number of operands."""
        if self.members:
            known = ", ".join(self.members)
            if not arguments.operands:
                raise UsageError(f"`lamella {self.name}` needs one of: {known}", command=self.name)
            raise UsageError(
                f"unknown command: {self.name} {arguments.operands[0]}, only {known}",
                command=self.name,
            )
        fewest, most = self.operand_counts
        count = len(arguments.operands)
        if count < fewest:
            wanted = f"at least {fewest}" if most != fewest else str(fewest)
            plural = "" if fewest == 1 else "s"
            raise UsageError(
                f"`lamella {self.name}` needs {wanted} argument{plural}: {self.usage}",
                command=self.name,
            )
        if most is not None and count > most:
            raise UsageError(
                f"`lamella {self.name}` does not take this: {arguments.operands[most]}",
                command=self.name,
            )

    def help_text(self) -> str:
        """What `lamella NAME --help` prints."""
        usage = f" {self.usage}" if self.usage else ""
        lines = [f"Usage: lamella {self.name} [OPTIONS]{usage}", "", self.summary, ""]
        if self.details:
            lines += [*self.details, ""]
        return "\n".join([*lines, "Options:", *describe(self.options)])


async def _do_nothing(_engine: EngineApi, _arguments: Arguments) -> int:
    # Never reached: check_operands refuses a command that needs a second word.
    return 0


def command_group(name: str, summary: str, commands: tuple[Command, ...]) -> tuple[Command, ...]:
    """Commands of two words, with one for the first word alone that lists them in its help."""
    members = tuple(command.name.removeprefix(f"{name} ") for command in commands)
    width = max(map(len, members))
    details = tuple(
        f"  {member:<{width}}  {command.summary}"
        for member, command in zip(members, commands, strict=True)
    )
    group = Command(
        name,
        "COMMAND",
        summary,
        _do_nothing,
        stops_at_operand=True,
        details=("Commands:", *details),
        members=members,
    )
    return (group, *commands)
