"""The person's settings: `$XDG_CONFIG_HOME/lamella/settings.toml`.

    theme = "lamella-light"
    mouse = true

    [keys]
    "containers.stop" = "S"

A mistake in the file never keeps the application from starting: it is a problem to show.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from tui.keymap import COMMAND_IDS, display_keys, find_clashes

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

FRAMES_PER_SECOND_OVER_SSH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the person chose, with everything that was wrong about it.

    Attributes:
        theme: Name of a theme, or empty: choose by the terminal.
        has_mouse: Whether the mouse is on from the start.
        keys: Keys by command id, as Textual writes them.
        problems: What was wrong, one sentence each.
    """

    theme: str = ""
    has_mouse: bool = False
    keys: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def settings_path(environment: Mapping[str, str]) -> Path:
    """Where the settings are, whether or not they exist."""
    base = environment.get("XDG_CONFIG_HOME")
    home = Path(environment.get("HOME") or "/")
    return (Path(base) if base else home / ".config") / "lamella" / "settings.toml"


def load_settings(path: Path) -> Settings:
    """Read the settings; a missing file is no settings."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Settings(problems=(f"cannot read {path}: {error}",))
    problems: list[str] = []
    theme = ""
    has_mouse = False
    keys: dict[str, str] = {}
    for name, value in document.items():
        if name == "theme" and isinstance(value, str):
            theme = value
        elif name == "mouse" and isinstance(value, bool):
            has_mouse = value
        elif name == "keys" and isinstance(value, dict):
            for command_id, key in value.items():
                if command_id not in COMMAND_IDS:
                    problems.append(f"{path}: no command has the id {command_id}")
                elif not isinstance(key, str) or not key:
                    problems.append(f"{path}: the key of {command_id} is not a text")
                else:
                    keys[command_id] = key
        else:
            problems.append(f"{path}: {name} is not a setting, or has the wrong type")
    problems += [
        f"{path}: {display_keys(clash.key)} is the key of {clash.first} and of {clash.second}"
        for clash in find_clashes(keys)
    ]
    return Settings(
        theme=theme, has_mouse=has_mouse, keys=tuple(keys.items()), problems=tuple(problems)
    )


def prepare_terminal(environment: dict[str, str] | os._Environ[str]) -> None:
    """Set what Textual reads when it is imported; call before importing it.

    Over SSH every byte is paid for, and animations are nowhere worth theirs. What the person set
    holds.
    """
    environment.setdefault("TEXTUAL_ANIMATIONS", "none")
    environment.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        environment.setdefault("TEXTUAL_FPS", str(FRAMES_PER_SECOND_OVER_SSH))


def has_unicode_locale(environment: Mapping[str, str]) -> bool:
    """Whether the locale is UTF-8, so that frames and bars can be drawn with Unicode."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environment.get(name):
            return "utf" in value.lower()
    return False
