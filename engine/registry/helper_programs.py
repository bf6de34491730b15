"""Credential helpers as programs: given a text, waited for, and ended when nobody wants them."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from dataclasses import field
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.registry.connections import Breaker

_LONGEST_SECONDS = 60.0
_LARGEST_ANSWER = 1 << 20
_PIECE_BYTES = 1 << 16


class HelperFailedError(Exception):
    """A helper did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperAnswer:
    """What a helper said."""

    exit_code: int
    output: bytes = field(repr=False)
    errors: bytes = field(repr=False)


def run_helper(
    words: Sequence[str],
    sent: bytes,
    environment: Mapping[str, str],
    *,
    breaker: Breaker | None = None,
    longest_seconds: float = _LONGEST_SECONDS,
) -> HelperAnswer:
    """Run a program to its end; blocking.

    Not in a session of its own, as it may have to ask the person at the terminal.

    Args:
        words: The program and its arguments.
        sent: What it reads.
        environment: All that it sees.
        breaker: Ends it.
        longest_seconds: How long it may take.

    Raises:
        OSError: It cannot be started.
        HelperFailedError: It does not end, or says too much.
        CancelledRead: The breaker was told to cut.
    """
    given = os.memfd_create("credential", os.MFD_CLOEXEC)
    try:
        os.write(given, sent)
        os.lseek(given, 0, os.SEEK_SET)
        process = subprocess.Popen(
            words,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
        )
    finally:
        os.close(given)
    with process:
        try:
            return _collect(process, breaker, time.monotonic() + longest_seconds)
        finally:
            process.kill()


def _collect(
    process: subprocess.Popen[bytes], breaker: Breaker | None, ends_at: float
) -> HelperAnswer:
    """Read what it says until it ends: what it leaves behind may keep the pipes open."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    with contextlib.ExitStack() as held, selectors.DefaultSelector() as selector:
        if breaker is not None:
            selector.register(held.enter_context(breaker.alarm()), selectors.EVENT_READ)
        ended = os.pidfd_open(process.pid)
        held.callback(os.close, ended)
        selector.register(ended, selectors.EVENT_READ)
        for pipe in said:
            os.set_blocking(pipe, False)
            selector.register(pipe, selectors.EVENT_READ)
        has_ended = False
        while not has_ended:
            left = ends_at - time.monotonic()
            if left <= 0:
                raise HelperFailedError("it does not end")
            ready = {key.fd for key, _ in selector.select(left)}
            if breaker is not None:
                breaker.check()
            has_ended = ended in ready
            for pipe, text in said.items():
                if has_ended or pipe in ready:
                    _read_all(pipe, text, selector)
    output, errors = said.values()
    return HelperAnswer(exit_code=process.wait(), output=bytes(output), errors=bytes(errors))


def _read_all(pipe: int, text: bytearray, selector: selectors.BaseSelector) -> None:
    """Read what is there now."""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(pipe, _PIECE_BYTES):
            text += piece
            if len(text) > _LARGEST_ANSWER:
                raise HelperFailedError(f"it says more than {_LARGEST_ANSWER} bytes")
        with contextlib.suppress(KeyError):
            selector.unregister(pipe)
