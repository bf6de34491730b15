"""`build`: an image of a Dockerfile; `builder prune`: what builds have left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import BuildStepError, EngineError
from engine.operations import carry_through
from engine.types import BuildCacheFilter
from tui import format as formats
from tui.cli import output
from tui.cli.build_options import OPTIONS, read_request
from tui.cli.build_outputs import OPTIONS as OUTPUTS
from tui.cli.build_outputs import deliver, perform, read_outputs, uses_stdout, write_file
from tui.cli.build_progress import choose_view
from tui.cli.build_refusals import OPTIONS as REFUSED
from tui.cli.build_refusals import refuse_options
from tui.cli.command import Command, command_group
from tui.cli.options import Option, UsageError
from tui.cli.pruning import agrees
from tui.cli.values import duration_seconds, size_bytes

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import BuildRequest
    from tui.cli.build_outputs import BuildOutput
    from tui.cli.build_progress import BuildView
    from tui.cli.options import Arguments

_CALLS = ("build", "check")
_ENDS = (signal.SIGTERM, signal.SIGHUP)
"""Of the interrupt key the loop takes care itself."""
_KINDS = ("auto", "plain", "tty", "quiet")
_SHOWN_LOG_LINES = 30
_AROUND = 3


async def build(engine: EngineApi, arguments: Arguments) -> int:
    """Build an image and print its id; what ends it from outside cancels the build first."""
    task = asyncio.current_task()
    assert task is not None
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in _ENDS:
        loop.add_signal_handler(number, end, number)
    try:
        return await _build_or_watch(engine, arguments)
    except asyncio.CancelledError:
        if not ended_by:
            raise
        return 128 + ended_by[0]
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)


async def _build_or_watch(engine: EngineApi, arguments: Arguments) -> int:
    kind = arguments.text("progress") or "auto"
    if kind not in _KINDS:
        raise UsageError(f"--progress is one of {', '.join(_KINDS)}, not {kind}", command="build")
    if arguments.text("on-failure") not in (None, "shell"):
        raise UsageError("--on-failure takes shell", command="build")
    call = arguments.text("call") or "build"
    if call not in _CALLS:
        raise UsageError(f"--call is one of {', '.join(_CALLS)}, not {call}", command="build")
    refuse_options(arguments)
    outputs = read_outputs(arguments)
    with contextlib.ExitStack() as stack:
        request = read_request(arguments, stack)
        if arguments.is_on("check") or call == "check":
            return await _check(engine, request)
        if not arguments.is_on("watch"):
            return await _build(engine, arguments, request, kind, outputs)
        while True:
            # Watched from now on: what changes while the build runs would be missed after it.
            changing = asyncio.ensure_future(_first_change(engine, request))
            try:
                with contextlib.suppress(EngineError):
                    await _build(engine, arguments, request, kind, outputs, tells_errors=True)
                output.write_message("Waiting for the context to change")
                paths = await changing
            finally:
                changing.cancel()
                await asyncio.wait((changing,))
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            output.write_message(f"{paths[0]}{more} changed")


async def _first_change(engine: EngineApi, request: BuildRequest) -> tuple[str, ...]:
    # What changes while the build begins to read may be read or not.
    changes = engine.watch_context(request, since=time.time())
    try:
        return await anext(changes)
    finally:
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()


async def _build(
    engine: EngineApi,
    arguments: Arguments,
    request: BuildRequest,
    kind: str,
    outputs: tuple[BuildOutput, ...],
    *,
    tells_errors: bool = False,
) -> int:
    view = choose_view(kind, is_quiet=arguments.is_on("quiet"))
    try:
        built = await engine.build_image(request, listener=view)
    except BuildStepError as error:
        view.close()
        _tell_failure(view, request, error)
        if error.failed_image_id:
            await _open_shell(engine, error.failed_image_id)
        raise
    except EngineError as error:
        if tells_errors:
            output.write_message(f"Error: {error.message}")
        raise
    finally:
        view.close()
    if path := arguments.text("iidfile"):
        write_file("the id", path, built.image_id)
    if not arguments.is_on("quiet"):
        for name in built.names:
            output.write_message(f"Tagged {name}")
        cached = f", {built.cached_count} of {built.step_count} steps cached"
        output.write_message(
            f"Built {output.short_id(built.image_id)}, {formats.size(built.size_bytes)}{cached}"
        )
    await deliver(engine, built, outputs, arguments)
    if not uses_stdout(outputs):
        output.write_line(built.image_id)
    return 0


async def _check(engine: EngineApi, request: BuildRequest) -> int:
    plan = await engine.plan_build(request)
    if not plan.warnings:
        output.write_line("Check complete, no warnings found.")
        return 0
    count = len(plan.warnings)
    output.write_line(f"Check complete, {count} warning{'s' if count > 1 else ''} found!")
    for warning in plan.warnings:
        place = f"{plan.dockerfile}:{warning.line}" if warning.line else plan.dockerfile
        output.write_line(f"{place}: {warning.rule or 'warning'}: {warning.text}")
    return 1


def _tell_failure(view: BuildView, request: BuildRequest, error: BuildStepError) -> None:
    """What the step has written, and where it stands, as BuildKit shows it."""
    lines = view.log(error.position).decode("utf-8", "replace").splitlines()
    if lines:
        output.write_message("------")
        output.write_message(f" > {error.step_text}:")
        for line in lines[-_SHOWN_LOG_LINES:]:
            output.write_message(line)
        output.write_message("------")
    source = _source_lines(request)
    output.write_message(f"{error.dockerfile}:{error.line}")
    if source:
        first = max(1, error.line - _AROUND)
        output.write_message("--------------------")
        for number in range(first, min(len(source), error.line + _AROUND) + 1):
            mark = ">>>" if number == error.line else "   "
            output.write_message(f"{number:4} | {mark} {source[number - 1]}")
        output.write_message("--------------------")


def _source_lines(request: BuildRequest) -> list[str]:
    content = request.dockerfile_content
    if content is None and isinstance(request.context, Path):
        with contextlib.suppress(OSError):
            content = (request.context / (request.dockerfile or "Dockerfile")).read_bytes()
    return (content or b"").decode("utf-8", "replace").splitlines()


async def _open_shell(engine: EngineApi, image_id: str) -> None:
    """Let the person look around in what a failed step has left, until the terminal is left."""
    from tui.cli.run import COMMANDS as RUNNING

    name = f"failed-step-{os.urandom(4).hex()}"
    words = ["--rm", "-it", "--name", name, "--entrypoint", "/bin/sh", image_id]
    output.write_message("A shell on what the step has left; `exit` ends it")
    try:
        await perform(engine, RUNNING, "run", words)
    except EngineError as error:
        output.write_message(f"Error: {error.message}")
    finally:
        await carry_through(_forget_shell(engine, name, image_id))


async def _forget_shell(engine: EngineApi, name: str, image_id: str) -> None:
    """Nobody comes back to a shell whose terminal has gone."""
    with contextlib.suppress(EngineError):
        await engine.remove_container(name, is_forced=True)
    with contextlib.suppress(EngineError):
        await engine.remove_image(image_id)


async def prune_builder(engine: EngineApi, arguments: Arguments) -> int:
    """Forget what builds have left."""
    used_before = None
    for text in arguments.texts("filter"):
        key, _, value = text.partition("=")
        if key not in {"until", "unused-for"}:
            raise UsageError(f"unknown filter: {key}, only until", command="builder prune")
        used_before = time.time() - duration_seconds("--filter", value)
    wanted = BuildCacheFilter(
        used_before=used_before,
        kept_bytes=size_bytes("--keep-storage", arguments.text("keep-storage")),
        includes_shared=arguments.is_on("all"),
    )
    which = "all build cache" if wanted.includes_shared else "all dangling build cache"
    if not agrees(arguments, f"WARNING! This will remove {which}."):
        return 0
    pruned = await engine.prune_build_cache(wanted)
    if pruned.entry_ids:
        output.write_text("\n".join(("Deleted build cache objects:", *pruned.entry_ids, "", "")))
    output.write_line(f"Total reclaimed space: {formats.size(pruned.freed_bytes)}")
    return 0


async def list_cache(engine: EngineApi, arguments: Arguments) -> int:
    """List what builds have left."""
    del arguments
    now = time.time()
    output.write_table(
        ("ID", "SIZE", "SHARED", "LAST USED", "USES", "STEP"),
        [
            (
                entry.entry_id[:12],
                formats.size(entry.size_bytes),
                "yes" if entry.is_shared else "no",
                formats.age(entry.used_at, now=now),
                str(entry.use_count),
                output.shorten(entry.text, 80),
            )
            for entry in await engine.list_build_cache()
        ],
    )
    return 0


async def list_builds(engine: EngineApi, arguments: Arguments) -> int:
    """List builds and how they have ended."""
    del arguments
    now = time.time()
    output.write_table(
        ("BUILD ID", "NAME", "STATUS", "STEPS", "CACHED", "AGE", "DURATION"),
        [
            (
                one.build_id[:12],
                ", ".join(one.names) or "<none>",
                one.status.value,
                str(len(one.steps)),
                str(sum(step.state.value == "cached" for step in one.steps)),
                formats.age(one.started_at, now=now),
                formats.duration((one.ended_at or now) - one.started_at),
            )
            for one in await engine.list_builds()
        ],
    )
    return 0


BUILD = Command(
    "build",
    "DIRECTORY|-",
    "Build an image from a Dockerfile.",
    build,
    (*OPTIONS, *OUTPUTS, *REFUSED),
    (1, 1),
    details=(
        "`-` reads a Dockerfile, or a tar of the directory, from standard input. The same files",
        "give the same image, byte for byte: no file is younger than 1980, and the image is as old",
        "as the directory's last commit.",
        "A step that is run although it was built before says what has changed.",
        "",
        "--cache-from trusts who made IMAGE: a RUN with the same words, on the same layers, is",
        "taken from it unseen. What COPY, ADD and WORKDIR make is compared. What was taken is not",
        "kept for builds that do not name IMAGE. It is pulled if it is not here; if it cannot be",
        "had, that is a warning.",
        "Other options of `docker build` are refused with what to do instead.",
    ),
)
BUILDER = command_group(
    "builder",
    "See and clean up what builds have left.",
    (
        Command("builder ls", "", "List what is kept for later builds.", list_cache, (), (0, 0)),
        Command("builder history", "", "List builds.", list_builds, (), (0, 0)),
        Command(
            "builder prune",
            "",
            "Forget steps that no image needs, and remove their layers.",
            prune_builder,
            (
                Option("all", "a", "", "Also steps that images share, and cache mounts"),
                Option("force", "f", "", "Do not ask"),
                Option("filter", "", "until=DURATION", "Only what was not used for so long", True),
                Option("keep-storage", "", "SIZE", "Stop when this much is left"),
            ),
        ),
    ),
)
COMMANDS = (BUILD, *BUILDER)
