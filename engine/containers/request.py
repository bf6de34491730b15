"""What a request for a container may say, and the process that it and its image make together."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from engine.containers.limits import check_limits
from engine.containers.mount_requests import check_mounts
from engine.containers.names import check_container_name
from engine.containers.policies import check_policies
from engine.containers.process_options import HOST, check_options
from engine.errors import InvalidInputError, LimitError
from engine.late_dataclasses import dataclass
from engine.network.attachments import check_network_options, is_shared_namespace
from engine.runtime.isolation import (
    DEFAULT_STOP_TIMEOUT_SECONDS,
    default_environment,
    parse_signal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.types import ContainerRequest, ImageConfig

DEFAULT_STOP_SIGNAL = "SIGTERM"
_LONGEST_HOSTNAME = 63
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerProcess:
    """The process of a container, as image and request have it together.

    Attributes:
        arguments: The whole command line, never empty.
        entrypoint_count: How many of the arguments, from the first on, are the entrypoint.
        environment: `NAME=value`, each name once.
        stop_signal: As it was written, such as `SIGTERM` or `15`.
    """

    arguments: tuple[str, ...]
    entrypoint_count: int
    environment: tuple[str, ...]
    working_directory: str
    user: str
    hostname: str
    stop_signal: str
    stop_timeout_seconds: float


def check_request(request: ContainerRequest) -> None:
    """Refuse what cannot work, before anything is made.

    Raises:
        LimitError: A limit or an option is outside its range.
        InvalidInputError: A text has a form that it may not have.
    """
    if request.name is not None:
        check_container_name(request.name)
    check_limits(request.limits)
    check_policies(request)
    for entry in request.environment:
        check_environment_entry(entry)
    for what, texts in (
        ("command", request.command),
        ("--entrypoint", request.entrypoint or ()),
        ("--user", (request.user or "",)),
    ):
        _check_no_nul(what, texts)
    if request.user and not request.user.isprintable():
        raise InvalidInputError(f"invalid user: {request.user!r}")
    if request.working_directory is not None:
        check_working_directory(request.working_directory)
    if request.hostname is not None:
        _check_hostname(request.hostname)
    check_options(request.options, hostname=request.hostname)
    check_network_options(request.network, hostname=request.hostname)
    if is_shared_namespace(request.network.mode):
        for name, _value in request.options.sysctls:
            if name.startswith("net."):
                raise InvalidInputError(
                    f'sysctl "{name}" not allowed in host network namespace',
                    hint=f"With --network {request.network.mode} it would be set for others too",
                )
    if request.stop_signal is not None:
        parse_signal(request.stop_signal, option="--stop-signal")
    timeout = request.stop_timeout_seconds
    if timeout is not None and (not math.isfinite(timeout) or (timeout < 0 and timeout != -1)):
        raise LimitError("--stop-timeout", str(timeout), "seconds, or -1 to wait for ever")
    check_mounts(request.mounts)
    for key, _value in request.labels:
        if not key:
            raise InvalidInputError("invalid label: the key is empty", hint="Write KEY=VALUE")


def merge_process(
    config: ImageConfig, request: ContainerRequest, *, container_id: str
) -> ContainerProcess:
    """Put image and request together as Docker does (moby runconfig merge).

    Raises:
        InvalidInputError: Neither says what to run, or the image's words cannot work.
    """
    hostname = request.hostname or container_id[:12]
    # In the host's network the host's name is the one that the host's files know.
    is_hosts = request.network.mode == HOST and not request.hostname
    if is_hosts or request.options.uts_mode == HOST:
        hostname = os.uname().nodename
    working_directory = request.working_directory or config.working_directory or "/"
    check_working_directory(working_directory)
    stop_signal = request.stop_signal or config.stop_signal or DEFAULT_STOP_SIGNAL
    parse_signal(stop_signal, option="--stop-signal")
    entrypoint, command = _merge_arguments(config, request)
    arguments = (*entrypoint, *command)
    _check_no_nul("command", arguments)
    timeout = request.stop_timeout_seconds
    return ContainerProcess(
        arguments=arguments,
        entrypoint_count=len(entrypoint),
        environment=default_environment(
            hostname=hostname,
            # An image made by a careless tool may have entries that are no variables.
            image_environment=filter(_is_variable, config.environment),
            user_environment=request.environment,
            has_terminal=request.has_terminal,
        ),
        working_directory=working_directory,
        user=config.user if request.user is None else request.user,
        hostname=hostname,
        stop_signal=stop_signal,
        stop_timeout_seconds=DEFAULT_STOP_TIMEOUT_SECONDS if timeout is None else timeout,
    )


def check_working_directory(path: str) -> None:
    """Refuse a working directory that is not absolute."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInputError(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )


def _merge_arguments(
    config: ImageConfig, request: ContainerRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and command, which together are not empty."""
    if request.entrypoint is None:
        entrypoint, command = config.entrypoint, request.command or config.command
    else:
        # `--entrypoint ""` stands for none at all.
        entrypoint = () if request.entrypoint == ("",) else request.entrypoint
        command = request.command
    arguments = (*entrypoint, *command)
    if not arguments or not arguments[0]:
        raise InvalidInputError(
            "no command specified", hint="The image names none: write one behind the image's name"
        )
    return entrypoint, command


def check_environment_entry(entry: str) -> None:
    """Refuse what is no `NAME=value`."""
    if not _is_variable(entry):
        raise InvalidInputError(f"invalid environment variable: {entry!r}", hint="Write NAME=value")


def _is_variable(entry: str) -> bool:
    return entry.find("=") > 0 and "\0" not in entry


def _check_hostname(hostname: str) -> None:
    if len(hostname) > _LONGEST_HOSTNAME or not _HOSTNAME.fullmatch(hostname):
        raise InvalidInputError(
            f"invalid hostname format: {hostname}",
            hint="Letters, digits, dots and hyphens, at most 63",
        )


def _check_no_nul(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise InvalidInputError(f"invalid {what}: {text!r} has a NUL character")
