"""The themes: one dark, one light, and the terminal's own sixteen colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.theme import Theme

if TYPE_CHECKING:
    from collections.abc import Mapping

DARK = "lamella-dark"
LIGHT = "lamella-light"
TERMINAL = "ansi-dark"
"""Textual's own: draws with the sixteen colours and the background that the terminal has."""

THEMES = (
    Theme(
        name=DARK,
        primary="#7aa2c8",
        secondary="#8f9bb3",
        accent="#d8a657",
        success="#8fbf7f",
        warning="#d8a657",
        error="#e07a72",
        foreground="#d7dae0",
        background="#14171c",
        surface="#14171c",
        panel="#1d2129",
        boost="#232833",
        dark=True,
        variables={
            "border": "#7aa2c8",
            "border-blurred": "#3a4150",
            "block-cursor-background": "#2c3f57",
            "block-cursor-foreground": "#f2f5fa",
            "footer-key-foreground": "#d8a657",
        },
    ),
    Theme(
        name=LIGHT,
        primary="#1f5f99",
        secondary="#566074",
        accent="#8a5a00",
        success="#2e6b1f",
        warning="#8a5a00",
        error="#a8261d",
        foreground="#1c2028",
        background="#fbfaf7",
        surface="#fbfaf7",
        panel="#efede7",
        boost="#e6e3da",
        dark=False,
        variables={
            "border": "#1f5f99",
            "border-blurred": "#b9b6ad",
            "block-cursor-background": "#cfe0f0",
            "block-cursor-foreground": "#10141a",
            "footer-key-foreground": "#8a5a00",
        },
    ),
)


def choose_theme(wanted: str, environment: Mapping[str, str]) -> str:
    """Choose the theme to start with.

    A theme that the person set holds. Without one, a terminal with sixteen colours and NO_COLOR
    get the terminal's own colours, and everything else the dark theme.
    """
    if wanted:
        return wanted
    system = environment.get("TEXTUAL_COLOR_SYSTEM", "auto")
    if "NO_COLOR" in environment or system in ("standard", "windows", "none"):
        return TERMINAL
    terminal = environment.get("TERM", "")
    has_many = "256" in terminal or "COLORTERM" in environment or "kitty" in terminal
    return DARK if has_many or system in ("256", "truecolor") else TERMINAL
