"""What a person who knows Docker does first, by keyboard in the application over a real engine.

Everything is pressed and read: a key counts only when the footer, the help or a notice shows it,
and what came of it is what is on the screen.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from textual import events
from textual.keys import _character_to_key

from engine.api import open_engine
from tests.integration.cli.test_beginner_walk import traces
from tests.tui.conftest import screen_text, settled
from tui.app import LamellaApp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from textual.pilot import Pilot

    from tests.conftest import StorePaths

# Seconds alone, more beside other work: it is long.
pytestmark = pytest.mark.timeout(240)
SIZES = ((120, 40), (80, 24))
DEADLINE_SECONDS = 30.0
LOOK_EVERY_SECONDS = 0.03
LEAVE = "ctrl+right_square_bracket"
CHANGES = [
    "+ added     /data",
    "+ added     /data/note",
    "~ changed   /etc",
    "- removed   /etc/passwd",
    "~ changed   /root",
    "~ changed   /root/WELCOME",
]


class Walker:
    """Somebody at the keyboard of the application."""

    def __init__(self, pilot: Pilot[None]) -> None:
        assert isinstance(pilot.app, LamellaApp)
        self.pilot = pilot
        self.app = pilot.app
        self._known: set[tuple[str, str]] = set()
        """Keys, by what they do, that the help has shown."""

    @property
    def screen(self) -> str:
        return screen_text(self.app)

    async def until(self, condition: Callable[[], bool], wanted: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not condition():
                    # Looking draws the whole screen: not more often than anybody would see.
                    await self.pilot.pause(LOOK_EVERY_SECONDS)
        except TimeoutError:
            pytest.fail(f"no {wanted} in\n{self.screen}")

    async def sees(self, text: str) -> None:
        await self.until(lambda: text in self.screen, repr(text))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def use(self, key: str, label: str, explanation: str = "") -> None:
        """Press a key that the footer shows with this label, or else the help as this."""
        footer = self.screen.splitlines()[-1]
        is_shown = f" {_displayed(key)} {label} " in f"{footer} "
        if not is_shown and (key, explanation) not in self._known:
            assert explanation, f"no {label!r} in {footer!r}"
            assert " ? help" in footer
            # A long explanation goes on in the next line.
            begin = re.escape(" ".join(explanation.split()[:6]))
            line = re.compile(rf"│ +{re.escape(_displayed(key))} +{begin}(?!\S)")
            await self.press("question_mark")
            await self.sees("esc close")
            while line.search(self.screen) is None:
                before = self.screen
                await self.press("pagedown")
                await self.until(lambda old=before: old != self.screen, f"{explanation!r} in help")
            await self.press("escape")
            self._known.add((key, explanation))
        await self.press(key)

    async def types(self, text: str) -> None:
        """Type as fast as a slow line delivers: all of it at once."""
        for character in text:
            key = "enter" if character == "\n" else _character_to_key(character)
            self.app.post_message(events.Key(key, "\r" if character == "\n" else character))
        await self.pilot.pause()

    # --- containers ---------------------------------------------------------------------------

    def status(self, name: str) -> str:
        """Sign and state of a container as its row shows them; empty without a row."""
        row = re.search(rf"([>=+~.x!]) {name} +(Up|Created|Exited \(\d+\))[ │┃║]", self.screen)
        return " ".join(row.groups()) if row else ""

    async def sees_status(self, name: str, status: str) -> None:
        await self.until(lambda: self.status(name) == status, f"{name} {status!r}")

    async def goes_to(self, name: str) -> None:
        """Put the cursor on a container's row."""
        await self.use("3", "containers", "Go to the containers")
        await self.press("g")
        under_cursor = re.compile(rf"▌[>=+~.x!] {name} ")
        while under_cursor.search(self.screen) is None:
            before = self.screen
            await self.press("j")
            assert before != self.screen, f"no row of {name}"

    async def runs(self, image: str, name: str, *, is_removed: bool = False) -> None:
        """Run a shell of an image, with a terminal, and wait for its prompt."""
        await self.use("1", "images", "Go to the images")
        await self.press("g")
        if re.search(rf"▌{image} ", self.screen) is None:
            await self.press("j")
        assert re.search(rf"▌{image} ", self.screen)
        await self.use("r", "run")
        await self.sees("Run a container")
        await self.types(name)
        await self.press("tab")
        await self.types("bash")
        await self.press("tab", "space")
        await self.sees("[x] open one to type in (-it)")
        if is_removed:
            while "[x] remove when it ends" not in self.screen:
                await self.press("tab", "space")
            await self.press("shift+tab")
            if "[x] read-only root" in self.screen:
                await self.press("space")
        assert "[ ] read-only root" in self.screen
        # What was said of the last one may lie over it for a moment.
        await self.sees("enter run")
        await self.press("enter")
        await self.sees(f" {name}  attached")
        await self.shows("#")

    # --- terminals ----------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """What the terminal shows, with bash's prompt as `#`."""
        lines = [line.rstrip() for line in self.screen.splitlines()[1:-1]]
        while lines and not lines[-1]:
            lines.pop()
        return [re.sub(r"^bash-[0-9.]+#", "#", line) for line in lines]

    async def shows(self, *lines: str) -> None:
        """Wait until exactly these lines are on the terminal."""
        await self.until(lambda: self.lines == list(lines), str(lines))

    async def does(self, line: str, *printed: str) -> None:
        """Type a line at the shell's prompt; it prints exactly this, and the prompt comes back."""
        before = self.lines
        assert before[-1] == "#"
        await self.types(f"{line}\n")
        await self.shows(*before[:-1], f"# {line}", *printed, "#")

    async def leaves_the_shell(self, exit_code: int) -> None:
        """Type exit, read how it ended, and close the terminal with the key that is shown."""
        await self.types(f"exit {exit_code}\n")
        await self.sees(f"ended with exit code {exit_code}")
        await self.use("enter", "close")
        await settled(self.pilot)

    async def detaches(self, name: str) -> None:
        """Leave the terminal with the key that is shown; it runs on."""
        await self.use(LEAVE, "leave")
        await self.sees(f"Detached from {name}; it runs on, a goes back to it")
        await self.sees_status(name, "> Up")

    async def starts_and_attaches(self, name: str) -> None:
        """Start the container under the cursor, and go where the notice says."""
        await self.use("s", "stop/start")
        await self.sees(f"Started {name}; a opens its terminal")
        await self.press("a")
        await self.sees(f" {name}  attached")
        await self.shows("#")

    # --- details ------------------------------------------------------------------------------

    async def sees_changes(self, *changes: str) -> None:
        """Go from the container to its changes, compare all of them, and come back."""
        await self.use("enter", "details")
        while self.app.dashboard.detail.tab != "changes":
            await self.use("right_square_bracket", "next tab")
            await settled(self.pilot)
        await self.until(lambda: self.pane_lines("Changes") == list(changes), str(changes))
        await self.press("escape")
        await settled(self.pilot)

    def pane_lines(self, title: str) -> list[str]:
        """What stands in the pane with this in its title."""
        rows = self.screen.splitlines()
        top = next(y for y, row in enumerate(rows) if title in row)
        left = max(rows[top].rfind(corner, 0, rows[top].index(title)) for corner in "╭┏╔")
        found = []
        for row in rows[top + 1 :]:
            if row[left] in "╰┗╚":
                break
            line = row[left + 1 :].rstrip(" │┃║").removeprefix("▌").strip()
            if line:
                found.append(line)
        return found


def _displayed(key: str) -> str:
    return {"question_mark": "?", "right_square_bracket": "]", LEAVE: "^]"}.get(key, key)


async def walk(root: Path, run: Path, size: tuple[int, int]) -> None:
    """All of it, in a store that has the starter image and nothing else."""
    app = LamellaApp(lambda: open_engine(root=root, run=run))
    async with app.run_test(size=size, notifications=True) as pilot:
        walker = Walker(pilot)
        await walker.sees("▌starter")
        await settled(pilot)
        await change_files_in_a_shell(walker)
        await find_the_changes_again(walker)
        await see_no_change_in_another(walker)
        await be_asked_and_stop(walker)
        await commit(walker)
        await run_the_new_image_and_leave_nothing(walker, root, run)
        await see_the_old_one_unaffected_and_remove(walker)
        await walker.use("q", "quit")


async def change_files_in_a_shell(walker: Walker) -> None:
    await walker.runs("starter", "mine")
    await walker.does("HISTFILE=")
    await walker.does("mkdir /data")
    await walker.does("echo kept > /data/note")
    await walker.does("echo more >> /root/WELCOME")
    await walker.does("rm /etc/passwd")
    await walker.leaves_the_shell(0)
    # As `ps -a` lists it and `ps` does not.
    await walker.sees_status("mine", ". Exited (0)")
    await walker.use("A", "all/running", "Show all containers, or only those that run")
    await walker.sees("None is running")
    assert walker.status("mine") == ""
    await walker.press("A")
    await walker.sees_status("mine", ". Exited (0)")


async def find_the_changes_again(walker: Walker) -> None:
    await walker.starts_and_attaches("mine")
    await walker.does("HISTFILE=")
    await walker.does("cat /data/note", "kept")
    await walker.detaches("mine")
    await walker.use("a", "attach", "Open a terminal on the container's own program")
    # It is painted as it was left, and goes on there.
    await walker.shows("# HISTFILE=", "# cat /data/note", "kept", "#")
    await walker.does("tail -n 1 /root/WELCOME", "more")
    # Without it a shell that somebody types into does not listen to SIGTERM.
    await walker.does("trap 'exit 0' TERM")
    await walker.detaches("mine")


async def see_no_change_in_another(walker: Walker) -> None:
    await walker.runs("starter", "other")
    await walker.does("HISTFILE=")
    await walker.does("cat /data/note", "cat: /data/note: No such file or directory")
    await walker.does("grep -c more /root/WELCOME", "0")
    await walker.does("grep -c root: /etc/passwd", "1")
    await walker.leaves_the_shell(4)
    await walker.sees_status("other", "x Exited (4)")
    await walker.goes_to("other")
    await walker.sees_changes("Nothing is changed: the writable layer is empty")


async def be_asked_and_stop(walker: Walker) -> None:
    """A running container is not removed before somebody says so."""
    await walker.goes_to("mine")
    await walker.use("d", "remove", "Remove the container with its writable layer and its log")
    await walker.sees("It is running and will be killed.")
    assert "esc keep" in walker.screen
    await walker.press("enter")  # does not destroy
    await walker.press("escape")
    await walker.sees_status("mine", "> Up")
    await walker.use("s", "stop/start")
    await walker.sees("Stopped mine")
    await walker.sees_status("mine", ". Exited (0)")


async def commit(walker: Walker) -> None:
    await walker.sees_changes(*CHANGES)
    await walker.use("2", "layers", "Go to the layers")
    await walker.sees("~ writable layer of mine")
    below = walker.pane_lines("2 Layers")[1:]
    assert len(below) >= 2
    await walker.use("3", "containers", "Go to the containers")
    await walker.use(
        "c", "commit", "Make an image of the container: its changes become one more layer"
    )
    await walker.sees("Make an image of mine")
    await walker.types("walked:1")
    await walker.press("tab", "tab")
    await walker.types("a note")
    await walker.press("enter")
    await walker.sees("Made walked:1: one layer more")
    await walker.sees("▌walked")
    await walker.use("enter", "layers")
    await settled(walker.pilot)
    top, *rest = walker.pane_lines("2 Layers")
    assert top.endswith("bash")
    # The rows of what it was made of have less room now that two images share them.
    assert [row[:32] for row in rest] == [row[:32] for row in below]
    await walker.use("enter", "files")
    await walker.sees("6 entries")
    row = re.compile(r"([-+~]?) *(?:▾ )?(\S+) +(added|changed|removed|)")
    assert [row.match(line).groups() for line in walker.pane_lines("Files")] == [
        ("+", "data/", "added"),
        ("+", "note", "added"),
        ("", "etc/", ""),
        ("-", "passwd", "removed"),
        ("", "root/", ""),
        ("~", "WELCOME", "changed"),
    ]


async def run_the_new_image_and_leave_nothing(walker: Walker, root: Path, run: Path) -> None:
    before = traces(root, run)
    await walker.runs("walked", "brief", is_removed=True)
    await walker.does("cat /data/note", "kept")
    await walker.does("echo gone > /data/note")
    during = traces(root, run) - before
    assert any(path.endswith("/upper/data/note") for path in during)
    assert any(path.endswith("/attach.sock") for path in during)
    await walker.leaves_the_shell(0)
    await walker.until(lambda: walker.status("brief") == "", "end of brief")
    assert traces(root, run) == before


async def see_the_old_one_unaffected_and_remove(walker: Walker) -> None:
    await walker.goes_to("mine")
    await walker.sees_changes(*CHANGES)
    await walker.starts_and_attaches("mine")
    await walker.does("HISTFILE=")
    await walker.does("cat /data/note", "kept")
    await walker.leaves_the_shell(0)
    for name in ("mine", "other"):
        await walker.goes_to(name)
        await walker.use("d", "remove", "Remove the container with its writable layer and its log")
        await walker.sees(f"Remove {name}?")
        assert "will be lost" in walker.screen
        assert "will be killed" not in walker.screen
        assert "y remove" in walker.screen
        await walker.press("y")
        await walker.sees(f"Removed {name}")
    await walker.sees("No containers yet")
    await walker.use("1", "images", "Go to the images")
    await walker.sees("walked ")


@pytest.mark.parametrize("size", SIZES, ids=["120x40", "80x24"])
async def test_the_walk_of_a_docker_beginner_by_keyboard(
    store_paths: StorePaths, size: tuple[int, int]
) -> None:
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await engine.make_starter_image()
    try:
        await walk(store_paths.root, store_paths.run, size)
    finally:
        async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
            for summary in await engine.list_containers():
                await engine.remove_container(summary.container_id, is_forced=True)
