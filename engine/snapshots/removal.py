"""The job that removes a tree: alone, because every container and every claim ends with it.

It loads the standard library only, so that a worker is at work within a millisecond or two.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.errors import EngineError, NoSpaceError, SyscallError
from engine.linux.tree_removal import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable


def engine_error(error: OSError, what: str) -> EngineError:
    """An operating system's error as the engine says it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(what)
    name = error.filename
    detail = os.fsdecode(name) if isinstance(name, str | bytes) else what
    return SyscallError("file access", error.errno or errno.EIO, detail)


def remove_named_tree(
    arguments: bytes, descriptors: list[int], _report: Callable[[bytes], None]
) -> bytes:
    """Remove a tree; nothing there is no error.

    Args:
        arguments: One name, as the file system has it.
        descriptors: The directory that holds it.
    """
    if arguments in {b"", b".", b".."} or b"/" in arguments:
        raise SyscallError("unlinkat", errno.EINVAL, os.fsdecode(arguments))
    try:
        remove_tree(descriptors[0], arguments)
    except OSError as error:
        raise engine_error(error, os.fsdecode(arguments)) from error
    return b"null"


JOBS = {"remove-tree": remove_named_tree}
