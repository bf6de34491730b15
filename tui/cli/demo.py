"""`demo`: something real to explore, without a registry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui import format as formats
from tui.cli import output
from tui.cli.command import Command
from tui.cli.progress import progress_line

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments


async def demo(engine: EngineApi, _arguments: Arguments) -> int:
    """Make the demo, say what was done, and what to do next."""
    with progress_line() as listener:
        containers = await engine.make_demo(progress=listener)
    details = await engine.inspect_image("demo:latest")
    size = formats.size(details.summary.size_bytes)
    output.write_line(
        f"Made the image demo:latest ({details.summary.layer_count} layers, {size}) "
        "from this host's own programs, and started:"
    )
    now = time.time()
    output.write_table(
        ("NAME", "STATUS", "COMMAND"),
        [
            (
                summary.name,
                formats.status(summary, now=now),
                output.shorten(summary.command, 60),
            )
            for summary in containers
        ],
    )
    running = next((summary.name for summary in containers if summary.exit_code is None), "")
    output.write_text(
        "\nNext:\n"
        "  lamella                    open the application and look around\n"
        f"  lamella logs -f {running:<10} follow what it writes, ^C ends it\n"
        "  lamella history demo       see the image's layers\n"
        f"  lamella rm -f {' '.join(summary.name for summary in containers)} && "
        "lamella rmi demo starter\n"
        "                             take it all away again"
    )
    return 0


COMMANDS = (
    Command(
        "demo",
        "",
        "Make a demo image from this host's own programs and start three containers.",
        demo,
        (),
        (0, 0),
        False,
        ("Doing it again keeps what is there and starts again what has ended.",),
    ),
)
