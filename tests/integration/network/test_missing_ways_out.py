"""What is said to an ordinary user when a container has no way out, or when there is a choice."""

import subprocess

import pytest

from tests.integration.network.persons import IMAGE, PROGRAMS, made_person, needs

pytestmark = pytest.mark.root

NO_PROGRAM = (
    "The container has only its loopback device: neither pasta nor slirp4netns is installed. "
    "Install one of them (apt install passt, or apt install slirp4netns), "
    "or run with --network host or none"
)
UNSOUND = (
    "The installed pasta may cut off what the container sends, unnoticed by who receives it. "
    "Install slirp4netns (apt install slirp4netns), or passt of May 2025 or newer"
)
NOTHING = (
    "The container has only its loopback device: neither pasta nor slirp4netns is installed and "
    "/dev/net/tun cannot be opened. "
    "Install one of them (apt install passt, or apt install slirp4netns). "
    "Have root let everybody (modprobe tun; chmod 666 /dev/net/tun), "
    "or run with --network host or none"
)


@pytest.mark.parametrize(("has_tun", "sentence"), [(True, NO_PROGRAM), (False, NOTHING)])
def test_what_is_missing_is_said_with_what_to_do(world, unprivileged_user, tun, has_tun, sentence):
    node = tun if has_tun else None
    with made_person(unprivileged_user, node, (), world.resolver) as person:
        person.lamella("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
        assert person.warning("web") == sentence
        assert person.feature["remedy"] == sentence
        assert not person.feature["is_available"]


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("pasta 0.0~git20250503.587980c-2", "pasta"),
        ("pasta 2025_06_11.0293c6f", "pasta"),
        ("pasta 0^20230823.ga7e4bfb-1", "slirp4netns"),
        ("pasta unknown version", "slirp4netns"),
    ],
)
def test_pasta_is_taken_where_both_are_installed_unless_it_loses_what_is_sent(
    world, unprivileged_user, tun, tmp_path, version, taken
):
    needs(*PROGRAMS)
    stand_in = tmp_path / "pasta"
    stand_in.write_text(f"#!/bin/sh\necho '{version}'\n")
    stand_in.chmod(0o755)
    with made_person(unprivileged_user, tun, PROGRAMS, world.resolver) as person:
        person.stand_ins["pasta"] = str(stand_in)
        assert person.feature["detail"].startswith(f"out by /usr/bin/{taken} (")
        assert person.feature["remedy"] == ""


def test_an_old_pasta_is_better_than_nothing_and_says_what_it_does(world, unprivileged_user, tun):
    needs("pasta")
    said = subprocess.run(["pasta", "--version"], capture_output=True, text=True, check=False)
    if "unknown version" not in said.stdout:
        pytest.skip("the installed pasta is none that Debian 12 has")
    with made_person(unprivileged_user, tun, ("pasta",), world.resolver) as person:
        assert person.feature["is_available"]
        assert person.feature["remedy"] == UNSOUND
        inside, document = person.start("web")
        inside.close()
        assert UNSOUND in document["warnings"]
        assert person.way_out.is_running()
