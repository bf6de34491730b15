"""What ADD has besides COPY: addresses, and archives of the context, which it unpacks."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from engine.build.archive_streams import is_archive
from engine.errors import BuildSourceChangedError, FeatureUnavailableError
from engine.linux.files import open_directory
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.build.selection import Selection

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_REPOSITORY = re.compile(
    r"(?:git|ssh)://|[^/@:]+@[^/:]+:|https?://[^#?]+\.git(?:[#?/]|$)|https?://[^?]*\.git\?",
    re.IGNORECASE,
)
_REPLACED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO))


def is_address(source: str) -> bool:
    """Whether a source of ADD is fetched, and not looked for in the context."""
    return _ADDRESS.match(source) is not None


def refuse_repositories(sources: Iterable[str]) -> None:
    """Refuse sources of ADD that are git repositories.

    Raises:
        FeatureUnavailableError: One is.
    """
    for source in sources:
        if _REPOSITORY.match(source) is not None:
            raise FeatureUnavailableError(
                f"ADD of the git repository {source}",
                "no git is used here",
                remedy="Clone it into the context, or ADD an archive of it with --unpack=true",
            )


def mark_archives(root: int, selection: Selection) -> None:
    """Mark the files that are archives; blocking. Their beginnings are read, names do not count.

    Args:
        root: Descriptor of the directory that everything was selected from.
        selection: Gets the marks.

    Raises:
        BuildSourceChangedError: A file is gone.
    """
    for source in selection.sources:
        if source.is_directory or source.content is not None:
            continue
        (file,) = source.files
        if file.kind is not FileKind.FILE:
            continue
        parent, _, name = file.path.rpartition(b"/")
        try:
            directory = open_directory(root, parent or b".")
            try:
                descriptor = os.open(name, _READ_FLAGS, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            if error.errno in _REPLACED:
                raise BuildSourceChangedError(os.fsdecode(file.path)) from None
            raise
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                source.is_archive = is_archive(descriptor)
        finally:
            os.close(descriptor)
