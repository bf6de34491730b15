"""The processes that share a run of the suite, and what each of them may call its own.

A worker's stores and temporary files have its name in their paths, so that what it leaves behind
is told from what the tests beside it are using.
"""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_MOST_WORKERS = 4
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
_RUN_PREFIX = f"/tmp/lamella-{os.getppid() if _WORKER else os.getpid()}-"

STORE_PREFIX = f"{_RUN_PREFIX}{_WORKER}-" if _WORKER else _RUN_PREFIX
"""How the path of every store begins that this process makes; short, for the names of sockets."""


def places(config: pytest.Config) -> tuple[str, ...]:
    """Where this process's tests keep files; for the controller, where all workers do."""
    return (f"{_temporary_directory(config)}/", STORE_PREFIX)


def stores() -> list[str]:
    """The stores of this process that are there now; for the controller, of all workers."""
    return glob.glob(f"{STORE_PREFIX}*")


def count_workers() -> int:
    """How many workers `-n auto` has; half of a test is waiting, so two more than processors."""
    return max(2, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) + 2))


def keep_compiled_modules(config: pytest.Config) -> None:
    """Let the programs that tests start compile a module once a run, and not in the checkout.

    Hundreds of them start, and many a machine has PYTHONDONTWRITEBYTECODE set.
    """
    if _WORKER:
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = f"{_temporary_directory(config)}/compiled"


def _temporary_directory(config: pytest.Config) -> Path:
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    return factory.getbasetemp()
