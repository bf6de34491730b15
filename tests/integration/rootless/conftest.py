"""An ordinary user's command line: this run's own user, or one made for a run as root."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.accounts import CHECKOUT
from tests.conftest import remove_store
from tests.workers import STORE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.accounts import OrdinaryUser

MAPPINGS = ("range", "single")


@dataclass(frozen=True)
class Session:
    """Commands of an ordinary user over a store of the test's own."""

    user: OrdinaryUser | None
    store: Path
    variables: tuple[tuple[str, str], ...] = ()

    def lamella(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command and take its output."""
        return self.python("-m", "tui", "--root", str(self.store), *words)

    def done(self, *words: str) -> str:
        """Run one command that must succeed, and return what it printed."""
        ended = self.lamella(*words)
        assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
        return ended.stdout.strip()

    def inspect(self, name: str) -> dict[str, object]:
        """What `lamella inspect` says of one container."""
        (document,) = json.loads(self.done("inspect", name))
        return document

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the checkout's Python as the user."""
        changed = [f"{name}={value}" for name, value in self.variables]
        if self.user is not None:
            return self.user.run("env", *changed, self.user.python, *words)
        return subprocess.run(
            ("env", f"PYTHONPATH={CHECKOUT}", *changed, sys.executable, *words),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def with_variables(self, **variables: str) -> Session:
        """The same with other environment variables."""
        return replace(self, variables=(*self.variables, *variables.items()))

    @property
    def user_id(self) -> int:
        return os.getuid() if self.user is None else self.user.user_id

    def monitors(self) -> set[int]:
        """Process ids of the monitors of the containers of its store that run."""
        states = [
            json.loads(path.read_text()) for path in self.store.glob("containers/*/state.json")
        ]
        return {state["monitor_process_id"] for state in states} - {0}


@pytest.fixture
def anyone(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session of an ordinary user; its containers and its store go at the end."""
    if os.geteuid() == 0:
        user: OrdinaryUser = request.getfixturevalue("unprivileged_user")
        session = Session(user, user.home / "store")
    else:
        session = Session(None, Path(tempfile.mkdtemp(prefix=STORE_PREFIX)))
    try:
        yield session
    finally:
        with contextlib.suppress(FileNotFoundError):
            if names := os.listdir(session.store / "containers"):
                session.lamella("rm", "-f", *names)
        if session.user is None:
            remove_store(session.store)
        else:
            # Root may remove what belongs to the user's subordinate ids.
            shutil.rmtree(session.store, ignore_errors=True)


_MAKE_STARTER = """
import asyncio, sys
from pathlib import Path
from engine.api import open_engine

async def main():
    async with open_engine(root=Path(sys.argv[1])) as engine:
        await engine.make_starter_image()

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def starter_root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A store of the user's with the starter image, to be copied: the same for every mapping."""
    if os.geteuid() == 0:
        user: OrdinaryUser = request.getfixturevalue("unprivileged_user")
        session = Session(user, user.home / "starter")
    else:
        session = Session(None, tmp_path_factory.mktemp("starter") / "root")
    made = session.python("-c", _MAKE_STARTER, str(session.store))
    assert made.returncode == 0, made.stderr
    yield session.store
    shutil.rmtree(session.store)


@pytest.fixture(params=MAPPINGS)
def session(request: pytest.FixtureRequest, anyone: Session, starter_root: Path) -> Session:
    """A session with the starter image: with a range of ids, and with newuidmap out of reach."""
    subprocess.run(("cp", "-a", f"{starter_root}/.", anyone.store), check=True)
    chosen = anyone if request.param == "range" else anyone.with_variables(PATH="/nonexistent")
    found = json.loads(chosen.done("info", "--format", "json"))["user_namespace"]
    if found != request.param:
        pytest.skip("this user has no range of subordinate ids (newuidmap, /etc/subuid)")
    return chosen
