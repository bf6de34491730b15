"""Bindings, footer, help and palette: what is made of the table of keys in tui.key_commands."""

from __future__ import annotations

from textual.binding import Binding

from engine.late_dataclasses import dataclass
from tui.key_commands import COMMANDS, Command, Context

__all__ = (
    "COMMANDS",
    "COMMAND_IDS",
    "Clash",
    "Command",
    "Context",
    "bindings_of",
    "command_named",
    "commands_of",
    "display_keys",
    "find_clashes",
)

COMMAND_IDS = frozenset(command.command_id for command in COMMANDS)


def commands_of(*contexts: Context) -> tuple[Command, ...]:
    """Every command of these contexts, in the table's order."""
    return tuple(command for command in COMMANDS if command.context in contexts)


def command_named(command_id: str) -> Command:
    """The command with an id of COMMAND_IDS."""
    return next(command for command in COMMANDS if command.command_id == command_id)


def bindings_of(*contexts: Context) -> list[Binding]:
    """Make Textual's bindings; each has an id, so that settings.toml can move it."""
    return [
        Binding(
            command.keys,
            command.action,
            command.label,
            show=command.is_in_footer,
            tooltip=command.explanation,
            id=command.command_id,
        )
        for command in commands_of(*contexts)
    ]


_KEY_NAMES = {
    "question_mark": "?",
    "colon": ":",
    "slash": "/",
    "plus": "+",
    "escape": "esc",
    "exclamation_mark": "!",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "dollar_sign": "$",
    "full_stop": ".",
    "tilde": "~",
}


def display_keys(keys: str) -> str:
    """Write keys as people know them: `ctrl+k` is `^K`."""
    shown = []
    for key in keys.split(","):
        *modifiers, base = key.split("+") if key not in _KEY_NAMES else [key]
        name = _KEY_NAMES.get(base, base)
        if modifiers == ["ctrl"]:
            shown.append(f"^{name.upper()}")
        else:
            shown.append("-".join([*modifiers, name]))
    return " ".join(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Two commands of contexts that are active together have the same key."""

    key: str
    first: str
    second: str


_PANES = (
    Context.IMAGES,
    Context.LAYERS,
    Context.CONTAINERS,
    Context.DETAIL,
    Context.FILES,
    Context.LOGS,
)
_SCREENS = (
    Context.VOLUMES,
    Context.NETWORKS,
    Context.BUILDS,
    Context.BUILD,
    Context.PICKER,
    Context.REGISTRY,
    Context.REMOTE_IMAGE,
)
_ACTIVE_TOGETHER: tuple[tuple[Context, ...], ...] = (
    *((Context.EVERYWHERE, Context.LISTS, pane) for pane in _PANES),
    *((Context.LISTS, screen) for screen in _SCREENS),
    (Context.TERMINAL,),
    (Context.HISTORY,),
)


def find_clashes(overrides: dict[str, str]) -> tuple[Clash, ...]:
    """Find keys that would do two things at once after the person's changes."""
    found: dict[tuple[str, str, str], Clash] = {}
    for contexts in _ACTIVE_TOGETHER:
        owners: dict[str, str] = {}
        for command in commands_of(*contexts):
            for key in overrides.get(command.command_id, command.keys).split(","):
                first = owners.setdefault(key, command.command_id)
                if first != command.command_id:
                    clash = Clash(key=key, first=first, second=command.command_id)
                    found[clash.key, clash.first, clash.second] = clash
    return tuple(found.values())
