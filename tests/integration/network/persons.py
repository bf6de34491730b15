"""An ordinary user on the machine of a world, and what the host lets this user have."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.conftest import remove_store
from tests.integration.network.inside import Inside

IMAGE = "starter:latest"
PROGRAMS = ("pasta", "slirp4netns")
_STARTER = """
import asyncio
from pathlib import Path
from engine.api import open_engine

async def make():
    async with open_engine(root=Path("{store}")) as engine:
        await engine.make_starter_image()

asyncio.run(make())
"""


_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin")


class Person:
    """Commands of an ordinary user on the machine, as the host lets them.

    Args:
        user: Who it is.
        tun: A node that stands for /dev/net/tun; the host's own, which is closed, without one.
        programs: Those of `PROGRAMS` that are there, the one that is taken first.
        resolver: The machine's resolv.conf.
    """

    def __init__(self, user, tun, programs, resolver):
        self.user = user
        self.tun = tun
        self.programs = programs
        self.program = programs[0] if tun and programs else ""
        self.resolver = resolver
        # What nobody can execute is not installed.
        self.stand_ins = dict.fromkeys(set(PROGRAMS) - set(programs), "/dev/null")
        self.store = Path(tempfile.mkdtemp(prefix="lamella-test-", dir="/tmp"))
        os.chown(self.store, user.user_id, user.user_id)

    def lamella(self, *words, is_checked=True):
        return self.python("-m", "tui", "--root", str(self.store / "s"), *words,
                           is_checked=is_checked)  # fmt: skip

    def python(self, *words, is_checked=True):
        command = self.user.command(self.user.python, *words)
        # In the place of the host's files, which nobody may change for a test.
        mounts = [(self.resolver, "/etc/resolv.conf")]
        if self.tun:
            mounts.append((self.tun, "/dev/net/tun"))
        for program, stand_in in self.stand_ins.items():
            for directory in _DIRECTORIES:
                if (path := Path(directory, program)).exists():
                    mounts.append((stand_in, path))
        script = "".join(f"mount --bind {source} {target} && " for source, target in mounts)
        command = ["unshare", "--mount", "sh", "-c", script + 'exec "$0" "$@"', *command]
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=60, check=False
        )
        assert not is_checked or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def warning(self, name):
        """What `inspect` says of a container that has no way out."""
        (document,) = json.loads(self.lamella("inspect", name).stdout)
        (found,) = (text for text in document["warnings"] if "loopback device" in text)
        return found

    @property
    def feature(self):
        """What `info` says of networks."""
        document = json.loads(self.lamella("info", "--format", "json").stdout)
        (found,) = (one for one in document["features"] if one["name"] == "network")
        return found

    @property
    def way_out(self):
        """The program that speaks for the one container that runs."""
        (found,) = (
            process
            for process in psutil.process_iter(("cmdline", "uids"))
            # Its file is another one on each kind of processor.
            if (process.info["cmdline"] or [""])[0] == self.program
            and process.info["uids"].real == self.user.user_id
        )
        return found

    def start(self, name, *options):
        self.lamella("run", "-d", "--name", name, *options, IMAGE, "sleep", "1000")
        (document,) = json.loads(self.lamella("inspect", name).stdout)
        return Inside(name, document["State"]["Pid"]), document


def needs(*programs):
    missing = [one for one in programs if shutil.which(one) is None]
    if missing or not Path("/dev/net/tun").exists():
        pytest.skip(f"needs {' and '.join(programs)}, and a kernel with tun devices")


@contextlib.contextmanager
def made_person(user, tun, programs, resolver):
    made = Person(user, tun, programs, resolver)
    try:
        script = _STARTER.format(store=made.store / "s")
        ended = user.run(user.python, "-c", script)
        assert ended.returncode == 0, ended.stderr
        yield made
    finally:
        for line in made.lamella("ps", "-aq", is_checked=False).stdout.split():
            made.lamella("rm", "-f", line, is_checked=False)
        remove_store(made.store)
