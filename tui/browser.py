"""Opening an address in the person's browser, where there is one that needs no terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTLING_SECONDS = 2.0
"""What a browser takes to say that it cannot; one that runs by then is not waited for."""

_OPENERS = (
    "xdg-open",
    "gio open",
    "sensible-browser",
    "x-www-browser",
    "wslview",
    "firefox",
    "chromium",
    "google-chrome",
)
_OF_TERMINALS = frozenset(
    {"lynx", "links", "links2", "elinks", "w3m", "www-browser", "browsh", "chawan", "cha"}
)


def find_browser(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """What opens an address, with `%s` in the address's place; None if nothing does.

    $BROWSER goes first, also with no display: editors put what opens a browser at the person's end
    there. Browsers of terminals are left out: they would draw over the application.
    """
    candidates = environment.get("BROWSER", "").split(os.pathsep)
    if environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        candidates += _OPENERS
    for candidate in candidates:
        try:
            words = shlex.split(candidate)
        except ValueError:
            continue
        if not words or os.path.basename(words[0]) in _OF_TERMINALS:
            continue
        program = shutil.which(words[0], path=environment.get("PATH"))
        if program is None:
            continue
        arguments = words[1:] if any("%s" in word for word in words[1:]) else [*words[1:], "%s"]
        return (program, *arguments)
    return None


def open_in_browser(browser: tuple[str, ...], url: str) -> bool:
    """Start the browser apart from the application; whether it did not refuse. Blocking."""
    program, *arguments = browser
    try:
        process = subprocess.Popen(
            [program, *(word.replace("%s", url) for word in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        return process.wait(SETTLING_SECONDS) == 0
    except subprocess.TimeoutExpired:
        # Whoever starts a process collects it, also when it ends hours later.
        threading.Thread(target=process.wait, name="lamella-browser", daemon=True).start()
        return True
