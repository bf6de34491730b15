"""What `?` and `!` show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tui.keymap import Command, Context, commands_of, display_keys
from tui.sanitise import clean
from tui.widgets.rows import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.types import HostReport


def help_content(
    contexts: tuple[Context, ...],
    keys_of: Callable[[Command], str],
    left_out: frozenset[str] = frozenset(),
) -> Content:
    """List the keys of these contexts, with the command line that does the same.

    Args:
        contexts: In this order.
        keys_of: The keys of a command, as the person may have changed them.
        left_out: Ids of commands that do not work here.
    """
    pieces: list[Content] = []
    for context in contexts:
        commands = [one for one in commands_of(context) if one.command_id not in left_out]
        if not commands:
            continue
        pieces.append(Content.styled(f"{context.value}\n", "bold $accent"))
        for command in commands:
            keys = clean(display_keys(keys_of(command)), limit=40)
            pieces.append(Content.styled("  " + fit(keys, 14), "bold"))
            pieces.append(Content(command.explanation + "\n"))
            if command.command_line:
                pieces.append(Content.styled(" " * 16 + command.command_line + "\n", "$secondary"))
        pieces.append(Content("\n"))
    return Content.assemble(*pieces).rstrip()


def host_content(host: HostReport) -> Content:
    """Say what the host gives and what it lacks, with remedies."""
    pieces = [
        Content(
            clean(
                f"Linux {host.kernel_release}, {host.architecture}, "
                f"{'root' if host.is_root else 'rootless'}, cgroup {host.cgroup_mode}, "
                f"{host.snapshotter}"
            )
            + "\n\n"
        )
    ]
    for feature in host.features:
        mark, style = ("+ has  ", "$success") if feature.is_available else ("! lacks", "$warning")
        pieces.append(Content.styled(mark + " ", f"bold {style}"))
        pieces.append(Content.styled(fit(clean(feature.name, limit=40), 20), "bold"))
        pieces.append(Content(clean(feature.detail, limit=400) + "\n"))
        if feature.remedy:
            pieces.append(Content(" " * 28 + clean(feature.remedy, limit=400) + "\n"))
    return Content.assemble(*pieces).rstrip()
