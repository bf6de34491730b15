"""One line of progress on standard error, and nothing when that is not a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from engine.operations import ignore_progress
from tui import format as formats
from tui.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.operations import Progress, ProgressListener

_SECONDS_BETWEEN = 0.1


@contextlib.contextmanager
def progress_line(*, is_quiet: bool = False) -> Iterator[ProgressListener]:
    """Show the newest progress, ten times a second at most; the line goes when the block ends."""
    if is_quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield ignore_progress
        return
    line = _Line()
    try:
        yield line
    finally:
        line.clear()


class _Line:
    def __init__(self) -> None:
        self._shown_at = 0.0
        self._step = ""

    def __call__(self, progress: Progress, /) -> None:
        now = time.monotonic()
        if progress.step == self._step and now - self._shown_at < _SECONDS_BETWEEN:
            return
        self._shown_at, self._step = now, progress.step
        text = progress.step
        if progress.unit == "bytes":
            done = formats.size(progress.done)
            text += f"  {done}" + (f" of {formats.size(progress.total)}" if progress.total else "")
        elif progress.total:
            text += f"  {progress.done} of {progress.total}"
        width = os.get_terminal_size(2).columns if os.isatty(2) else 80
        self._write("\r" + printable(text)[: width - 1] + "\x1b[K")

    def clear(self) -> None:
        """Take the line away."""
        if self._step:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "replace"))
