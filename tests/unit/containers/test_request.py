"""Requests for containers: what is refused, and what image and request make together."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.containers.request import check_request, merge_process
from engine.errors import InvalidInputError, LimitError
from engine.types import ContainerRequest, ImageConfig, NetworkOptions, ResourceLimits

ID = "0123456789ab" + "c" * 52


def merged(config: ImageConfig | None = None, **request: object):
    return merge_process(
        config or ImageConfig(command=("sh",)),
        ContainerRequest(image="web", **request),
        container_id=ID,
    )


@pytest.mark.parametrize(
    ("entrypoint", "command", "asked_entrypoint", "asked_command", "expected"),
    [
        ((), ("sh",), None, (), ("sh",)),
        (("run",), ("fast",), None, (), ("run", "fast")),
        (("run",), ("fast",), None, ("slow",), ("run", "slow")),
        (("run",), ("fast",), ("walk",), (), ("walk",)),
        (("run",), ("fast",), ("walk",), ("slow",), ("walk", "slow")),
        (("run",), ("fast",), ("",), ("slow",), ("slow",)),
        (("run",), ("fast",), (), ("slow",), ("slow",)),
    ],
)
def test_entrypoint_and_command_are_merged_as_docker_merges_them(
    entrypoint, command, asked_entrypoint, asked_command, expected
):
    config = ImageConfig(entrypoint=entrypoint, command=command)
    process = merged(config, entrypoint=asked_entrypoint, command=asked_command)
    assert process.arguments == expected


@pytest.mark.parametrize("entrypoint", [None, ("",)])
def test_an_image_without_a_command_needs_one(entrypoint):
    with pytest.raises(InvalidInputError, match="no command specified"):
        merged(ImageConfig(), entrypoint=entrypoint)


def test_the_environment_begins_with_path_and_hostname_and_the_last_value_wins():
    config = ImageConfig(command=("sh",), environment=("PATH=/bin", "A=image", "B=image"))
    process = merged(config, environment=("A=user", "C=x=y"), hostname="box")
    assert process.environment == ("PATH=/bin", "HOSTNAME=box", "A=user", "B=image", "C=x=y")


def test_variables_of_an_image_that_are_none_are_left_out():
    config = ImageConfig(command=("sh",), environment=("BROKEN", "=x", "GOOD=1", "NUL=\0"))
    assert [entry for entry in merged(config).environment if entry != "GOOD=1"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=0123456789ab",
    ]


def test_the_request_goes_before_the_image_and_the_image_before_the_default():
    assert merged().working_directory == "/"
    config = ImageConfig(
        command=("sh",), working_directory="/srv", user="web", stop_signal="SIGQUIT"
    )
    process = merged(config)
    assert (process.working_directory, process.user, process.stop_signal) == (
        "/srv",
        "web",
        "SIGQUIT",
    )
    process = merged(config, working_directory="/tmp", user="0", stop_signal="INT")
    assert (process.working_directory, process.user, process.stop_signal) == ("/tmp", "0", "INT")


def test_the_hostname_is_the_beginning_of_the_id():
    assert merged().hostname == "0123456789ab"


def test_an_image_with_a_relative_working_directory_is_refused():
    with pytest.raises(InvalidInputError, match="needs to be an absolute path"):
        merged(ImageConfig(command=("sh",), working_directory="srv"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"limits": ResourceLimits(memory_bytes=(6 << 20) - 1)},
        {"limits": ResourceLimits(cpu_count=0.001)},
        {"limits": ResourceLimits(cpu_count=(os.cpu_count() or 1) + 0.5)},
        {"limits": ResourceLimits(cpu_count=float("nan"))},
        {"limits": ResourceLimits(pids=-2)},
        {"stop_timeout_seconds": -2.0},
        {"stop_timeout_seconds": float("inf")},
        {"stop_signal": "SIGNOTHING"},
    ],
)
def test_a_limit_outside_its_range_is_refused(wrong):
    with pytest.raises(LimitError) as caught:
        check_request(ContainerRequest(image="web", **wrong))
    assert caught.value.exit_code == 125


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a"},
        {"name": "-web"},
        {"name": "web/1"},
        {"name": "web\n"},
        {"name": "w" * 256},
        {"environment": ("NAME",)},
        {"environment": ("=value",)},
        {"environment": ("A=\0",)},
        {"working_directory": "srv"},
        {"working_directory": ""},
        {"hostname": "under_score"},
        {"hostname": "-a"},
        {"hostname": "a" * 64},
        {"command": ("a\0b",)},
        {"entrypoint": ("a\0b",)},
        {"user": "a\nb"},
        {"labels": (("", "x"),)},
    ],
)
def test_a_text_that_cannot_work_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        check_request(ContainerRequest(image="web", **wrong))


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"name": "web-1.prod_2"},
        {"limits": ResourceLimits(memory_bytes=6 << 20, cpu_count=0.5, pids=1)},
        {"limits": ResourceLimits(memory_bytes=0, cpu_count=0, pids=-1)},
        {"stop_timeout_seconds": -1.0, "stop_signal": "SIGRTMIN+3"},
        {"environment": ("A=", "B=c=d"), "hostname": "box.example", "user": "1000:1000"},
    ],
)
def test_what_can_work_is_let_through(right):
    check_request(ContainerRequest(image="web", **right))


@given(st.lists(st.text(alphabet="AB=x\0é ", max_size=6), max_size=8))
def test_whatever_an_image_says_every_variable_has_a_name_and_appears_once(entries):
    process = merged(ImageConfig(command=("sh",), environment=tuple(entries)))
    names = [entry.partition("=")[0] for entry in process.environment]
    assert all(names)
    assert len(names) == len(set(names))
    assert not any("\0" in entry for entry in process.environment)


@pytest.mark.parametrize("asked", [None, "mine"])
def test_in_the_hosts_network_a_container_has_the_hosts_name_unless_asked_otherwise(asked):
    process = merged(hostname=asked, network=NetworkOptions(mode="host"))

    assert process.hostname == (asked or os.uname().nodename)
    assert f"HOSTNAME={process.hostname}" in process.environment
