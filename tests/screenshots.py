"""`make screenshots`: pictures of the real application over a real engine with the demo in it."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import open_engine
from tests.tui.conftest import settled
from tui.app import LamellaApp

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.api import EngineApi

DIRECTORY = Path(__file__).resolve().parent.parent / "screenshots"
SCENES: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {
    # name: size, keys pressed before the picture is taken
    "main": ((120, 40), ("3",)),
    "files": ((120, 40), ("1", "enter", "enter")),
    "logs": ((120, 40), ("3", "enter")),
    "run": ((120, 40), ("1", "r")),
    "help": ((120, 40), ("question_mark",)),
    "small": ((80, 24), ("1",)),
}


async def picture(name: str, top: Path) -> None:
    """Open the application, press the scene's keys, write the SVG."""
    size, keys = SCENES[name]

    def opener() -> AbstractAsyncContextManager[EngineApi]:
        return open_engine(root=top / "root", run=top / "run")

    app = LamellaApp(opener)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        for key in keys:
            await pilot.press(key)
            await settled(pilot)
        drawing = app.export_screenshot(simplify=True)
    # Textual gives every picture's styles a number of their own: one less thing that differs.
    (DIRECTORY / f"{name}.svg").write_text(re.sub(r"terminal-\d+-", "terminal-", drawing))


async def take_all(top: Path, names: list[str]) -> None:
    """Make the demo, take the pictures, remove the demo's containers."""
    async with open_engine(root=top / "root", run=top / "run") as engine:
        await engine.make_demo()
        try:
            for name in names:
                await picture(name, top)
        finally:
            for summary in await engine.list_containers():
                await engine.remove_container(summary.container_id, is_forced=True)


def main(names: list[str]) -> int:
    """Take the named pictures, or all."""
    DIRECTORY.mkdir(exist_ok=True)
    top = Path(tempfile.mkdtemp(prefix="lamella-shots-", dir="/tmp"))
    try:
        asyncio.run(take_all(top, names or list(SCENES)))
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
