"""Rules about the text of the sources that no checker has."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tui.cli import table

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for top in ("engine", "tui", "tests", "benchmarks")
    for path in (CHECKOUT / top).rglob("*.py")
)
LONGEST = 500


def lines_with(pattern, *, under, besides=()):
    found = []
    for path in SOURCES:
        name = str(path.relative_to(CHECKOUT))
        if not name.startswith(under) or name in besides:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_file_can_be_read_in_one_go(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_the_engine_prints_nothing():
    assert not lines_with(r"(?<![\w.])print\(", under="engine/")


def test_nothing_is_left_to_do():
    marks = "TO" + "DO|FIX" + "ME|X" + "XX"
    assert not lines_with(rf"\b({marks})\b", under=("engine/", "tui/", "tests/", "benchmarks/"))


def test_frozen_records_are_compiled_late():
    # A command loads a hundred of them: engine/late_dataclasses.py says what that costs otherwise.
    early = lines_with(r"^from dataclasses import .*\bdataclass\b", under=("engine/", "tui/"))
    files = {line.partition(":")[0] for line in early}

    assert not [line for line in lines_with("frozen=True", under=tuple(files)) if files]


def test_every_directory_of_tests_is_a_package():
    # Two modules of one name cannot be collected together otherwise.
    directories = {path.parent for path in (CHECKOUT / "tests").rglob("*.py")}

    assert not [each for each in directories if not (each / "__init__.py").exists()]


def test_no_test_sleeps():
    # The leak check looks again at what other processes are about to give up, with a deadline.
    assert not lines_with(
        r"(?<!def )\b(time|asyncio)\.sleep\((?!0\))", under="tests/", besides=("tests/leaks.py",)
    )


def test_only_the_linux_package_speaks_to_the_c_library():
    outside = [
        line
        for line in lines_with(r"^\s*(import|from) ctypes", under=("engine/", "tui/"))
        if not line.startswith("engine/linux/")
    ]
    assert not outside


def test_processes_of_a_container_need_no_codec_that_python_has_not_loaded():
    # Between the container's namespaces and its program nothing can be imported any more.
    codecs = r"""(\bencoding=|\.(en|de)code\()["'](?!utf-8)"""
    assert not lines_with(
        codecs, under=("engine/runtime/", "engine/cgroups/", "engine/linux/", "engine/logs/")
    )


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == table.VERSION


def test_imports_point_down():
    script = Path(sys.executable).parent / "lint-imports"
    if not script.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run(
        [script, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
