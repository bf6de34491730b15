"""What a build reads: its context, the Dockerfile, and what .dockerignore leaves out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.build.content_digests import DigestMemory
from engine.build.context_archive import unpack_context
from engine.build.context_tree import ContextTree
from engine.build.ignore import IgnoreRules, parse_ignore_file
from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.linux.files import open_in_root
from engine.operations import carry_through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from engine.types import BuildRequest

DEFAULT_DOCKERFILE = "Dockerfile"
_IGNORE_FILE = ".dockerignore"
_MOST_BYTES = 16 << 20
_MEMORIES = "build-contexts"
_UNPACKED = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenContext:
    """A context that is open.

    Attributes:
        label: What tells it from others: its path.
        tree: Its files; None if there is no context.
        root: A descriptor of its directory; -1 without.
        memory: What is known of its contents from earlier builds; saved when a build ends.
    """

    label: str
    tree: ContextTree | None
    root: int
    memory: DigestMemory
    dockerfile: bytes
    dockerfile_name: str


@contextlib.asynccontextmanager
async def open_context(
    request: BuildRequest, staging: Path, root: Path
) -> AsyncIterator[OpenContext]:
    """Hold a build's context open for a block.

    Args:
        request: Says which.
        staging: The build's own directory.
        root: Of the store: what is known of contents is kept there.

    Raises:
        InvalidInputError: There is no such directory, or no Dockerfile in it.
        IgnoreFileError: .dockerignore cannot be read.
        ArchiveError: What comes on standard input is no tar, or damaged.
    """
    if isinstance(request.context, int):
        await unpack_context(request.context, staging / _UNPACKED)
    with contextlib.ExitStack() as stack:
        context = await carry_through(asyncio.to_thread(_open, request, staging, root, stack))
        yield context
        await asyncio.to_thread(context.memory.save)


def _open(
    request: BuildRequest, staging: Path, root: Path, stack: contextlib.ExitStack
) -> OpenContext:
    directory = _directory(request, staging)
    if directory is None:
        if request.dockerfile_content is None:
            raise InvalidInputError(
                "there is no context to take a Dockerfile from",
                hint="Name a directory, or give the Dockerfile with -f -",
            )
        return OpenContext(
            label="-",
            tree=None,
            root=-1,
            memory=DigestMemory(),
            dockerfile=request.dockerfile_content,
            dockerfile_name=DEFAULT_DOCKERFILE,
        )
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InvalidInputError(
                f"unable to prepare context: path {str(directory)!r} not found",
                hint="Name the directory that has the files of the build",
            ) from None
        reason = error.strerror or str(error)
        raise InvalidInputError(f"unable to prepare context: {directory}: {reason}") from None
    stack.callback(os.close, descriptor)
    name = request.dockerfile or DEFAULT_DOCKERFILE
    content = request.dockerfile_content
    if content is None:
        content = _read_dockerfile(descriptor, directory, name)
    rules = _read_rules(descriptor, name if request.dockerfile_content is None else "")
    memories = root / _MEMORIES
    memories.mkdir(mode=0o700, exist_ok=True)
    key = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()
    memory = DigestMemory(str(memories / key)) if isinstance(request.context, Path) else None
    memory = memory or DigestMemory()
    return OpenContext(
        label=str(directory.resolve()) if isinstance(request.context, Path) else "-",
        tree=ContextTree(descriptor, rules, memory=memory),
        root=descriptor,
        memory=memory,
        dockerfile=content,
        dockerfile_name=os.path.basename(name) if request.dockerfile_content is None else "-",
    )


def _directory(request: BuildRequest, staging: Path) -> Path | None:
    return staging / _UNPACKED if isinstance(request.context, int) else request.context


def open_named_context(path: str) -> tuple[int, IgnoreRules]:
    """Open a directory that has a name in the build; blocking.

    Returns:
        Its descriptor, which is the caller's, and what is left out of it.

    Raises:
        InvalidInputError: There is no such directory.
        IgnoreFileError: Its .dockerignore cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(
            f"failed to get build context {path}: {(error.strerror or str(error)).lower()}",
            hint="--build-context NAME=DIRECTORY names a directory",
        ) from None
    try:
        return descriptor, _read_rules(descriptor, "")
    except BaseException:
        os.close(descriptor)
        raise


def _read_dockerfile(context: int, directory: Path, name: str) -> bytes:
    try:
        if os.path.isabs(name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            descriptor = open_in_root(
                context, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InvalidInputError(
                f"failed to read dockerfile: open {name}: no such file or directory",
                hint=f"-f names another one than {os.path.join(directory, name)}",
            ) from None
        reason = (error.strerror or str(error)).lower()
        raise InvalidInputError(f"failed to read dockerfile: open {name}: {reason}") from None


def _read_rules(context: int, dockerfile: str) -> IgnoreRules:
    for name in _ignore_names(dockerfile):
        try:
            if os.path.isabs(name):
                descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            else:
                descriptor = open_in_root(
                    context, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            return IgnoreRules(parse_ignore_file(file.read(_MOST_BYTES), name=name))
    return IgnoreRules(())


def context_rules(request: BuildRequest) -> IgnoreRules:
    """What .dockerignore leaves out of a context that is a directory; blocking."""
    if not isinstance(request.context, Path):
        return IgnoreRules(())
    try:
        descriptor = os.open(request.context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInputError(f"unable to prepare context: {request.context}: {reason}") from None
    try:
        return _read_rules(descriptor, request.dockerfile or DEFAULT_DOCKERFILE)
    finally:
        os.close(descriptor)


def _ignore_names(dockerfile: str) -> Iterator[str]:
    if dockerfile:
        yield dockerfile + _IGNORE_FILE
    yield _IGNORE_FILE
