"""What a person who knows Docker does first, typed at a terminal, with an exact check at each step.

The same walk for whoever runs the tests and, in tests/integration/rootless, for an ordinary user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from tests.local_sessions import SIZE, pty_session, terminal_environment
from tui.terminal.emulator import BitttyModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import StorePaths
    from tests.local_sessions import PtySession

# Seconds alone, more beside other work: it is long.
pytestmark = pytest.mark.timeout(240)
CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 30.0
PROMPT = "#"
DETACH_KEYS = "\x10\x11"
PASSING_FILES = ("lamella.db-", "events.jsonl")
"""What an engine makes beside its records while it is open."""

_TOP_LAYER = """
import asyncio, json, sys
from pathlib import Path
from engine.api import open_engine

async def main():
    async with open_engine(root=Path(sys.argv[1]), run=Path(sys.argv[2])) as engine:
        image = await engine.inspect_image(sys.argv[3])
        tree = await engine.list_layer_files(sys.argv[3], image.layers[-1].position)
        print(json.dumps([(entry.path, entry.change.value) for entry in tree.entries]))

asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    exit_code: int
    out: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """What `inspect` says of an image."""

    image_id: str
    diff_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a store, at a terminal.

    Attributes:
        python: The words that run the checkout's Python as this person.
        environment: For those words.
    """

    python: tuple[str, ...]
    environment: dict[str, str]
    root: Path
    run_directory: Path

    def words(self, *words: str) -> tuple[str, ...]:
        store = ("--root", str(self.root), "--run", str(self.run_directory))
        return (*self.python, "-m", "tui", *store, *words)

    async def lamella(self, *words: str) -> Ended:
        """Run a command without a terminal."""
        return await self._run(self.words(*words))

    async def done(self, *words: str) -> str:
        """What a command that must succeed prints; it has nothing to complain about."""
        ended = await self.lamella(*words)
        assert (ended.exit_code, ended.error) == (0, ""), (words, ended)
        return ended.out

    async def _run(self, words: tuple[str, ...]) -> Ended:
        done = await asyncio.to_thread(
            subprocess.run,
            words,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        return Ended(exit_code=done.returncode, out=done.stdout, error=done.stderr)

    @contextlib.asynccontextmanager
    async def types(self, *words: str) -> AsyncIterator[Screen]:
        """Run a command on a terminal; leaving the block ends it."""
        async with pty_session(
            self.words(*words), size=SIZE, directory="/", environment=self.environment
        ) as session:
            yield Screen(session)

    async def top_layer(self, image: str) -> dict[str, str]:
        """Every path of an image's newest layer, and what the layer does to it."""
        store = (str(self.root), str(self.run_directory))
        ended = await self._run((*self.python, "-c", _TOP_LAYER, *store, image))
        assert ended.exit_code == 0, ended.error
        return dict(json.loads(ended.out))

    async def image(self, name: str) -> Image:
        (document,) = json.loads(await self.done("inspect", name))
        return Image(image_id=document["Id"], diff_ids=tuple(document["RootFS"]["Layers"]))

    async def rows(self) -> dict[str, tuple[str, str, str]]:
        """The rows of `ps -a` by name: image, command and status."""
        header, *lines = (await self.done("ps", "-a")).splitlines()
        assert re.fullmatch(r"CONTAINER ID +IMAGE +COMMAND +AGE +STATUS +PORTS +NAME", header)
        found = {}
        for line in lines:
            container_id, image, command, _age, status, name = re.split(r" {2,}", line)
            assert re.fullmatch(r"[0-9a-f]{12}", container_id)
            found[name] = (image, command, status)
        return found


def traces(root: Path, run_directory: Path) -> set[str]:
    """Every path of a store, and every mount that is in it or made of it."""
    places = {
        str(path)
        for top in (root, run_directory)
        for path in top.rglob("*")
        if not path.name.startswith(PASSING_FILES)
    }
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return places | {mount for mount in mounts if str(root) in mount or str(run_directory) in mount}


def groups_of(container_id: str) -> list[str]:
    """Every control group of a container, of whichever hierarchy."""
    return [
        directory
        for directory, _, _ in os.walk("/sys/fs/cgroup")
        if directory.endswith(f"/{container_id}")
    ]


class Screen:
    """A terminal with a command on it, as it looks to who sits before it."""

    def __init__(self, session: PtySession) -> None:
        self._session = session
        self._model = BitttyModel(SIZE)

    @property
    def lines(self) -> list[str]:
        """What is on it, without blanks at the ends of lines and of the screen."""
        rows = range(self._model.screen_line, self._model.screen_line + SIZE.rows)
        lines = ["".join(run.text for run in self._model.row(row)).rstrip() for row in rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    async def shows(self, *lines: str) -> None:
        """Wait until exactly these lines are on it."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while self.lines != list(lines) and await self._read():
                    continue
        except TimeoutError:
            pass
        assert self.lines == list(lines)

    async def does(self, line: str, *printed: str) -> None:
        """Type a line at the shell's prompt; it prints exactly this, and the prompt comes back."""
        assert self.lines[-1] == PROMPT
        before = self.lines[:-1]
        await self.press(f"{line}\r")
        await self.shows(*before, f"{PROMPT} {line}", *printed, PROMPT)

    async def press(self, keys: str) -> None:
        await self._session.write(keys.encode())

    async def ends(self) -> int:
        """Wait until the command has ended, and return its exit code."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self._read():
                continue
        assert self._session.exit_code is not None
        return self._session.exit_code

    async def _read(self) -> bool:
        part = await self._session.read()
        if part is not None:
            self._model.feed(part.data)
        return part is not None


CHANGES = """\
A /data
A /data/note
C /etc
D /etc/passwd
C /root
C /root/WELCOME
"""
REFUSED = """\
Error: cannot remove container "mine": container is running: \
stop the container before removing or force remove
hint: `lamella rm -f mine` kills and removes it
"""


async def change_files_in_a_shell(person: Person) -> None:
    """Run a shell by name, change files, leave it, and see it in `ps -a` alone."""
    async with person.types("run", "-it", "--name", "mine", "starter", "sh") as screen:
        await screen.shows(PROMPT)
        await screen.does("mkdir /data")
        await screen.does("echo kept > /data/note")
        await screen.does("echo more >> /root/WELCOME")
        await screen.does("rm /etc/passwd")
        await screen.does("readlink /proc/self/fd/0", "/dev/pts/0")
        before = screen.lines
        await screen.press("exit\r")
        assert await screen.ends() == 0
        assert screen.lines == [*before[:-1], "# exit"]
    assert (await person.done("ps")).splitlines()[1:] == []
    assert await person.rows() == {"mine": ("starter:latest", "sh", "Exited (0)")}


async def find_the_changes_again(person: Person) -> None:
    """Start it, attach, see the change, and detach with the keys: it runs on."""
    assert await person.done("start", "mine") == "mine\n"
    async with person.types("attach", "mine") as screen:
        await screen.shows(PROMPT)
        await screen.does("cat /data/note", "kept")
        await screen.press(DETACH_KEYS)
        assert await screen.ends() == 0
        assert screen.lines == ["# cat /data/note", "kept", "# read escape sequence"]
    async with person.types("attach", "mine") as screen:
        # It is painted as it was left, and goes on there.
        await screen.shows("# cat /data/note", "kept", PROMPT)
        await screen.does("tail -n 1 /root/WELCOME", "more")
        await screen.press(DETACH_KEYS)
        assert await screen.ends() == 0


async def see_no_change_in_another(person: Person) -> None:
    """A second container of the same image has none of it; its exit code is the command's."""
    async with person.types("run", "-it", "--name", "other", "starter", "sh") as screen:
        await screen.shows(PROMPT)
        await screen.does("cat /data/note", "cat: /data/note: No such file or directory")
        await screen.does("grep -c more /root/WELCOME", "0")
        await screen.does("grep -c root: /etc/passwd", "1")
        await screen.press("exit 4\r")
        assert await screen.ends() == 4
    assert await person.done("diff", "other") == ""
    assert (await person.rows())["other"] == ("starter:latest", "sh", "Exited (4)")


async def be_refused_and_stop(person: Person) -> None:
    """`rm` of a running container is refused with what to do; then it is stopped."""
    refused = await person.lamella("rm", "mine")
    assert refused == Ended(exit_code=1, out="", error=REFUSED)
    assert (await person.rows())["mine"] == ("starter:latest", "sh", "Up")
    # A shell that somebody types into does not listen to SIGTERM.
    assert await person.done("stop", "-t", "1", "mine") == "mine\n"
    assert (await person.rows())["mine"] == ("starter:latest", "sh", "Exited (137)")


async def commit(person: Person, starter: Image) -> None:
    """The new image is the old one and a layer with just the change."""
    assert await person.done("diff", "mine") == CHANGES
    image_id = (await person.done("commit", "-m", "a note", "mine", "walked:1")).strip()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image_id)
    assert [line.split()[:3] for line in (await person.done("images")).splitlines()[1:]] == [
        ["walked", "1", image_id[7:19]],
        ["starter", "latest", starter.image_id[7:19]],
    ]
    made = await person.image("walked:1")
    assert made.diff_ids[:-1] == starter.diff_ids
    assert await person.top_layer("walked:1") == {
        "data": "added",
        "data/note": "added",
        "etc": "unchanged",
        "etc/passwd": "removed",
        "root": "unchanged",
        "root/WELCOME": "modified",
    }
    old = (await person.done("history", "starter")).splitlines()[1:]
    top, *rest = (await person.done("history", "walked:1")).splitlines()[1:]
    assert top.endswith("a note")
    assert [line.split() for line in rest] == [line.split() for line in old]


async def run_the_new_image_and_leave_nothing(person: Person) -> None:
    """`run --rm` of the commit has the change, and takes everything away at the end."""
    before = traces(person.root, person.run_directory)
    async with person.types("run", "--rm", "-it", "--name", "brief", "walked:1", "sh") as screen:
        await screen.shows(PROMPT)
        await screen.does("cat /data/note", "kept")
        await screen.does("tail -n 1 /root/WELCOME", "more")
        await screen.does("cat /etc/passwd", "cat: /etc/passwd: No such file or directory")
        await screen.does("echo gone > /data/note")
        during = traces(person.root, person.run_directory) - before
        container_id = (await person.done("ps", "-q", "--no-trunc")).strip()
        assert f"{person.root}/containers/{container_id}/upper/data/note" in during
        assert f"{person.run_directory}/containers/{container_id}/attach.sock" in during
        (running,) = json.loads(await person.done("inspect", container_id))
        assert bool(groups_of(container_id)) is bool(running["cgroup"])
        await screen.press("exit 5\r")
        assert await screen.ends() == 5
    assert traces(person.root, person.run_directory) == before
    assert groups_of(container_id) == []
    none = await person.lamella("inspect", "brief")
    assert none.exit_code == 1
    assert none.error.startswith("Error: No such object: brief\n")


async def see_the_old_one_unaffected_and_remove(person: Person, starter: Image) -> None:
    """The container that was committed has its change and its image; then all goes."""
    assert await person.done("diff", "mine") == CHANGES
    (old,) = json.loads(await person.done("inspect", "mine"))
    assert old["Image"] == starter.image_id
    async with person.types("start", "-ai", "mine") as screen:
        await screen.shows(PROMPT)
        await screen.does("cat /data/note", "kept")
        await screen.press("exit\r")
        assert await screen.ends() == 0
    assert await person.done("rm", "mine", "other") == "mine\nother\n"
    assert await person.rows() == {}
    assert await person.done("run", "--rm", "walked:1", "cat", "/data/note") == "kept\n"
    assert os.listdir(person.root / "containers") == []
    assert os.listdir(person.run_directory / "containers") == []


async def walk(person: Person) -> None:
    """All of it, in a store that has the starter image and nothing else."""
    starter = await person.image("starter")
    await change_files_in_a_shell(person)
    await find_the_changes_again(person)
    await see_no_change_in_another(person)
    await be_refused_and_stop(person)
    await commit(person, starter)
    await run_the_new_image_and_leave_nothing(person)
    await see_the_old_one_unaffected_and_remove(person, starter)


@pytest.fixture
async def person(store_paths: StorePaths) -> Person:
    """Somebody whose store has the starter image."""
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await engine.make_starter_image()
    return Person(
        python=(sys.executable,),
        environment=terminal_environment(
            PYTHONPATH=str(CHECKOUT), HOME=os.environ.get("HOME", "/tmp")
        ),
        root=store_paths.root,
        run_directory=store_paths.run,
    )


async def test_the_walk_of_a_docker_beginner(person: Person) -> None:
    try:
        await walk(person)
    finally:
        for name in (await person.lamella("ps", "-aq")).out.split():
            await person.lamella("rm", "-f", name)
