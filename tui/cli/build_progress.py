"""How a build goes, on standard error: line by line, or with what runs below what is done."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

from engine.types import (
    BuildChanged,
    BuildOutput,
    BuildStatus,
    BuildStepState,
    CacheOutcome,
)
from tui import format as formats
from tui.cli.output import printable, write_all

if TYPE_CHECKING:
    from engine.types import BuildEvent, BuildStage, BuildStep

_SECONDS_BETWEEN = 0.1
_WINDOW_LINES = 6
_KEPT_BYTES = 64 << 10
_SHOWN_REASONS = 3


class BuildView(Protocol):
    """Shows a build."""

    def __call__(self, event: BuildEvent, /) -> None:
        """Take note of what happens; returns at once."""

    def close(self) -> None:
        """Leave the terminal as a shell expects it."""

    def log(self, position: int) -> bytes:
        """The end of what a step has written."""


class PlainView:
    """Every line as it comes, with the number of its step before it; what BuildKit calls plain."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._stages: tuple[BuildStage, ...] = ()
        self._states: dict[int, BuildStepState] = {}
        self._warnings = 0
        self._logs: dict[int, bytearray] = {}
        self._partial: dict[int, bytes] = {}
        self._started: dict[int, float] = {}

    def __call__(self, event: BuildEvent, /) -> None:
        """As BuildView."""
        if isinstance(event, BuildOutput):
            self._keep(event)
            self._on_output(event)
        elif isinstance(event, BuildChanged):
            self._stages = event.progress.stages
            for warning in event.progress.warnings[self._warnings :]:
                place = f" (line {warning.line})" if warning.line else ""
                rule = f"{warning.rule}: " if warning.rule else ""
                self._write(f"WARN: {rule}{warning.text}{place}")
            self._warnings = len(event.progress.warnings)
            if event.progress.status is not BuildStatus.RUNNING:
                for step in event.progress.steps:
                    self._on_step(step)
        else:
            self._on_step(event.step)

    def close(self) -> None:
        """As BuildView."""

    def log(self, position: int) -> bytes:
        """As BuildView."""
        return bytes(self._logs.get(position, b""))

    def _keep(self, event: BuildOutput) -> None:
        log = self._logs.setdefault(event.position, bytearray())
        log += event.data
        del log[:-_KEPT_BYTES]

    def _on_output(self, event: BuildOutput) -> None:
        whole = self._partial.pop(event.position, b"") + event.data
        *lines, rest = whole.split(b"\n")
        if rest:
            self._partial[event.position] = rest[-_KEPT_BYTES:]
        elapsed = event.time - self._started.get(event.position, event.time)
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            self._write(f"#{event.position + 1} {elapsed:.3f} {text}")

    def _on_step(self, step: BuildStep) -> None:
        before = self._states.get(step.position)
        if step.state is before:
            return
        self._states[step.position] = step.state
        number = f"#{step.position + 1}"
        if step.state is BuildStepState.SKIPPED:
            return
        if before is None and step.state is not BuildStepState.QUEUED:
            self._started[step.position] = step.started_at or time.time()
            self._write(f"{number} {heading(step, self._stages)}")
            if reasons := reason_text(step):
                self._write(f"{number} {reasons}")
        if step.state.is_final:
            if rest := self._partial.pop(step.position, b""):
                self._write(f"{number} {rest.decode('utf-8', 'replace')}")
            self._write(f"{number} {ending(step)}")
            for warning in step.warnings:
                self._write(f"{number} WARNING: {warning}")

    def _write(self, text: str) -> None:
        if not self._is_quiet:
            write_all(2, (printable(text) + "\n").encode("utf-8", "surrogateescape"))


class TerminalView(PlainView):
    """What is done stays above; below it what runs, with the last lines that it wrote."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[int, BuildStep] = {}
        self._drawn_lines = 0
        self._drawn_at = 0.0

    def __call__(self, event: BuildEvent, /) -> None:
        """As BuildView."""
        super().__call__(event)
        is_due = time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN
        if is_due or not isinstance(event, BuildOutput):
            self._draw()

    def close(self) -> None:
        """As BuildView."""
        self._clear()

    def _on_output(self, event: BuildOutput) -> None:
        """Nothing stays of it: the window below has its end."""

    def _on_step(self, step: BuildStep) -> None:
        if step.state is BuildStepState.RUNNING:
            self._running[step.position] = step
            return
        self._running.pop(step.position, None)
        if self._states.get(step.position) is step.state or not step.state.is_final:
            return
        self._states[step.position] = step.state
        if step.state is BuildStepState.SKIPPED:
            return
        self._clear()
        reasons = reason_text(step)
        self._write(f" {heading(step, self._stages)}  {ending(step)}")
        if reasons and step.state is not BuildStepState.CACHED:
            self._write(f"   {reasons}")
        for warning in step.warnings:
            self._write(f"   WARNING: {warning}")

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        columns = os.get_terminal_size(2).columns if os.isatty(2) else 80
        lines = []
        for step in self._running.values():
            seconds = time.time() - (step.started_at or time.time())
            lines.append(f" {heading(step, self._stages)}  {seconds:.1f}s")
            tail = self.log(step.position).decode("utf-8", "replace").splitlines()
            lines += [f"   {line.rpartition(chr(13))[2]}" for line in tail[-_WINDOW_LINES:]]
        shown = [printable(line)[: columns - 1] for line in lines]
        text = "".join(f"{line}\x1b[K\n" for line in shown)
        up = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        write_all(2, f"{up}\r{text}\x1b[J".encode("utf-8", "surrogateescape"))
        self._drawn_lines = len(shown)

    def _clear(self) -> None:
        if self._drawn_lines:
            write_all(2, f"\x1b[{self._drawn_lines}A\r\x1b[J".encode())
            self._drawn_lines = 0


def choose_view(kind: str, *, is_quiet: bool) -> BuildView:
    """The view that `--progress` asks for: `auto`, `plain` or `tty`."""
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not is_quiet and (kind == "tty" or (kind == "auto" and is_terminal)):
        return TerminalView()
    return PlainView(is_quiet=is_quiet or kind == "quiet")


def heading(step: BuildStep, stages: tuple[BuildStage, ...]) -> str:
    """`[build 2/4] RUN make`."""
    stage = stages[step.stage].name if len(stages) > 1 and step.stage < len(stages) else ""
    if len(stages) > 1 and not stage:
        stage = f"stage-{stages[step.stage].number}"
    place = f"{stage} " if stage else ""
    return f"[{place}{step.number}/{step.count}] {step.text}"


def ending(step: BuildStep) -> str:
    """How a step has ended."""
    if step.state is BuildStepState.CACHED:
        return "CACHED"
    if step.state is BuildStepState.FAILED:
        return f"ERROR: {step.error}"
    if step.state is BuildStepState.CANCELLED:
        return "CANCELED"
    seconds = f"{step.seconds:.1f}s" if step.seconds is not None else ""
    size = f"  {formats.size(step.size_bytes)}" if step.size_bytes else ""
    return f"DONE {seconds}{size}"


def reason_text(step: BuildStep) -> str:
    """Why a step was not taken from the cache; empty if it was, or nobody asks."""
    verdict = step.cache
    if verdict is None or verdict.outcome is not CacheOutcome.MISS or not verdict.reasons:
        return ""
    texts = [reason.text for reason in verdict.reasons[:_SHOWN_REASONS]]
    more = verdict.reason_count - len(texts)
    return "not cached: " + "; ".join(texts) + (f"; and {more} more" if more > 0 else "")
