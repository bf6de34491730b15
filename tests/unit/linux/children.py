"""Checks in a process of their own, for what they change there cannot be undone."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def run_in_child(check: Callable[[], None]) -> None:
    """Runs `check` in a forked process; what it raises there fails the test here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        failure = b""
        try:
            os.close(reader)
            check()
        except BaseException:
            failure = traceback.format_exc().encode()
        os.write(writer, failure)
        os._exit(bool(failure))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, failure


def run_program(arguments: list[str], prepare: Callable[[], None]) -> tuple[int, str]:
    """Exit code and output of a program that `prepare` ran before, in its process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            prepare()
            os.execv(arguments[0], arguments)
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        os._exit(99)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), output
