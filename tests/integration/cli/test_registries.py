"""Logging in on a terminal, as a person does it, to a registry that wants a password."""

import json
import os
import pty
import signal
import subprocess

import pytest

from tests.command_line import CommandLine
from tests.registries import PASSWORD, USER, run_registry

pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path):
    with run_registry(tmp_path / "registry", has_passwords=True) as running:
        yield running.address


@pytest.fixture
def command_line(store_paths, tmp_path):
    made = CommandLine(store_paths)
    made.environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    made.environment["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    return made


class Terminal:
    """A command whose input and messages are on a terminal of its own."""

    def __init__(self, command_line, *words):
        self.master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            (*command_line.command, *words),
            stdin=terminal, stdout=terminal, stderr=terminal,
            env=command_line.environment, start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )  # fmt: skip
        os.close(terminal)
        self.said = b""

    def wait_for(self, text):
        while text not in self.said:
            self.said += os.read(self.master, 4096)

    def write(self, text):
        os.write(self.master, text)

    def end(self):
        try:
            while piece := os.read(self.master, 4096):
                self.said += piece
        except OSError:
            pass
        os.close(self.master)
        return self.process.wait()


def test_a_login_on_a_terminal_asks_and_does_not_show_the_password(
    command_line, registry, tmp_path
):
    terminal = Terminal(command_line, "login", registry)
    terminal.wait_for(b"Username: ")
    terminal.write(f"{USER}\n".encode())
    terminal.wait_for(b"Password: ")
    terminal.write(f"{PASSWORD}\n".encode())

    assert terminal.end() == 0
    assert b"Login Succeeded" in terminal.said
    assert PASSWORD.encode() not in terminal.said
    kept = json.loads((tmp_path / "docker" / "config.json").read_text())
    assert set(kept["auths"]) == {registry}
    assert "Login Succeeded" in command_line.text("login", registry)
    assert command_line.text("logout", registry) == (f"Removing login credentials for {registry}\n")
    done = command_line("search", f"{registry}/web")
    assert done.returncode == 1
    assert f"hint: `lamella login {registry}` says who you are" in done.stderr.decode()


@pytest.mark.parametrize("question", [b"Username: ", b"Password: "])
def test_a_question_ends_with_the_interrupt_key(command_line, registry, question):
    words = ("-u", USER) if question == b"Password: " else ()
    terminal = Terminal(command_line, "login", *words, registry)
    terminal.wait_for(question)
    terminal.write(b"\x03")

    assert terminal.end() in {130, -signal.SIGINT}
    assert b"Traceback" not in terminal.said


def test_a_login_by_pipe_and_a_search(command_line, registry):
    done = command_line("login", "-u", USER, "--password-stdin", registry, stdin=PASSWORD.encode())
    assert done.returncode == 0, done.stderr.decode()
    assert command_line.text("search", f"{registry}/nothing") == (
        "NAME   DESCRIPTION   STARS   OFFICIAL\n"
    )
    wrong = command_line("login", "-u", USER, "--password-stdin", registry, stdin=b"wrong")
    assert wrong.returncode == 1
    assert b"Error: " in wrong.stderr
    assert b"unauthorized" in wrong.stderr
