"""`run` and `create`, with Docker's options and exit codes."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.errors import EngineError, ImageNotFoundError, LimitError, NotFoundError
from engine.types import ContainerRequest, RestartPolicy
from tui.cli import lifecycle_options, mount_options, output, values
from tui.cli.command import Command
from tui.cli.dispatch import ENGINE_FAILED, report
from tui.cli.identity_file import IdentityFile
from tui.cli.limit_options import LIMIT_OPTIONS, read_limits
from tui.cli.network_options import NETWORK_OPTIONS, asks_for_network, read_network
from tui.cli.options import Option, UsageError
from tui.cli.process_options import PROCESS_OPTIONS, file_labels, file_variables, read_options
from tui.cli.session_options import (
    DETACH_KEYS,
    INTERACTIVE,
    TERMINAL,
    check_terminal,
    detach_keys,
)

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import CreatedContainer
    from tui.cli.options import Arguments

_OPTIONS = (
    INTERACTIVE,
    TERMINAL,
    Option("rm", "", "", "Remove the container when it has ended"),
    Option("name", "", "NAME", "Name of the container; one is drawn without it"),
    Option(
        "env", "e", "NAME[=VALUE]", "Set a variable; without a value it is taken from here", True
    ),
    Option("workdir", "w", "DIRECTORY", "Working directory inside the container"),
    Option("user", "u", "USER[:GROUP]", "Run as this user, by name or number"),
    Option("entrypoint", "", "PROGRAM", "Replace the image's entrypoint"),
    Option("hostname", "h", "NAME", "Host name inside the container"),
    Option("read-only", "", "", "Make the root filesystem read-only"),
    Option("stop-signal", "", "SIGNAL", "What `stop` sends; SIGTERM without it"),
    Option("stop-timeout", "", "SECONDS", "How long `stop` waits before it kills; -1 is for ever"),
    Option("label", "l", "NAME=VALUE", "Label the container", True),
    Option("env-file", "", "FILE", "Set the variables of a file, one on each line", True),
    Option("label-file", "", "FILE", "Take labels from a file, one on each line", True),
    Option("cidfile", "", "FILE", "Write the container's id to a file that is not there yet"),
    Option("pull", "", "WHEN", "Get the image: when it is missing (the default), always, never"),
    *LIMIT_OPTIONS,
    *PROCESS_OPTIONS,
    *NETWORK_OPTIONS,
    *lifecycle_options.OPTIONS,
    *mount_options.OPTIONS,
)
_DETACH = Option("detach", "d", "", "Run in the background and print the container's id")


def read_request(arguments: Arguments) -> ContainerRequest:
    """Make the request from the command line; blocking, as some options name files.

    Raises:
        InvalidInputError: A value makes no sense.
    """
    entrypoint = arguments.text("entrypoint")
    return ContainerRequest(
        image=arguments.operands[0],
        name=arguments.text("name"),
        command=tuple(arguments.operands[1:]),
        entrypoint=None if entrypoint is None else (entrypoint,),
        environment=(
            *file_variables(arguments.texts("env-file"), os.environ),
            *values.environment(arguments.texts("env"), dict(os.environ)),
        ),
        working_directory=arguments.text("workdir"),
        user=arguments.text("user"),
        hostname=arguments.text("hostname"),
        labels=(
            *file_labels(arguments.texts("label-file")),
            *values.labels(arguments.texts("label")),
        ),
        limits=read_limits(arguments),
        is_read_only=arguments.is_on("read-only"),
        is_removed_on_exit=arguments.is_on("rm"),
        stop_signal=arguments.text("stop-signal"),
        stop_timeout_seconds=values.timeout_seconds(
            "--stop-timeout", arguments.text("stop-timeout")
        ),
        options=read_options(arguments),
        has_init=arguments.is_on("init"),
        restart_policy=lifecycle_options.restart_policy(arguments) or RestartPolicy(),
        health=lifecycle_options.health_check(arguments),
        mounts=mount_options.mounts(arguments),
        network=read_network(arguments),
        volumes_from=arguments.texts("volumes-from"),
        has_terminal=arguments.is_on("tty"),
        is_stdin_open=arguments.is_on("interactive"),
        is_stdin_closed_with_session=arguments.is_on("interactive")
        and not arguments.is_on("detach"),
    )


def pull_policy(arguments: Arguments) -> str:
    """Read `--pull`.

    Raises:
        LimitError: It is none of Docker's three words.
    """
    text = arguments.text("pull") or "missing"
    if text not in {"missing", "always", "never"}:
        raise LimitError("--pull", text, "missing, always or never")
    return text


async def _pull(engine: EngineApi, image: str) -> None:
    from tui.cli.transfers import pull_with_lines

    # Standard output is the program's.
    await pull_with_lines(engine, image, platform="", descriptor=2)


async def _create_or_pull(
    engine: EngineApi, request: ContainerRequest, policy: str
) -> CreatedContainer:
    try:
        return await engine.create_container(request)
    except ImageNotFoundError:
        # An id is no name that a registry could know.
        if policy == "never" or request.image.startswith("sha256:"):
            raise
    from tui.cli.transfers import read_name

    shown = request.image if read_name(request.image).ending else f"{request.image}:latest"
    output.write_message(f"Unable to find image '{shown}' locally")
    await _pull(engine, request.image)
    return await engine.create_container(request)


async def _create(engine: EngineApi, arguments: Arguments) -> CreatedContainer:
    import asyncio

    request = await asyncio.to_thread(read_request, arguments)
    policy = pull_policy(arguments)
    if policy == "always":
        await _pull(engine, request.image)
    path = arguments.text("cidfile")
    identity_file = IdentityFile(path) if path else None
    try:
        created = await _create_or_pull(engine, request, policy)
    except BaseException:
        if identity_file is not None:
            identity_file.discard()
        raise
    if identity_file is not None:
        identity_file.write(created.container_id)
    for warning in created.warnings:
        output.write_message(f"WARNING: {warning}")
    return created


async def create(engine: EngineApi, arguments: Arguments) -> int:
    """Make a container and print its id."""
    output.write_line((await _create(engine, arguments)).container_id)
    return 0


async def run(engine: EngineApi, arguments: Arguments) -> int:
    """Make a container and start it, in the foreground or (-d) in the background."""
    if not arguments.operands[0]:
        raise UsageError("the image's name is empty", command="run")
    is_removed = arguments.is_on("rm")
    is_detached = arguments.is_on("detach")
    has_terminal, has_input = arguments.is_on("tty"), arguments.is_on("interactive")
    is_session = not is_detached and (has_terminal or has_input)
    if is_session:
        check_terminal(has_input=has_input, has_terminal=has_terminal)
    keys = detach_keys(arguments)
    try:
        created = await _create(engine, arguments)
        container_id = created.container_id
        if is_session:
            from tui.cli.connection import run_in_session

            return await run_in_session(
                engine,
                container_id,
                is_removed=is_removed,
                has_terminal=has_terminal,
                has_input=has_input,
                detach_keys=keys,
            )
        if not is_detached:
            from tui.cli.foreground import run_in_foreground

            return await run_in_foreground(engine, container_id, is_removed=is_removed)
        try:
            await engine.start_container(container_id)
        except EngineError:
            if is_removed:
                with contextlib.suppress(NotFoundError):
                    await engine.remove_container(container_id)
            raise
        if asks_for_network(arguments):
            await _tell_start(engine, created)
    except EngineError as error:
        # Docker's: 125 when it was not the container's program that failed.
        return max(report(error), ENGINE_FAILED)
    output.write_line(container_id)
    return 0


async def _tell_start(engine: EngineApi, created: CreatedContainer) -> None:
    """Say what of the host is in the way of the networks and ports that were asked for."""
    with contextlib.suppress(NotFoundError):  # It has ended and was removed.
        for warning in (await engine.inspect_container(created.container_id)).warnings:
            if warning not in created.warnings:
                output.write_message(f"WARNING: {warning}")


COMMANDS = (
    Command(
        "run",
        "IMAGE [COMMAND] [ARGUMENT...]",
        "Create a container of an image and start it.",
        run,
        (_DETACH, DETACH_KEYS, *_OPTIONS),
        (1, None),
        True,
        (
            "Exits with the container's exit code; 125 when the engine failed, 126 when the",
            "command cannot be executed, 127 when it was not found.",
        ),
    ),
    Command(
        "create",
        "IMAGE [COMMAND] [ARGUMENT...]",
        "Create a container of an image without starting it.",
        create,
        _OPTIONS,
        (1, None),
        True,
    ),
)
