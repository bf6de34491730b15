"""The first hour of somebody who knows Docker, as an ordinary user."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tests.accounts import CHECKOUT
from tests.integration.cli.test_beginner_walk import Person, walk
from tests.local_sessions import terminal_environment

if TYPE_CHECKING:
    from tests.integration.rootless.conftest import Session


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
