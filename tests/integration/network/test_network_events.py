"""Events of networks: who joins and leaves them, told once whatever ends the container."""

import asyncio
import os
import signal
import time

import pytest

from engine.containers.states import read_container_state
from engine.types import ContainerRequest, NetworkOptions, NetworkRequest, RestartPolicy
from tests.integration.network.inside import IMAGE, attached

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("starter_image")]
MOST_SECONDS = 30


async def heard_until(events, last, count=1):
    """Kind, action and name of every event, until one has come so often."""
    found = []
    async with asyncio.timeout(MOST_SECONDS):
        async for event in events:
            found.append(f"{event.subject} {event.action} {event.name}")
            if found.count(last) == count:
                return found
    raise AssertionError(found)


def request(name, *command, networks=(), **more):
    return ContainerRequest(
        image=IMAGE,
        name=name,
        command=command,
        network=NetworkOptions(attachments=attached(*networks)),
        **more,
    )


async def test_a_container_joins_its_networks_and_leaves_them_as_it_ends(engine):
    front = await engine.create_network(NetworkRequest(name="front"))
    back = await engine.create_network(NetworkRequest(name="back"))
    made = await engine.create_container(request("web", "true", networks=("front", "back")))
    with engine.subscribe() as events:
        await engine.start_container("web")
        heard = await heard_until(events, "container die web")
    assert heard == [
        "network connect front",
        "network connect back",
        "container start web",
        "network disconnect front",
        "network disconnect back",
        "container die web",
    ]
    history = engine.follow_events(since_ns=0, until_ns=time.time_ns())
    told = [
        (event.subject_id, dict(event.attributes))
        async for batch in history
        for event in batch
        if event.action in {"connect", "disconnect"}
    ]
    joined = {"container": made.container_id, "type": "bridge"}
    assert told == 2 * [(front.network_id, joined), (back.network_id, joined)]


async def test_what_a_run_has_joined_meanwhile_is_left_with_it(engine):
    for name in ("front", "back"):
        await engine.create_network(NetworkRequest(name=name))
    await engine.create_container(request("web", "sleep", "1000", networks=("front",)))
    with engine.subscribe() as events:
        await engine.start_container("web")
        await engine.connect_network("web", attached("back")[0])
        await engine.disconnect_network("web", "front")
        await engine.stop_container("web", timeout_seconds=0)
        heard = await heard_until(events, "container die web")
    assert [one for one in heard if one.startswith("network")] == [
        "network connect front",
        "network connect back",
        "network disconnect front",
        "network disconnect back",
    ]


async def test_each_run_of_a_restart_policy_tells_of_its_networks(engine):
    policy = RestartPolicy(name="on-failure", maximum_retry_count=1)
    await engine.create_container(request("job", "false", restart_policy=policy))
    with engine.subscribe() as events:
        await engine.start_container("job")
        heard = await heard_until(events, "container die job", 2)
    assert heard == 2 * [
        "network connect bridge",
        "container start job",
        "network disconnect bridge",
        "container die job",
    ]


async def test_a_container_without_networks_of_its_own_tells_of_none(engine):
    options = NetworkOptions(mode="host")
    await engine.create_container(
        ContainerRequest(image=IMAGE, name="web", command=("true",), network=options)
    )
    with engine.subscribe() as events:
        await engine.start_container("web")
        assert await heard_until(events, "container die web") == [
            "container start web",
            "container die web",
        ]


async def test_a_killed_monitor_is_told_for_once(engine):
    created = await engine.create_container(request("web", "sleep", "1000"))
    with engine.subscribe() as events:
        await engine.start_container("web")
        config = engine._services.config
        state = read_container_state(config, created.container_id)
        os.kill(state.monitor_process_id, signal.SIGKILL)
        heard = await heard_until(events, "container die web")
    assert heard == [
        "network connect bridge",
        "container start web",
        "network disconnect bridge",
        "container die web",
    ]
    assert (await engine.inspect_container("web")).attachments == ()
