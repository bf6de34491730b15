"""Directories for tests of contexts."""

import contextlib
import os

from engine.build.context_tree import ContextTree
from engine.build.ignore import IgnoreRules, parse_ignore_file


def write_files(directory, *files):
    """Make files: a name alone is a file with its name as content, one with `/` a directory,
    `name -> target` a link, `name = content` a file with that content."""
    for text in files:
        if " -> " in text:
            name, _, target = text.partition(" -> ")
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        elif text.endswith("/"):
            (directory / text).mkdir(parents=True, exist_ok=True)
        else:
            name, _, content = text.partition(" = ")
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content or name)


@contextlib.contextmanager
def opened_context(directory, *ignored, memory=None):
    rules = IgnoreRules(parse_ignore_file(os.fsencode("\n".join(ignored)), name=".dockerignore"))
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield ContextTree(root, rules, memory=memory)
    finally:
        os.close(root)
