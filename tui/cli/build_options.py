"""From the options of `build` to what is asked of the engine."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.types import BuildRequest, BuildSecret, BuildSsh, NamedContext
from tui.cli.network_options import extra_host
from tui.cli.options import PLATFORM, Option, UsageError
from tui.cli.process_options import read_ulimits
from tui.cli.values import labels, optional_number, size_bytes, whole_number

if TYPE_CHECKING:
    from contextlib import ExitStack

    from tui.cli.options import Arguments

_NOW = "now"
_ARCHIVE_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_TAR_MAGIC = slice(257, 262)
_COPY_BYTES = 1 << 20

OPTIONS = (
    Option("tag", "t", "NAME[:TAG]", "Call the image so", True),
    Option(
        "file", "f", "PATH", "The Dockerfile, from here; PATH/Dockerfile without it; - is stdin"
    ),
    Option("target", "", "STAGE", "Build this stage, and what it needs"),
    Option("build-arg", "", "NAME[=VALUE]", "Value of an ARG; without one that of here", True),
    Option("label", "", "KEY=VALUE", "Label of the image", True),
    Option("no-cache", "", "", "Run every step"),
    Option("no-cache-filter", "", "STAGE", "Run every step of this stage", True),
    Option("pull", "", "", "Ask the registry for base images that are here, too"),
    Option(
        "cache-from", "", "IMAGE", "Take layers of this image as if they had been built here", True
    ),
    Option("squash", "", "", "Make one layer, on the base, of all that the build adds"),
    Option(
        "build-context", "", "NAME=SOURCE", "Directory or docker-image://IMAGE for --from", True
    ),
    Option("secret", "", "id=ID[,src=FILE|,env=NAME]", "For RUN --mount=type=secret", True),
    Option("ssh", "", "default|ID=SOCKET", "Agent for RUN --mount=type=ssh", True),
    Option("network", "", "MODE", "Of RUN: default, none or host"),
    Option("add-host", "", "NAME:ADDRESS", "For /etc/hosts of RUN", True),
    Option("shm-size", "", "SIZE", "Of /dev/shm of RUN, such as 128m"),
    Option("ulimit", "", "NAME=SOFT[:HARD]", "Resource limit of RUN", True),
    PLATFORM,
    Option(
        "timestamp", "", "SECONDS|now", "Latest time in the image; `now` keeps times as they are"
    ),
    Option("iidfile", "", "FILE", "Write the image's id to a file"),
    Option("check", "", "", "Check the Dockerfile, and build nothing"),
    Option("call", "", "build|check", "`check` is --check"),
    Option("progress", "", "KIND", "auto, plain, tty or quiet"),
    Option("quiet", "q", "", "Print nothing but the image's id"),
    Option("parallel", "", "COUNT", "How many steps run at once"),
    Option("on-failure", "", "shell", "When a step fails, open a shell on what it has written"),
    Option("watch", "", "", "Build again when the context changes, until interrupted"),
)


def read_request(arguments: Arguments, stack: ExitStack) -> BuildRequest:
    """Put a request together; whatever is opened for it closes with the stack.

    Raises:
        InvalidInputError: Something cannot be.
    """
    source = arguments.operands[0]
    if "://" in source or source.startswith("git@"):
        raise InvalidInputError(
            f"a context cannot be fetched: {source}",
            hint="`git clone` it, or download and unpack it, and name the directory",
        )
    file = arguments.text("file")
    context: Path | int | None
    content: bytes | None = None
    if source == "-":
        if file == "-":
            raise UsageError(
                "stdin can't be used for both build context and dockerfile", command="build"
            )
        context, content = _read_stdin(stack)
        dockerfile = file or ""
    else:
        context = Path(source).absolute()
        dockerfile = ""
        if file == "-":
            content = _all_of_stdin()
        elif file:
            dockerfile = _dockerfile_path(Path(file).absolute(), context)
    arguments_given = (_pair(text) for text in arguments.texts("build-arg"))
    timestamp = arguments.text("timestamp")
    return BuildRequest(
        context=context,
        dockerfile=dockerfile,
        dockerfile_content=content,
        names=arguments.texts("tag"),
        target=arguments.text("target") or "",
        arguments=tuple((name, value) for name, value in arguments_given if value is not None),
        labels=labels(arguments.texts("label")),
        platform=arguments.text("platform") or "",
        uses_cache=not arguments.is_on("no-cache"),
        uncached_stages=arguments.texts("no-cache-filter"),
        pulls=arguments.is_on("pull"),
        cache_sources=tuple(read_cache_source(text) for text in arguments.texts("cache-from")),
        squashes=arguments.is_on("squash"),
        named_contexts=tuple(_named_context(text) for text in arguments.texts("build-context")),
        secrets=tuple(read_secret(text) for text in arguments.texts("secret")),
        ssh=tuple(read_agent(text) for text in arguments.texts("ssh")),
        network=arguments.text("network") or "",
        extra_hosts=tuple(extra_host(text) for text in arguments.texts("add-host")),
        shared_memory_bytes=size_bytes("--shm-size", arguments.text("shm-size")),
        ulimits=read_ulimits(arguments.texts("ulimit")),
        epoch_seconds=None
        if timestamp in (None, _NOW)
        else whole_number("--timestamp", timestamp or ""),
        keeps_times=timestamp == _NOW,
        keeps_failed_step=arguments.text("on-failure") == "shell",
        most_parallel_steps=optional_number("--parallel", arguments.text("parallel"), smallest=1)
        or 0,
    )


def read_cache_source(text: str) -> str:
    """The image of an IMAGE, or of BuildKit's `type=registry,ref=IMAGE`.

    Raises:
        InvalidInputError: It is another kind of cache.
    """
    if "=" not in text:
        return text
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    if set(fields) != {"type", "ref"} or fields["type"] != "registry" or not fields["ref"]:
        raise InvalidInputError(
            f"--cache-from {text} is no image",
            hint="--cache-from IMAGE, or type=registry,ref=IMAGE; other kinds of caches are not "
            "kept here",
        )
    return fields["ref"]


def _dockerfile_path(path: Path, context: Path) -> str:
    """From the context if it is in there: then an ignore file beside it counts as well."""
    try:
        return str(path.relative_to(context))
    except ValueError:
        return str(path)


def _pair(text: str) -> tuple[str, str | None]:
    name, has_value, value = text.partition("=")
    if not name:
        raise InvalidInputError(f"invalid build argument: {text!r}", hint="Write it as NAME=VALUE")
    return name, value if has_value else os.environ.get(name)


def _named_context(text: str) -> NamedContext:
    name, has_value, value = text.partition("=")
    if not name or not has_value or not value:
        raise InvalidInputError(
            f"invalid context name {text}", hint="Write --build-context NAME=DIRECTORY"
        )
    if "://" in value and not value.startswith("docker-image://"):
        raise InvalidInputError(
            f"a context cannot be fetched: {value}",
            hint="Name a directory, or an image as docker-image://IMAGE",
        )
    source = value if value.startswith("docker-image://") else str(Path(value).absolute())
    return NamedContext(name=name, source=source)


def _fields(text: str, option: str) -> dict[str, str]:
    fields = {}
    for part in text.split(","):
        key, has_value, value = part.partition("=")
        if not has_value:
            raise InvalidInputError(
                f"invalid field '{part}' must be a key=value pair", hint=f"see {option} in --help"
            )
        fields[key.lower()] = value
    return fields


def read_secret(text: str) -> BuildSecret:
    """The secret of `id=ID,src=FILE` or `id=ID,env=NAME`.

    Raises:
        InvalidInputError: The text is another one, or the variable is not set.
    """
    fields = _fields(text, "--secret")
    identity = fields.pop("id", "")
    kind = fields.pop("type", "")
    path = fields.pop("src", "") or fields.pop("source", "")
    variable = fields.pop("env", "")
    if fields or kind not in {"", "file", "env"}:
        unknown = ", ".join(fields) or f"type={kind}"
        raise InvalidInputError(
            f"unexpected key '{unknown}' in '{text}'", hint="--secret id=ID,src=FILE"
        )
    if not identity:
        raise InvalidInputError(
            f"invalid secret {text!r}: it has no id", hint="--secret id=ID,src=FILE"
        )
    if kind == "env" and not variable:
        variable, path = path or identity, ""
    if not variable and not path and identity in os.environ and kind != "file":
        variable = identity
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise InvalidInputError(f"secret {identity}: the variable {variable} is not set")
        return BuildSecret(secret_id=identity, value=os.fsencode(value))
    return BuildSecret(secret_id=identity, path=Path(path or identity).absolute())


def read_agent(text: str) -> BuildSsh:
    """The agent of `default` or `ID=SOCKET`; blocking.

    Raises:
        InvalidInputError: There is none.
    """
    identity, _, path = text.partition("=")
    if not path:
        path = os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise InvalidInputError(
                "invalid empty ssh agent socket: SSH_AUTH_SOCK is not set",
                hint="Start an agent with `eval $(ssh-agent)`, or write --ssh ID=SOCKET",
            )
    try:
        is_socket = stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError as error:
        raise InvalidInputError(f"cannot use {path}: {error.strerror}") from None
    if not is_socket:
        raise InvalidInputError(
            f"{path} is no socket of an agent",
            hint="`ssh-add KEY` gives a key to the agent, and --ssh default the agent to the build",
        )
    return BuildSsh(ssh_id=identity, socket=Path(path).absolute())


def _all_of_stdin() -> bytes:
    if os.isatty(0):
        raise InvalidInputError(
            "nothing to build: standard input is a terminal",
            hint="`lamella build -f - . < Dockerfile`",
        )
    with os.fdopen(0, "rb", closefd=False) as stdin:
        return stdin.read()


def _read_stdin(stack: ExitStack) -> tuple[int | None, bytes | None]:
    """A tar of a context (its descriptor), or a Dockerfile that needs none."""
    if os.isatty(0):
        raise InvalidInputError(
            "nothing to build: standard input is a terminal",
            hint="`lamella build - < Dockerfile`, or `tar c . | lamella build -`",
        )
    file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is one
    with os.fdopen(0, "rb", closefd=False) as stdin:
        first = stdin.read(512)
        is_tar = first[_TAR_MAGIC] == b"ustar" or first.startswith(_ARCHIVE_STARTS)
        if not is_tar:
            return None, first + stdin.read()
        file.write(first)
        while piece := stdin.read(_COPY_BYTES):
            file.write(piece)
    file.seek(0)
    return file.fileno(), None
