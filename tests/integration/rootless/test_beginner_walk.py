"""The first hour of somebody who knows Docker, as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.accounts import CHECKOUT
from tests.integration.cli.test_beginner_walk import Person, walk
from tests.local_sessions import terminal_environment

if TYPE_CHECKING:
    from tests.integration.rootless.conftest import Session

# Seconds alone, more beside other work: it is long.
pytestmark = pytest.mark.timeout(240)
DEADLINE_SECONDS = 200
_BY_KEYBOARD = """
import asyncio, sys
from pathlib import Path
from tests.integration.applications.test_beginner_walk import walk

root, run, columns, rows = sys.argv[1:]
asyncio.run(walk(Path(root), Path(run), (int(columns), int(rows))))
"""


def person_of(session: Session) -> Person:
    """Who has this session, at a terminal."""
    variables = tuple(f"{name}={value}" for name, value in session.variables)
    if session.user is not None:
        python = tuple(session.user.command("env", *variables, session.user.python))
        environment = {"PATH": os.environ["PATH"]}
    else:
        python = ("env", *variables, sys.executable)
        environment = terminal_environment(PYTHONPATH=str(CHECKOUT), HOME=os.environ["HOME"])
    return Person(
        python=python,
        environment=environment,
        root=session.store,
        run_directory=session.store / "run",
    )


async def test_the_walk_of_a_docker_beginner_without_root(session: Session) -> None:
    await walk(person_of(session))


async def test_the_walk_by_keyboard_without_root(session: Session) -> None:
    person = person_of(session)
    # The application reads keys in the process that it runs in: that is the ordinary user's.
    size = ("80", "24") if session.variables else ("120", "40")
    store = (str(person.root), str(person.run_directory))
    done = await asyncio.to_thread(
        subprocess.run,
        (*person.python, "-c", _BY_KEYBOARD, *store, *size),
        capture_output=True,
        text=True,
        env=person.environment,
        cwd="/",
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert await person.rows() == {}
