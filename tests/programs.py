"""Programs that tests have as their own tools, where they are installed.

What is tested has to do without many of them. So tests run with a PATH that does not lead there,
and a tool that is looked for in PATH would not be found.
"""

from __future__ import annotations

import os
import shutil

import pytest

_USUAL_PLACES = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)


def usual_path() -> str:
    """PATH with every place where programs usually are, for tools that look for others."""
    own = os.environ.get("PATH", "")
    return os.pathsep.join([*filter(None, own.split(os.pathsep)), *_USUAL_PLACES])


def installed_program(name: str) -> str:
    """The absolute path of a tool; skips the test where it is not installed."""
    found = shutil.which(name, path=usual_path())
    if found is None:
        pytest.skip(f"{name} is not installed (`make test-tools` installs it)")
    return found
