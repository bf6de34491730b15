"""`port`: which ports of the host's lead to a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, NotFoundError
from tui.cli import output
from tui.cli.command import Command
from tui.cli.port_texts import container_mappings

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments

_HIGHEST_PORT = 65535


class _NotPublishedError(NotFoundError):
    """The text is Docker's."""

    def __init__(self, port: str, container: str) -> None:
        super().__init__(
            f"No public port '{port}' published for {container}",
            hint=f"`lamella port {container}` lists what is; `lamella run -p HOST:{port}` publishes"
            " one",
        )


async def port(engine: EngineApi, arguments: Arguments) -> int:
    """Print every published port, or where one of the container's is published."""
    reference, *wanted = arguments.operands
    side = _container_side(wanted[0]) if wanted else ""
    summary = (await engine.inspect_container(reference)).summary
    published = [one for one in container_mappings(summary) if one.host_address]
    if not side:
        for one in published:
            output.write_line(f"{one.container_side} -> {one.host_side}")
        return 0
    found = [one for one in published if one.container_side == side]
    if not found:
        raise _NotPublishedError(wanted[0], reference)
    for one in found:
        output.write_line(one.host_side)
    return 0


def _container_side(text: str) -> str:
    """Read `80` or `53/udp`; without a protocol tcp is meant."""
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number) <= _HIGHEST_PORT):
        raise InvalidInputError(f"invalid port ({text})", hint="Such as 80 or 53/udp")
    return f"{int(number)}/{protocol.lower() or 'tcp'}"


COMMANDS = (
    Command(
        "port",
        "CONTAINER [PORT[/PROTOCOL]]",
        "Show which ports of this host lead to a container.",
        port,
        (),
        (1, 2),
        only_looks=True,
    ),
)
