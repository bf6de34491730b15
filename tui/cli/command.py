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
    """

    name: str
    usage: str
    summary: str
    action: CommandAction
    options: tuple[Option, ...] = ()
    operand_counts: tuple[int, int | None] = (0, 0)
    stops_at_operand: bool = False
    details: tuple[str, ...] = ()

    def check_operands(self, arguments: Arguments) -> None:
        """Refuse a wrong number of operands."""
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
