"""An ordinary user for tests that run as root, made for the run and removed after it."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.api import EngineApi

CHECKOUT = Path(__file__).resolve().parent.parent


class NoAccountError(Exception):
    """An ordinary user cannot be had; the text says why."""


@dataclass(frozen=True)
class OrdinaryUser:
    """A user without privileges who can run the checkout's Python."""

    name: str
    user_id: int
    home: Path
    python: str
    module_path: str

    def command(self, *words: str) -> list[str]:
        """The words, to be run as this user with a session's usual environment."""
        environment = {
            "HOME": str(self.home),
            "USER": self.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONPATH": self.module_path,
            "PYTHONPYCACHEPREFIX": f"{self.home}/compiled",
        }
        variables = [f"{name}={value}" for name, value in environment.items()]
        identity = [f"--reuid={self.user_id}", f"--regid={self.user_id}", "--init-groups"]
        return ["setpriv", *identity, "--inh-caps=-all", "env", "-i", *variables, *words]

    def run(self, *words: str, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, in the user's home, and take its output."""
        return subprocess.run(
            self.command(*words),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def lamella(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as this user."""
        return self.run(self.python, "-m", "tui", *words)


@contextmanager
def ordinary_user(name: str) -> Iterator[OrdinaryUser]:
    """Make a user with subordinate ids; the user and everything of the user's goes at the end.

    Raises:
        NoAccountError: There is no useradd, or nothing that this user could run.
    """
    for program in ("useradd", "userdel", "setpriv"):
        if shutil.which(program) is None:
            raise NoAccountError(f"needs the program {program}")
    home = Path("/tmp") / name
    made = subprocess.run(
        ["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise NoAccountError(f"useradd failed: {made.stderr.strip()}")
    try:
        python, module_path = _runnable_python(name)
        user_id = pwd.getpwnam(name).pw_uid
        yield OrdinaryUser(name, user_id, home, python, module_path)
    finally:
        subprocess.run(["userdel", "--remove", name], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


def _runnable_python(name: str) -> tuple[str, str]:
    """A Python that this user may execute, and the path with our packages.

    The Python of the virtual environment may lie in root's home; then the system's of the same
    version does, because compiled modules fit it too.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = sysconfig.get_path("purelib")
    module_path = f"{CHECKOUT}:{packages}"
    identity = pwd.getpwnam(name)
    for python in (sys.executable, f"/usr/bin/python{version}"):
        words = ["setpriv", f"--reuid={identity.pw_uid}", f"--regid={identity.pw_gid}"]
        words += ["--clear-groups", "env", f"PYTHONPATH={module_path}", python]
        words += ["-c", "import engine.errors, msgspec, psutil"]
        if subprocess.run(words, capture_output=True, cwd="/", check=False).returncode == 0:
            return python, module_path
    raise NoAccountError(
        f"no Python {version} that an ordinary user may run with {CHECKOUT} and {packages}"
    )


def can_pause(engine: EngineApi) -> bool:
    """Whether the host lets this user freeze processes; an ordinary user needs a group."""
    return all(feature.is_available for feature in engine.host.features if feature.name == "pause")
