"""A command from a cold shell: what it loads, what it starts, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
TOLD = """
import json, sys
from tui.__main__ import main

code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""
STARTED = """
import json, sys
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in EVENTS else None)
EVENTS = {"os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "os.exec"}
from tui.__main__ import main

main(sys.argv[1:])
print(json.dumps(started))
"""
# What is there for other commands, or once a boot. One of them costs milliseconds at each start.
NOT_FOR_A_RUN = {
    "engine.api.image_operations",
    "engine.containers.committing",
    "engine.containers.copying",
    "engine.containers.demo",
    "engine.containers.prune",
    "engine.containers.seccomp_documents",
    "engine.containers.sessions",
    "engine.containers.update",
    "engine.images.archive",
    "engine.images.commits",
    "engine.images.usage",
    "engine.interface",
    "engine.linux.seccomp_rules",
    "engine.runtime.session_client",
    "engine.snapshots.index",
    "engine.snapshots.tree_jobs",
    "engine.snapshots.volume_files",
    "engine.store.event_history",
    "engine.types.files",
    "engine.types.sessions",
    "engine.types.system",
    "engine.types.volumes",
    "tui.bridge",
    "tui.cli.connection",
    "tui.cli.listing",
    "tui.terminal.relay",
    *("argparse", "hmac", "random", "secrets", "shutil", "tarfile", "tempfile"),
}


@pytest.fixture
def run(store_paths):
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}

    def run(*command, expected=0, **options):
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
            **options,
        )
        assert done.returncode == expected, done.stderr
        return done

    run("-m", "tui", *store_paths.options, "demo")
    names = run("-m", "tui", *store_paths.options, "ps", "-aq").stdout.split()
    run("-m", "tui", *store_paths.options, "rm", "-f", *names)
    return run


def test_a_run_loads_nothing_that_it_does_not_need(run, store_paths):
    words = (*store_paths.options, "run", "--rm", "starter", "true")
    code, loaded = json.loads(run("-c", TOLD, *words).stdout)

    assert code == 0
    assert NOT_FOR_A_RUN & set(loaded) == set()
    tops = {name.partition(".")[0] for name in loaded}
    own = {"__main__", "engine", "tui"}
    set_up = {name for name in tops if name.startswith(("__editable__", "_distutils_hack"))}
    outside = tops - sys.stdlib_module_names - own - set_up - {"sitecustomize", "usercustomize"}
    assert outside <= {"msgspec", "typing_extensions"}


def test_a_store_that_cannot_be_opened_leaves_no_launcher(run, tmp_path):
    place = tmp_path / "file"
    place.write_text("")

    # The check for what tests leave behind looks for processes.
    told = run("-m", "tui", "--root", str(place), "rmi", "web", expected=1).stderr

    assert "it is not a directory" in told


def test_who_only_looks_starts_no_other_process(run, store_paths):
    def started_by(*words):
        return json.loads(run("-c", STARTED, *store_paths.options, *words).stdout.splitlines()[-1])

    for words in (
        ["ps", "-a"],
        ["images"],
        ["inspect", "starter"],
        ["volume", "ls"],
        ["image", "ls"],
    ):
        assert started_by(*words) == []
    assert "os.posix_spawn" in started_by("rmi", "starter")


def test_the_exit_code_and_the_output_of_a_run_arrive_whole(run, store_paths):
    script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 7"
    done = run(
        "-m", "tui", *store_paths.options, "run", "--rm", "starter", "sh", "-c", script, expected=7
    )

    assert done.stdout.splitlines() == [f"line {number}" for number in range(5000)]
