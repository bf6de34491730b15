"""Builds on a terminal: a shell in what a failed step has left, and building again on changes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.command_line import CommandLine
from tests.integration.cli.test_registries import Terminal
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StorePaths

pytestmark = pytest.mark.usefixtures("starter_image")

FAILING = """\
FROM starter
RUN echo before > /before
RUN mkdir /half && echo made > /half/file && exit 7
"""
DEADLINE_SECONDS = 60
SHELL = ("build", "--network", "none", "--progress", "plain", "--on-failure", "shell")


class Patient(Terminal):
    """A terminal whose program must say what is waited for, one after the other."""

    _heard = 0

    def wait_for(self, text: bytes) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.said[self._heard :]:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], self.said
            with contextlib.suppress(OSError):
                if piece := os.read(self.master, 4096):
                    self.said += piece
                    continue
            raise AssertionError(self.said)
        self._heard = self.said.index(text, self._heard) + len(text)


@pytest.fixture
def lamella(store_paths: StorePaths) -> Iterator[CommandLine]:
    made = CommandLine(store_paths)
    yield made
    for name in made.text("ps", "-aq").split():
        made.text("rm", "-f", name)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(FAILING)
    return tmp_path


def is_clean(lamella: CommandLine, store: StorePaths) -> None:
    """There is nothing but what was there before, and the cache."""
    assert lamella.text("ps", "-aq") == ""
    assert lamella.text("images", "-q").split() == lamella.text("images", "-q", "starter").split()
    # A start that meets somebody who makes something there leaves it to the next one.
    while left_in_staging(store.root):
        lamella("images")
    assert "no problems" in lamella.text("fsck")


def open_shell(lamella: CommandLine, context: Path) -> Patient:
    terminal = Patient(lamella, *SHELL, str(context))
    terminal.wait_for(b"`exit` ends it")
    terminal.write(b"cat /before /half/file; echo here $((40 + 2))\n")
    terminal.wait_for(b"here 42")
    assert b"before\r\nmade" in terminal.said
    return terminal


def test_a_failed_step_can_be_looked_into_and_nothing_of_it_stays(lamella, context, store_paths):
    terminal = open_shell(lamella, context)
    terminal.write(b"exit\n")

    assert terminal.end() == 1
    assert b"exit code: 7" in terminal.said
    is_clean(lamella, store_paths)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_shell_whose_terminal_goes_leaves_nothing(number, lamella, context, store_paths):
    terminal = open_shell(lamella, context)
    terminal.process.send_signal(number)

    assert terminal.end() != 0
    is_clean(lamella, store_paths)


def test_a_shell_whose_command_is_killed_is_a_container_like_any_other(
    lamella, context, store_paths
):
    terminal = open_shell(lamella, context)
    terminal.process.kill()
    terminal.end()

    (name,) = lamella.text("ps", "--format", "{{.Names}}").split()
    assert name.startswith("failed-step-")
    lamella.text("rm", "-f", name)
    lamella.text("image", "prune", "-f")
    is_clean(lamella, store_paths)
    # The step that did not fail is in the cache.
    done = lamella("build", "--network", "none", "--progress", "plain", str(context))
    assert b"#2 CACHED" in done.stderr


def test_what_changes_is_built_again_also_what_changes_meanwhile(lamella, context, store_paths):
    (context / "page").write_text("one")
    (context / "Dockerfile").write_text(
        "FROM starter\nCOPY page /page\nRUN cat /page; echo; echo ready; sleep 1\n"
    )
    terminal = Patient(
        lamella, "build", "--network", "none", "--progress", "plain", "--watch", "-t", "site",
        str(context),
    )  # fmt: skip
    terminal.wait_for(b"ready")
    # The step has copied it and still runs.
    (context / "page").write_text("two")
    terminal.wait_for(b"page changed")
    terminal.wait_for(b" two")
    terminal.wait_for(b"Waiting for the context to change")
    (context / "Dockerfile").write_text("FROM starter\nNONSENSE\n")
    terminal.wait_for(b"unknown instruction: NONSENSE")
    terminal.wait_for(b"Waiting for the context to change")
    (context / "Dockerfile").write_text("FROM starter\nCOPY page /page\nRUN echo thrice\n")
    terminal.wait_for(b"Built ")
    terminal.wait_for(b"Waiting for the context to change")
    terminal.write(b"\x03")

    assert terminal.end() == 130
    assert lamella.text("run", "--rm", "site", "cat", "/page") == "two"
    assert b"Traceback" not in terminal.said
