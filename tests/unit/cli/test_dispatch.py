import os
import subprocess
import sys
from pathlib import Path

import pytest

from tui.__main__ import main
from tui.cli import dispatch, output, table

CHECKOUT = Path(__file__).resolve().parents[3]


def lamella(*words, environment=None, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "tui", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})},
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", table.names())
def test_every_command_of_the_table_is_there_and_has_a_help(name, capfd):
    assert dispatch.find_command(name).name == name
    assert main([name, "--help"]) == 0
    assert f"Usage: lamella {name}" in capfd.readouterr().out


def test_an_unknown_command_names_the_one_that_was_meant(capfd):
    assert main(["iamges"]) == 125
    assert capfd.readouterr().err.splitlines() == [
        "Error: unknown command: iamges, did you mean `images`?",
        "hint: see `lamella --help`",
    ]


def test_a_missing_operand_is_named(capfd):
    assert main(["rename", "web"]) == 125
    assert "needs 2 arguments: CONTAINER NAME" in capfd.readouterr().err


def test_the_application_needs_a_terminal():
    done = lamella()
    assert done.returncode == 125
    assert "needs a terminal" in done.stderr


def test_a_terminal_that_cannot_place_text_is_refused(monkeypatch, capfd):
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert main([]) == 125
    error, hint = capfd.readouterr().err.splitlines()
    assert error.endswith("TERM is dumb")
    assert "TERM=xterm" in hint


def test_an_unexpected_error_is_one_sentence_and_a_log(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LAMELLA_DEBUG", raising=False)

    def broken_opener(**_directories):
        raise ZeroDivisionError("surprise\x1b[31m")

    assert main(["ps"], opener=broken_opener) == 125
    told = capfd.readouterr().err
    log = tmp_path / "lamella" / "errors.log"
    assert "Traceback" not in told
    assert "\x1b" not in told
    assert str(log) in told
    assert "ZeroDivisionError" in log.read_text()


def test_a_removed_working_directory_is_said_not_traced(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "{sys.executable}" -m tui --root store ps'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert done.returncode == 125
    assert "the working directory was removed" in done.stderr
    assert "Traceback" not in done.stderr


def test_text_for_people_can_not_move_the_cursor():
    assert output.printable("a\x1b]0;title\x07b\u202ec\x9b1m") == "a�]0;title�b�c�1m"


def test_a_reader_that_leaves_is_no_error():
    script = f'"{sys.executable}" -m tui run --help | true; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
