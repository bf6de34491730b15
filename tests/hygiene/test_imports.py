"""What is loaded when: sets of modules, asked of a fresh interpreter."""

import ast
import importlib
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
        "import tui.cli.images, tui.cli.listing, tui.cli.inspection, tui.cli.stats; "
        "import tui.cli.events, tui.cli.logs, tui.cli.registries"
    )

    # Who speaks to no registry loads nothing of HTTP.
    assert not {"textual", "rich", "urllib3", "http.client"} & loaded


@pytest.mark.parametrize("package", ["engine", "engine.api", "engine.types"])
def test_a_package_offers_late_what_the_type_checker_sees(package):
    source = (CHECKOUT / package.replace(".", "/") / "__init__.py").read_text()
    seen = {
        (alias.name, node.module)
        for branch in ast.walk(ast.parse(source))
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    offered = importlib.import_module(package)

    assert {name for name, _module in seen} == set(offered.__all__)
    for name, module in seen:
        assert getattr(offered, name) is getattr(importlib.import_module(module), name)


def test_the_launcher_is_started_before_the_engine_is_loaded():
    before = modules_after("from engine.api import open_engine")

    assert "engine.runtime.launcher_process" in before
    assert not {"engine.api.engine", "asyncio", "msgspec", "sqlite3"} & before


LAUNCHER = {
    "engine",
    "engine.cgroups",
    "engine.cgroups.control_files",
    "engine.cgroups.group",
    "engine.cgroups.groups",
    "engine.cgroups.host",
    "engine.cgroups.limit_changes",
    "engine.cgroups.limit_files",
    "engine.cgroups.limits",
    "engine.deferred",
    "engine.errors",
    "engine.errors.build_sources",
    "engine.errors.builds",
    "engine.errors.kinds",
    "engine.errors.networks",
    "engine.late_dataclasses",
    "engine.linux",
    "engine.linux.capabilities",
    "engine.linux.connections",
    "engine.linux.device_filter",
    "engine.linux.files",
    "engine.linux.libc",
    "engine.linux.mounts",
    "engine.linux.netfilter",
    "engine.linux.netlink",
    "engine.linux.process",
    "engine.linux.routes",
    "engine.linux.seccomp",
    "engine.linux.terminal",
    "engine.logs",
    "engine.logs.writer",
    "engine.runtime",
    "engine.runtime.build_lane",
    "engine.runtime.health",
    "engine.runtime.health_checker",
    "engine.runtime.container_run",
    "engine.runtime.devices",
    "engine.runtime.exec_session",
    "engine.runtime.handover",
    "engine.runtime.init",
    "engine.runtime.isolation",
    "engine.runtime.journal",
    "engine.runtime.launcher",
    "engine.runtime.monitor",
    "engine.runtime.monitor_calls",
    "engine.runtime.monitor_network",
    "engine.runtime.monitor_process",
    "engine.runtime.mounting",
    "engine.runtime.namespaces",
    "engine.runtime.network",
    "engine.runtime.network_rules",
    "engine.runtime.network_view",
    "engine.runtime.name_sockets",
    "engine.runtime.pipes",
    "engine.runtime.program",
    "engine.runtime.protocol",
    "engine.runtime.reactor",
    "engine.runtime.reaper",
    "engine.runtime.records",
    "engine.runtime.restart",
    "engine.runtime.resource_limits",
    "engine.runtime.rootfs",
    "engine.runtime.spare",
    "engine.runtime.spec",
    "engine.runtime.starter",
    "engine.runtime.state_file",
    "engine.runtime.streams",
    "engine.runtime.user_network",
    "engine.runtime.user_network_guard",
    "engine.runtime.worker",
}
# What a monitor or an init loads besides, in the moment that it is needed.
LATER = {
    "engine.linux.inotify",
    "engine.runtime.busy_reactor",
    "engine.runtime.datagram_proxy",
    "engine.runtime.dns_messages",
    "engine.runtime.host_resolver",
    "engine.runtime.local_names",
    "engine.runtime.name_server",
    "engine.runtime.network_server",
    "engine.runtime.port_proxy",
}


def test_the_launcher_loads_exactly_its_own_parts_and_the_standard_library():
    loaded = modules_after("import engine.runtime.launcher", "-I", "-S")

    outside = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} - {
        "__main__"
    }
    assert outside == LAUNCHER
    heavy = {"asyncio", "subprocess", "logging", "pathlib", "tempfile", "shutil"}
    assert not heavy & loaded


def imported_inside_functions(module: str) -> set[str]:
    path = CHECKOUT / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = CHECKOUT / module.replace(".", "/") / "__init__.py"
    return {
        node.module
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("engine.")
    }


def test_what_its_children_load_later_is_as_small():
    later = set()
    for module in LAUNCHER - {"engine"}:
        later |= imported_inside_functions(module)
    for module in tuple(later):
        loaded = modules_after(f"import {module}", "-I", "-S")
        later |= {name for name in loaded if name.startswith("engine.")}

    assert later - LAUNCHER == LATER
