"""The table of jobs: what is asked for is there, and what is there is asked for."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import engine
from engine.errors import ProcessError
from engine.runtime.worker import JOB_MODULES, find_job

SOURCES = [path.read_text() for path in Path(engine.__file__).parent.rglob("*.py")]


@pytest.mark.parametrize("name", JOB_MODULES)
def test_a_job_is_where_the_table_says(name: str) -> None:
    assert callable(find_job(name))


def test_every_job_of_these_modules_is_in_the_table() -> None:
    there = {
        name: module
        for module in set(JOB_MODULES.values())
        for name in importlib.import_module(module).JOBS
    }
    assert there == JOB_MODULES


def test_every_job_is_asked_for_somewhere() -> None:
    table = Path(engine.__file__).parent / "runtime/worker.py"
    others = "\n".join(text for text in SOURCES if text != table.read_text())
    # Once where it is, and once where it is asked for.
    assert [name for name in JOB_MODULES if len(re.findall(f'"{name}"', others)) < 2] == []


def test_another_one_is_refused() -> None:
    with pytest.raises(ProcessError, match="no such job: dance"):
        find_job("dance")
