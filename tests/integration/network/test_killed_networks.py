"""Whoever attaches a container to networks, or takes it out, is killed at each step of it.

What is asked each time is the same: when the next application has looked there is no rule, no
link, no reserved port and no address of the container's left, and it starts as if nothing had been.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.api import open_engine
from engine.network.firewall import Firewall
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, NetworkRequest
from tests.integration.network.inside import IMAGE, attached, published

if TYPE_CHECKING:
    from engine.api import EngineApi
    from engine.types import ContainerDetails
    from tests.conftest import StorePaths
    from tests.worlds import World

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]

CHECKOUT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 30
PORT = 8080

# The application forks the monitor itself, so that what is killed where can be said before. A step
# is a function, whether it dies before or after it, and who: the process that is in it, its parent
# (of a starter the monitor, of a monitor the application), or both.
_APPLICATION = """
import asyncio, os, signal, socket, sys
from pathlib import Path
import msgspec
from engine.api import open_engine
from engine.late_dataclasses import compile_all
from engine.linux.process import close_other_descriptors
from engine.network import attaching, devices, firewall
from engine.runtime import monitor, monitor_network, monitor_process, network, starter, supervisor
from engine.runtime.records import learn_record
from engine.runtime.protocol import InitFailure, MonitorCall, silence_standard_streams
from engine.runtime.spec import ContainerSpec, StateRecord
from engine.store.network_records import NetworkRecords
from engine.containers import network_changes
from engine.types import *

root, run, operation, who, when, place = sys.argv[1:]

application = os.getpid()

def die():
    if who == "application":
        os.kill(application, signal.SIGKILL)
        return
    if who in ("parent", "both"):
        os.kill(os.getppid(), signal.SIGKILL)
    if who in ("self", "both"):
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # until the kernel ends it with its parent

PLACES = {
    "rules": (network.HostNetwork, "add_rules"),
    "link": (network.HostNetwork, "add_interface"),
    "addresses": (network, "change_interfaces"),
    "program": (starter, "_start"),
    "handover": (starter, "send_handover"),
    "second link": (network.HostNetwork, "add_interface"),
    "rules gone": (network.HostNetwork, "remove_rules"),
    "release": (monitor_network.MonitorNetwork, "release"),
    "rules changed": (network.HostNetwork, "change_rules"),
    "link gone": (network.HostNetwork, "remove_interface"),
    "tables": (firewall.Firewall, "make"),
    "bridge": (devices.NetworkDevices, "_make_bridge"),
    "loopback": (devices.NetworkDevices, "take_loopback"),
    "lease": (NetworkRecords, "lease"),
    "ports": (attaching.NetworkAttacher, "_reserve"),
    "start": (supervisor.Supervisor, "start"),
    "asked": (network_changes, "change_network"),
}
owner, name = PLACES[place]
work = getattr(owner, name)

is_first = True

def broken(*arguments, **options):
    global is_first
    if place == "second link" and is_first:
        is_first = False
        return work(*arguments, **options)
    if when == "before":
        die()
    result = work(*arguments, **options)
    if when == "after":
        die()
    return result

async def broken_coroutine(*arguments, **options):
    if when == "before":
        die()
    result = await work(*arguments, **options)
    die()
    return result

def break_it():
    setattr(owner, name, broken_coroutine if asyncio.iscoroutinefunction(work) else broken)
    if place == "addresses":
        monitor_network.change_interfaces = broken
    if place == "handover":
        starter.send_handover = broken

for kind in (ContainerSpec, StateRecord, MonitorCall, InitFailure):
    learn_record(kind)
compile_all()

ask_launcher = supervisor.Supervisor._request

async def _request(self, kind, payload, descriptors=()):
    if kind.name == "JOB":
        return await ask_launcher(self, kind, payload, descriptors)
    await self.ensure_launcher()
    ours, theirs = socket.socketpair()
    reservation = [os.dup(one) for one in descriptors]
    if os.fork() == 0:
        # Whoever waits for the application's output waits for no monitor.
        silence_standard_streams()
        # A launcher holds none of an application's locks.
        close_other_descriptors({theirs.fileno(), *reservation})
        monitor_process.run_monitor(payload, theirs, reservation)
    theirs.close()
    for one in reservation:
        os.close(one)
    return ours, self._launcher.channel

supervisor.Supervisor._request = _request

async def main():
    async with open_engine(root=Path(root), run=Path(run)) as engine:
        if operation == "disconnect by the application":
            await engine.start_container("web")
        break_it()
        if operation != "disconnect by the application":
            await engine.start_container("web")
        if operation == "end":
            await engine.stop_container("web", timeout_seconds=0)
        elif operation == "connect":
            await engine.connect_network("web", AttachmentRequest(network="back"))
        elif operation.startswith("disconnect"):
            await engine.disconnect_network("web", "front")
    print("nobody noticed")

asyncio.run(main())
"""


async def prepare(paths: StorePaths) -> None:
    async with open_engine(root=paths.root, run=paths.run) as engine:
        await engine.create_network(NetworkRequest(name="front", has_ipv6=True))
        await engine.create_network(NetworkRequest(name="back"))
        ports = (published(80, PORT), published(53, PORT, protocol="udp"))
        await engine.create_container(
            ContainerRequest(
                image=IMAGE,
                name="web",
                command=("sleep", "1000"),
                network=NetworkOptions(attachments=attached("front"), published_ports=ports),
            )
        )


def kill_at(
    paths: StorePaths, operation: str, who: str, when: str, place: str
) -> subprocess.CompletedProcess[str]:
    """Let an application get there, and return how it ended."""
    return subprocess.run(
        [
            sys.executable, "-W", "ignore", "-c", _APPLICATION,
            str(paths.root), str(paths.run), operation, who, when, place,
        ],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip


async def whole(engine: EngineApi) -> ContainerDetails:
    """The container, when what it has is what is written down of it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            details = await engine.inspect_container("web")
            asked = {one.network for one in details.network.attachments}
            has = {one.network_id for one in details.attachments if one.ipv4_address}
            if asked == has == {one.network_id for one in details.attachments}:
                return details
            await asyncio.sleep(0)


async def until_running(engine: EngineApi) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            details = await engine.inspect_container("web")
            if details.summary.status == "running":
                return
            await asyncio.sleep(0)


def guarded_devices(firewall: Firewall) -> set[str]:
    elements = [one for owned in firewall.owners().values() for one in owned]
    return {one.key.rstrip(b"\0").decode() for _family, name, one in elements if name == "guarded"}


def links_of_containers(world: World) -> set[str]:
    return {name for name in world.machine.links() if name.startswith("lmv")}


def localnets(world: World) -> set[str]:
    bridges = {name for name in world.machine.links() if name.startswith("lm-")}
    return {world.machine.setting(f"ipv4/conf/{name}/route_localnet") for name in bridges}


async def assert_nothing_is_left(
    world: World, paths: StorePaths, *, networks: tuple[set[str], ...] = ({"front"},)
) -> None:
    """Have the next application look; then the container comes up whole, and goes as a whole."""
    firewall = Firewall(paths.root)
    async with open_engine(root=paths.root, run=paths.run) as engine:
        (summary,) = await engine.list_containers()
        if summary.status != "running":
            if firewall.is_there():
                assert firewall.owners() == {}
            await links_settle(world, set())
            # Nor does a bridge lead there from the host's loopback.
            assert localnets(world) <= {"0"}
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                world.machine.listen("0.0.0.0", PORT, kind).close()
            await engine.start_container("web")
        details = await whole(engine)
        assert {one.network_name for one in details.attachments} in networks
        await links_settle(world, None, count=len(details.attachments))
        owners = {str(summary.container_id)} if details.attachments else set()
        assert set(firewall.owners()) == owners
        assert guarded_devices(firewall) == links_of_containers(world)
        await engine.remove_container("web", is_forced=True)
        assert firewall.owners() == {}
        await engine.remove_network("front")
        await engine.remove_network("back")


async def links_settle(world: World, wanted: set[str] | None, *, count: int = 0) -> None:
    """The kernel takes a namespace down by and by, and its links with it."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            links = links_of_containers(world)
            if links == wanted or (wanted is None and len(links) == count):
                return
            await asyncio.sleep(0)


ATTACHING = [
    ("before", "rules"),
    ("after", "rules"),
    ("after", "link"),
    ("after", "addresses"),
    ("after", "program"),
    ("before", "handover"),
    ("after", "handover"),
]


@pytest.mark.parametrize("who", ["self", "parent", "both"])
@pytest.mark.parametrize(("when", "place"), ATTACHING)
async def test_a_starter_or_its_monitor_is_killed_while_it_attaches(
    world, store_paths, who, when, place
):
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, "start", who, when, place)
    # Who asked for the start hears of it before the monitor takes over.
    assert ("nobody noticed" in done.stdout) is (place == "handover"), done.stderr
    await assert_nothing_is_left(world, store_paths)


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ("after", "lease"),
        ("after", "tables"),
        ("before", "bridge"),
        ("after", "bridge"),
        ("after", "ports"),
        ("before", "loopback"),
        ("after", "loopback"),
        ("before", "start"),
    ],
)
async def test_an_application_is_killed_before_it_has_a_monitor(world, store_paths, when, place):
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, "start", "self", when, place)
    assert done.returncode == -signal.SIGKILL, done.stderr
    await assert_nothing_is_left(world, store_paths)


@pytest.mark.parametrize(("when", "place"), ATTACHING)
async def test_an_application_is_killed_while_its_monitor_attaches(world, store_paths, when, place):
    """The monitor goes on: it does not need an application."""
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, "start", "application", when, place)
    assert done.returncode == -signal.SIGKILL, done.stderr
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await until_running(engine)
    await assert_nothing_is_left(world, store_paths)


@pytest.mark.parametrize(
    ("when", "place"), [("before", "release"), ("before", "rules gone"), ("after", "release")]
)
async def test_a_monitor_is_killed_while_it_takes_everything_down(world, store_paths, when, place):
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, "end", "self", when, place)
    assert done.returncode == 0, done.stderr
    await assert_nothing_is_left(world, store_paths)


@pytest.mark.parametrize(
    ("operation", "when", "place"),
    [
        ("connect", "before", "rules changed"),
        ("connect", "after", "rules changed"),
        ("connect", "after", "second link"),
        ("disconnect", "after", "rules changed"),
        ("disconnect", "after", "link gone"),
    ],
)
async def test_a_monitor_is_killed_while_it_changes_networks(
    world, store_paths, operation, when, place
):
    """The container is dead then: it was its monitor's; what was asked for may be done or not."""
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, operation, "self", when, place)
    assert done.returncode in {0, 1}, done.stderr
    possible = ({"front"}, {"front", "back"}) if operation == "connect" else ({"front"}, set())
    await assert_nothing_is_left(world, store_paths, networks=possible)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["connect", "disconnect by the application"])
async def test_an_application_is_killed_while_it_changes_networks(
    world, store_paths, operation, when
):
    """What a container has and what is written down of it are the same afterwards."""
    await prepare(store_paths)
    done = await asyncio.to_thread(kill_at, store_paths, operation, "self", when, "asked")
    assert done.returncode == -signal.SIGKILL, done.stderr
    possible = ({"front", "back"},) if operation == "connect" else ({"front"}, set())
    await assert_nothing_is_left(world, store_paths, networks=possible)


async def test_a_launcher_is_killed_before_and_after_a_start(world, store_paths):
    """The reservation of ports is the application's until a monitor has it."""
    await prepare(store_paths)
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        os.kill(engine._supervisor.launcher_process_id, signal.SIGKILL)
        await engine.start_container("web")
        os.kill(engine._supervisor.launcher_process_id, signal.SIGKILL)
        await engine.connect_network("web", AttachmentRequest(network="back"))
        details = await whole(engine)
        assert len(details.attachments) == 2
        with pytest.raises(OSError, match="in use"):
            world.machine.listen("0.0.0.0", PORT)
        await engine.stop_container("web", timeout_seconds=0)
    await assert_nothing_is_left(world, store_paths, networks=({"front", "back"},))
