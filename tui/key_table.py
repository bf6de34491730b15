"""What a row of the table of keys is."""

from __future__ import annotations

from enum import StrEnum

from engine.late_dataclasses import dataclass


class Context(StrEnum):
    """Where a key works."""

    EVERYWHERE = "Everywhere"
    LISTS = "Moving"
    IMAGES = "Images"
    LAYERS = "Layers"
    CONTAINERS = "Containers"
    DETAIL = "Details"
    FILES = "Files"
    LOGS = "Logs"
    VOLUMES = "Volumes"
    NETWORKS = "Networks"
    BUILDS = "Builds"
    BUILD = "Build"
    PICKER = "Choosing a file"
    REGISTRY = "Registry"
    REMOTE_IMAGE = "Image in a registry"
    TERMINAL = "Terminal"
    HISTORY = "Terminal, scrolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing that a key does.

    Attributes:
        command_id: Stays the same when keys change; settings.toml names it.
        action: Textual action, with its namespace.
        keys: Default keys, separated by commas.
        label: As the footer shows it.
        explanation: One sentence for help, palette and tooltip.
        command_line: What does the same in a shell, or empty.
        is_in_footer: Whether the footer has room for it.
        is_in_palette: Moving about is not worth an entry.
    """

    command_id: str
    context: Context
    action: str
    keys: str
    label: str
    explanation: str
    command_line: str = ""
    is_in_footer: bool = False
    is_in_palette: bool = True


def define(
    command_id: str,
    context: Context,
    action: str,
    keys: str,
    label: str,
    explanation: str,
    command_line: str = "",
    *,
    is_in_footer: bool = False,
    is_in_palette: bool = True,
) -> Command:
    """Make a row of the table."""
    return Command(
        command_id=command_id,
        context=context,
        action=action,
        keys=keys,
        label=label,
        explanation=explanation,
        command_line=command_line,
        is_in_footer=is_in_footer,
        is_in_palette=is_in_palette,
    )
