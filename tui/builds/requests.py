"""What makes a build's request of a form's fields."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.types import BuildRequest
from tui.cli.build_options import read_agent, read_cache_source, read_secret
from tui.cli.values import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.types import BuildSecret

_Value = TypeVar("_Value")

_ARGUMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class BuildFieldError(ValueError):
    """A field holds something that makes no sense; the text says what is expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFields:
    """What stands in the form."""

    context: str
    dockerfile: str = ""
    names: str = ""
    target: str = ""
    arguments: str = ""
    """One `NAME=value` a line; a name alone takes its value from the environment."""
    platform: str = ""
    network: str = ""
    labels: str = ""
    """`KEY=value`, several with spaces between; quotes as in a shell."""
    secrets: str = ""
    """As `--secret` takes them, in the same way."""
    ssh: str = ""
    cache_sources: str = ""
    uses_cache: bool = True
    pulls: bool = False
    squashes: bool = False


def fields_of(request: BuildRequest) -> BuildFields:
    """Write a request as the form shows it."""
    return BuildFields(
        context=str(request.context) if isinstance(request.context, Path) else "",
        dockerfile=request.dockerfile,
        names=" ".join(request.names),
        target=request.target,
        arguments="\n".join(f"{name}={value}" for name, value in request.arguments),
        platform=request.platform,
        network=request.network,
        labels=shlex.join(f"{key}={value}" for key, value in request.labels),
        secrets=shlex.join(_secret_text(secret) for secret in request.secrets),
        ssh=shlex.join(f"{agent.ssh_id}={agent.socket}" for agent in request.ssh),
        cache_sources=" ".join(request.cache_sources),
        uses_cache=request.uses_cache,
        pulls=request.pulls,
        squashes=request.squashes,
    )


def parse_fields(
    fields: BuildFields, *, directory: str, environment: Mapping[str, str]
) -> BuildRequest:
    """Make the request; blocking, as it looks for agents.

    Args:
        fields: Of the form.
        directory: What relative paths begin at.
        environment: Of this process.

    Raises:
        BuildFieldError: A field makes no sense.
    """
    if not fields.context:
        raise BuildFieldError("context", "Context: the directory with the files to copy from")
    context = os.path.normpath(os.path.join(directory, os.path.expanduser(fields.context)))
    return BuildRequest(
        context=Path(context),
        dockerfile=os.path.expanduser(fields.dockerfile),
        names=tuple(fields.names.replace(",", " ").split()),
        target=fields.target,
        arguments=_arguments(fields.arguments, environment),
        platform=fields.platform,
        network=fields.network,
        labels=_read("labels", fields.labels, _label),
        secrets=_read("secrets", fields.secrets, read_secret),
        ssh=_read("ssh", fields.ssh, read_agent),
        cache_sources=_read("cache-from", fields.cache_sources, read_cache_source),
        uses_cache=fields.uses_cache,
        pulls=fields.pulls,
        squashes=fields.squashes,
        # The key that opens a shell in a failed step needs what that has left.
        keeps_failed_step=True,
    )


def _read(field: str, text: str, read: Callable[[str], _Value]) -> tuple[_Value, ...]:
    """Read each word of a field."""
    try:
        return tuple(read(word) for word in shlex.split(text))
    except (InvalidInputError, ValueError) as error:
        said = error.message if isinstance(error, InvalidInputError) else "a quote has no end"
        hint = f"\n{error.hint}" if isinstance(error, InvalidInputError) and error.hint else ""
        raise BuildFieldError(field, f"{field.capitalize()}: {said}{hint}") from None


def _label(text: str) -> tuple[str, str]:
    (pair,) = labels((text,))
    return pair


def _secret_text(secret: BuildSecret) -> str:
    if secret.path is None:
        # Its value is written nowhere; the variable is asked for again.
        return f"id={secret.secret_id}"
    return f"id={secret.secret_id},src={secret.path}"


def _arguments(text: str, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for line in (line.strip() for line in text.splitlines()):
        name, equals, value = line.partition("=")
        if not line:
            continue
        if not _ARGUMENT_NAME.match(name):
            raise BuildFieldError("arguments", f"Arguments: {line!r} is not NAME=value")
        if not equals:
            if name not in environment:
                text = f"Arguments: {name} has no value, and the environment has none either"
                raise BuildFieldError("arguments", text)
            value = environment[name]
        found.append((name, value))
    return tuple(found)
