"""A command that relays a local program: `python -m tests.relay_program [--break] PROGRAM ...`.

What `lamella exec -it` does with a container's program, without a container: for tests that look
at the terminal it leaves behind.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from tests.local_sessions import SIZE, PtySession, pty_session
from tui.cli.terminal import relay_session, terminal_size

if TYPE_CHECKING:
    from engine.types import SessionOutput


class BreakingSession(PtySession):
    """Breaks, as no session should, once it has had output."""

    _is_broken = False

    async def read(self) -> SessionOutput | None:
        if self._is_broken:
            raise RuntimeError("broken on purpose")
        self._is_broken = True
        return await super().read()


async def relay(words: list[str]) -> int:
    is_breaking = words[0] == "--break"
    async with pty_session(words[is_breaking:], size=terminal_size() or SIZE) as session:
        used = BreakingSession(*session.parts) if is_breaking else session
        end = await relay_session(used, detach_keys=os.environ.get("DETACH_KEYS", ""))
    print(f"end: {end.reason.value} {end.exit_code}")
    return end.exit_code or 0


if __name__ == "__main__":
    sys.exit(asyncio.run(relay(sys.argv[1:])))
