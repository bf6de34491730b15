"""What is loaded when: sets of modules, asked of a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = {
    "textual",
    "rich",
    "asyncio",
    "msgspec",
    "sqlite3",
    "psutil",
    "pyroute2",
    "ctypes",
    "argparse",
}


def modules_after(code: str, *options: str) -> set[str]:
    script = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{code}\n"
    script += "sys.stderr.write('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, *options, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return set(done.stderr.split("\n"))


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["help"], ["-v"]])
def test_version_and_help_import_nothing_heavy(words):
    loaded = modules_after(f"from tui.__main__ import main; main({words!r})")

    assert not HEAVY & loaded
    assert {name for name in loaded if name.startswith(("engine", "tui"))} == {
        "tui",
        "tui.__main__",
        "tui.cli",
        "tui.cli.table",
    }


def test_help_of_a_command_opens_no_engine():
    loaded = modules_after("from tui.__main__ import main; main(['run', '--help'])")

    assert "engine.api" not in loaded
    assert not {"textual", "rich", "asyncio", "msgspec", "sqlite3"} & loaded


def test_a_command_with_an_engine_imports_no_interface():
    loaded = modules_after(
        "import tui.cli.run, tui.cli.foreground, tui.cli.session, engine.api; "
        "import tui.cli.images, tui.cli.listing, tui.cli.inspection, tui.cli.watching, tui.cli.logs"
    )

    assert not {"textual", "rich"} & loaded


def test_the_launcher_loads_the_standard_library_and_its_own_parts_only():
    loaded = modules_after("import engine.runtime.launcher", "-I", "-S")

    ours = {name for name in loaded if name.partition(".")[0] in ("engine", "tui")}
    foreign = {
        name.partition(".")[0]
        for name in loaded
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert foreign <= {"engine", "__main__"}
    assert all(
        name in ("engine", "engine.errors", "engine.logs", "engine.logs.writer")
        or name.startswith(("engine.linux", "engine.cgroups", "engine.runtime"))
        for name in ours
    ), sorted(ours)
    heavy = {"asyncio", "subprocess", "logging", "pathlib", "tempfile", "shutil", "msgspec"}
    assert not heavy & loaded
