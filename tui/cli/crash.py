"""Where the details of an unexpected error go, so that the person reads one sentence."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from tui.cli.table import VERSION


def crash_log_path() -> Path:
    """`$XDG_STATE_HOME/lamella/errors.log`."""
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local" / "state"
    return base / "lamella" / "errors.log"


def write_crash(error: Exception) -> Path | None:
    """Append the traceback to the log; None when it cannot be written."""
    try:
        path = crash_log_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as log:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            log.write(f"{when} lamella {VERSION} python {sys.version.split()[0]}\n")
            log.writelines(traceback.format_exception(error))
    except (OSError, RuntimeError):
        return None
    return path
