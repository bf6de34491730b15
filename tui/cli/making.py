"""Commands that make something of a container, or copy into it and out of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CopyRefusedError, InvalidInputError
from engine.types import CommitRequest, CopyOptions
from tui import format as formats
from tui.cli import output
from tui.cli.command import Command
from tui.cli.options import Option, UsageError
from tui.cli.progress import progress_line

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.operations import ProgressListener
    from engine.types import CopyResult
    from tui.cli.options import Arguments


async def commit(engine: EngineApi, arguments: Arguments) -> int:
    """Make an image of a container and print its id."""
    name = arguments.operands[1] if len(arguments.operands) > 1 else None
    if name == "":
        raise UsageError("the image's name is empty", command="commit")
    request = CommitRequest(
        name=name,
        author=arguments.text("author") or "",
        message=arguments.text("message") or "",
        changes=arguments.texts("change"),
        is_pausing=arguments.text("pause") != "false",
    )
    with progress_line() as listener:
        made = await engine.commit_container(arguments.operands[0], request, progress=listener)
    for warning in made.warnings:
        output.write_message(f"WARNING: {warning}")
    output.write_line(made.image_id)
    return 0


def split_argument(text: str) -> tuple[str | None, str]:
    """`CONTAINER:PATH`, or a path of this host: absolute, or beginning with a dot.

    As Docker's: `./a:b` and `/a:b` are files with a colon in their name.
    """
    container, has_colon, path = text.partition(":")
    if not has_colon or text.startswith(("/", ".")):
        return None, text
    return container, path


async def copy(engine: EngineApi, arguments: Arguments) -> int:
    """Copy between a container and this host, or a tar stream."""
    source_container, source = split_argument(arguments.operands[0])
    target_container, target = split_argument(arguments.operands[1])
    if source_container is None and target_container is None:
        raise InvalidInputError(
            "must specify at least one container source", hint="Write it as CONTAINER:PATH"
        )
    if source_container is not None and target_container is not None:
        raise InvalidInputError(
            "copying between containers is not supported",
            hint="Copy to a directory here first, or use a volume that both mount",
        )
    if not source or not target:
        raise InvalidInputError("the path is empty", hint="Write it as CONTAINER:PATH")
    options = CopyOptions(
        keeps_owners=arguments.is_on("archive"),
        is_following_link=arguments.is_on("follow-link"),
    )
    is_quiet = arguments.is_on("quiet")
    with progress_line(is_quiet=is_quiet) as listener:
        if source_container is not None:
            if target == "-":
                _refuse_terminal("Give a directory in place of `-`, or redirect")
                result = await engine.archive_from_container(
                    source_container, source, 1, options=options, progress=listener
                )
                return _finish(result)
            result = await engine.copy_from_container(
                source_container, source, target, options=options, progress=listener
            )
        else:
            assert target_container is not None
            if source == "-":
                if os.isatty(0):
                    raise InvalidInputError(
                        "nothing to copy: standard input is a terminal",
                        hint="`tar c DIRECTORY | lamella cp - CONTAINER:PATH`",
                    )
                result = await _extract(engine, target_container, target, listener)
                return _finish(result)
            result = await engine.copy_to_container(
                target_container, source, target, options=options, progress=listener
            )
    if not is_quiet:
        size = formats.size(result.size_bytes)
        output.write_message(f"Successfully copied {size} to {arguments.operands[1]}")
    return _finish(result)


async def _extract(
    engine: EngineApi, container: str, target: str, listener: ProgressListener
) -> CopyResult:
    try:
        return await engine.extract_to_container(container, 0, target, progress=listener)
    except CopyRefusedError as error:
        if error.message == "extraction point is not a directory":
            raise CopyRefusedError(
                f'destination "{container}:{target}" must be a directory'
            ) from None
        raise


def _finish(result: CopyResult) -> int:
    for warning in result.warnings:
        output.write_message(f"WARNING: {warning}")
    return 0


def _refuse_terminal(hint: str) -> None:
    if os.isatty(1):
        raise InvalidInputError("cowardly refusing to write an archive to a terminal", hint=hint)


def _is_special(path: Path) -> bool:
    """Whether a path is there and is no file: a device, a pipe, a directory."""
    return path.exists() and not path.is_file()


async def export(engine: EngineApi, arguments: Arguments) -> int:
    """Write all files of a container as a tar."""
    reference = arguments.operands[0]
    path = arguments.text("output")
    if path is None:
        if os.isatty(1):
            raise InvalidInputError(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )
        sys.stdout.flush()
        with progress_line() as listener:
            return _finish(await engine.export_container(reference, 1, progress=listener))
    # Found first: a container that is not there leaves no file.
    await engine.inspect_container(reference)
    target = Path(path)
    is_special = _is_special(target)
    # A file appears when it is complete; a device or a pipe is written into as it is.
    unfinished = target if is_special else target.with_name(f".{target.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CLOEXEC | (0 if is_special else os.O_CREAT | os.O_EXCL)
    try:
        descriptor = os.open(unfinished, flags, 0o600)
        try:
            with progress_line() as listener:
                result = await engine.export_container(reference, descriptor, progress=listener)
            if not is_special:
                unfinished.replace(target)
        finally:
            os.close(descriptor)
            if not is_special:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise CopyRefusedError(
            f"cannot write {path}: {(error.strerror or 'error').lower()}",
            hint="Name a file in a directory that exists and belongs to you",
        ) from None
    return _finish(result)


COMMANDS = (
    Command(
        "commit",
        "CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of a container: its image, and its changes as one more layer.",
        commit,
        (
            Option("author", "a", "NAME", "Who made it, such as `Ada <ada@example.org>`"),
            Option("message", "m", "TEXT", "What was changed; the history shows it"),
            Option("change", "c", "INSTRUCTION", "Apply a Dockerfile instruction", True),
            Option("pause", "p", "", "Freeze a running container meanwhile; on without it"),
        ),
        (1, 2),
        details=(
            "Instructions: CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER",
            "VOLUME WORKDIR. What volumes and bind mounts hold is not part of the image.",
            "`--pause=false` lets the container run while its files are read.",
        ),
    ),
    Command(
        "cp",
        "CONTAINER:PATH PATH|-, or PATH|- CONTAINER:PATH",
        "Copy files between a container and this host; `-` is a tar archive on stdin or stdout.",
        copy,
        (
            Option("archive", "a", "", "Keep owners, set-user-id bits and attributes"),
            Option("follow-link", "L", "", "Copy what the source leads to when it is a link"),
            Option("quiet", "q", "", "Show no progress and no summary"),
        ),
        (2, 2),
        details=(
            "A path in a container counts from its root. The container need not run. Into a",
            "directory that is there things go under their own name; `DIRECTORY/.` copies only",
            "what is in the directory. Who receives the files owns them, without --archive.",
        ),
    ),
    Command(
        "export",
        "CONTAINER",
        "Write all files of a container as a tar archive, without its volumes.",
        export,
        (Option("output", "o", "FILE", "Write to a file instead of standard output"),),
        (1, 1),
    ),
)
