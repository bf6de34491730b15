"""Podman on the same host: its rules stay what they are, and both go on."""

import contextlib
import json
import os
import subprocess

import pytest

from tests.integration.images.corpus import need
from tests.integration.images.stacks import own_podman
from tests.integration.network.inside import Inside, published, running, said_by
from tests.integration.network.test_hosts import rules_of_others
from tests.programs import usual_path
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]

SETTINGS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
pids_limit = 0
[engine]
events_logger = "none"
"""


class Podman:
    """Its commands on the machine, with /var/lib as they leave it in a place of their own."""

    def __init__(self, world, words, settings):
        self._machine = world.machine
        self._words = words
        # It has its rules made by nft or iptables.
        self._environment = {
            **os.environ,
            "PATH": usual_path(),
            "CONTAINERS_CONF": str(settings),
        }
        script = "mount -t tmpfs none /var/lib && echo && exec sleep 1000"
        self._holder = subprocess.Popen(
            ("unshare", "--mount", "sh", "-c", script), stdout=subprocess.PIPE
        )
        self._holder.stdout.readline()

    def __call__(self, *words):
        enter = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")
        with self._machine.entered():
            done = subprocess.run(
                (*enter, *self._words, *words),
                env=self._environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


@pytest.fixture
def podman(world, tmp_path):
    need("podman", "runc")
    settings = tmp_path / "containers.conf"
    settings.write_text(SETTINGS)
    with (
        own_podman() as words,
        contextlib.closing(Podman(world, words, settings)) as calls,
    ):
        yield calls
        calls("rm", "-fa", "-t", "0")


async def test_podmans_rules_stay_and_both_work(world, engine, podman, tmp_path):
    archive = tmp_path / "starter.tar"
    await engine.save_images(("starter:latest",), archive)
    podman("load", "-q", "-i", str(archive))
    (image,) = podman("images", "-q").split()
    podman(
        "run", "-d", "--name", "theirs", "-p", f"9090:{ECHO_PORT}", image,
        "sleep", "1000",
    )  # fmt: skip
    (details,) = json.loads(podman("inspect", "theirs"))
    before = rules_of_others(world)
    assert before
    with contextlib.closing(Inside("theirs", details["State"]["Pid"])) as theirs:
        theirs.address4 = details["NetworkSettings"]["IPAddress"]
        ports = (published(ECHO_PORT, 8080),)
        with AnswersWithSource(theirs):

            def assert_theirs_works():
                assert said_by(world.neighbour, world.machine.address4, 9090).startswith("theirs")
                assert said_by(world.machine, "127.0.0.1", 9090).startswith("theirs")
                assert said_by(theirs, world.web.address4, ECHO_PORT) == (
                    f"web sees {world.machine.address4}"
                )

            assert_theirs_works()
            async with running(engine, "ours", published_ports=ports) as ours:
                ours.inside.address4 = ours.address4
                assert rules_of_others(world) == before
                with AnswersWithSource(ours.inside):
                    assert_theirs_works()
                    assert said_by(ours.inside, world.web.address4, ECHO_PORT) == (
                        f"web sees {world.machine.address4}"
                    )
                    machine = world.machine.address4
                    assert said_by(world.neighbour, machine, 8080).startswith("ours sees ")
                    assert said_by(world.machine, "127.0.0.1", 8080).startswith("ours sees ")
            assert rules_of_others(world) == before
            assert_theirs_works()
