"""The command `lamella`: opens the application, or does one command and ends.

Nothing heavy is imported here: what a command needs it imports itself, so that `--version` and
`--help` answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from tui.cli.session import Opener


def main(words: Sequence[str] | None = None, *, opener: Opener | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        words: What stands behind `lamella`; None takes it from the process.
        opener: Opens the engine; None opens the real one.
    """
    from tui.cli import table

    words = sys.argv[1:] if words is None else list(words)
    try:
        match words:
            case ["--version" | "-v" | "version"]:
                return _say(f"lamella {table.VERSION}")
            case ["--help" | "-h" | "help"]:
                return _say(table.help_text())
        from tui.cli.dispatch import run

        return run(words, opener=opener)
    except BrokenPipeError:
        # The reader has what it wanted (`lamella ps | head -1`): not an error. What is still
        # buffered must not be complained about at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        return 0
    except KeyboardInterrupt:
        return 130


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def run() -> NoReturn:
    """Run the command line of this process, and end it.

    Everything was closed and written by then: taking the interpreter apart, module by module,
    would only keep who waits for us waiting (mypy's `hard_exit` does the same).
    """
    code = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        sys.exit(code)  # the interpreter says what could not be written
    os._exit(code)


if __name__ == "__main__":
    run()
