"""The command line as a person has it: a process over a store of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.accounts import CHECKOUT

if TYPE_CHECKING:
    from tests.conftest import StorePaths

_MOST_SECONDS = 60


class CommandLine:
    """Runs commands over one store."""

    def __init__(self, store: StorePaths) -> None:
        self.root = store.root
        self.command = (sys.executable, "-m", "tui", *store.options)
        self.environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}

    def __call__(
        self, *words: str, stdin: bytes = b"", **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one command and take what it writes."""
        return subprocess.run(
            (*self.command, *words),
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=_MOST_SECONDS,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    def text(self, *words: str) -> str:
        """Run one command that must succeed, and return what it prints."""
        done = self(*words)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def open(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a command."""
        return subprocess.Popen(
            (*self.command, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
