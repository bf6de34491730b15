"""Networks go on with no application open, and come back after the host was restarted."""

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import replace

import pytest

from engine.api import open_engine
from engine.config import EngineConfig
from engine.containers.states import read_container_state, write_container_state
from engine.network.firewall import Firewall
from engine.store.locks import LockFile
from engine.types import ContainerRequest, NetworkOptions, NetworkRequest, RestartPolicy
from tests.integration.network.inside import IMAGE, attached, box_of, published, said_by
from tests.worlds import ECHO_PORT, AnswersWithSource

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]


async def until_unlocked(path):
    """Until the monitor has ended, and the kernel has freed what it held."""
    lock = LockFile(path)
    async with asyncio.timeout(30):
        await lock.acquire()
    lock.release()


async def run_server(engine, command=("sleep", "1000"), *, policy="always"):
    await engine.create_network(NetworkRequest(name="front", has_ipv6=True))
    await engine.create_container(
        ContainerRequest(
            image=IMAGE,
            name="web",
            command=command,
            restart_policy=RestartPolicy(name=policy),
            network=NetworkOptions(
                attachments=attached("front"), published_ports=(published(ECHO_PORT, 8080),)
            ),
        )
    )
    await engine.start_container("web")


def assert_reached(world, box):
    box.inside.address4 = box.address4
    with contextlib.closing(box.inside), AnswersWithSource(box.inside):
        assert said_by(world.neighbour, world.machine.address4, 8080).startswith("web sees ")
        assert said_by(world.machine, "127.0.0.1", 8080).startswith("web sees ")
        for address in (world.web.address4, world.web.address6):
            assert said_by(box.inside, address, ECHO_PORT).startswith("web sees ")


async def test_all_of_it_goes_on_with_no_application(world, store_paths):
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await run_server(engine)
        box = await box_of(engine, "web")
    assert_reached(world, box)
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        assert_reached(world, await box_of(engine, "web"))
        await engine.remove_container("web", is_forced=True)


async def test_a_container_that_ends_with_no_application_leaves_nothing(world, store_paths):
    firewall = Firewall(store_paths.root)
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await run_server(engine, policy="no")
        details = await engine.inspect_container("web")
        container_id = details.summary.container_id
    lock = EngineConfig(root=store_paths.root, run=store_paths.run).container_run_directory(
        container_id
    )
    assert set(firewall.owners()) == {container_id}
    os.kill(details.process_id, signal.SIGKILL)
    await until_unlocked(lock / "lock")
    assert firewall.owners() == {}
    world.machine.listen("0.0.0.0", 8080).close()


@pytest.mark.usefixtures("has_nft")
async def test_it_comes_back_after_the_host_was_restarted(world, store_paths):
    config = EngineConfig(root=store_paths.root, run=store_paths.run)
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        await run_server(engine)
        box = await box_of(engine, "web")
        box.inside.close()
        details = await engine.inspect_container("web")
        container_id = details.summary.container_id
        network = (await engine.inspect_network("front")).network
    state = read_container_state(config, container_id)
    os.kill(state.monitor_process_id, signal.SIGKILL)
    await until_unlocked(config.container_run_directory(container_id) / "lock")
    # What a host has lost when it comes up again.
    world.nft("flush", "ruleset")
    world.machine.configure(lambda route: route.link("del", ifname=network.bridge))
    world.machine.set("ipv4/ip_forward", "0")
    write_container_state(config, container_id, replace(state, boot_id="another", started_at_ns=1))
    shutil.rmtree(store_paths.run)
    async with open_engine(root=store_paths.root, run=store_paths.run) as engine:
        again = await box_of(engine, "web")
        assert again.address4 == box.address4
        assert_reached(world, again)
        await engine.remove_container("web", is_forced=True)


async def test_what_a_restart_policy_starts_again_has_the_same_network(world, engine):
    await run_server(engine)
    before = await engine.inspect_container("web")
    with engine.subscribe() as events:
        os.kill(before.process_id, signal.SIGKILL)
        async for event in events:
            if getattr(event, "action", "") == "start":
                break
    after = await engine.inspect_container("web")
    assert after.summary.restart_count == 1
    assert after.process_id != before.process_id
    assert after.attachments == before.attachments
    assert_reached(world, await box_of(engine, "web"))
