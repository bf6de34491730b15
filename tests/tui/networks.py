"""Networks of the fake engine with containers in them, for tests of screens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.types import (
    AttachmentRequest,
    ContainerRequest,
    ContainerStatus,
    NetworkOptions,
    NetworkRequest,
    NetworkSubnet,
    PublishedPort,
)
from tests.tui.conftest import settled
from tui.screens.networks import NetworksScreen

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from tests.fakes import FakeEngine
    from tui.app import LamellaApp

WIDE, NARROW, SMALLEST = (120, 40), (80, 24), (60, 16)


def networks_of(engine: FakeEngine, name: str) -> tuple[str, ...]:
    container = engine._find(name)
    return engine._names(container.summary).network_names


def add(engine: FakeEngine, name: str, options: NetworkOptions, *, runs: bool = True) -> None:
    container = engine._add(ContainerRequest(image="web:latest", name=name, network=options), name)
    status = ContainerStatus.RUNNING if runs else ContainerStatus.EXITED
    container.summary = replace(container.summary, status=status, started_at=1.0, exit_code=0)


async def add_networks(engine: FakeEngine) -> FakeEngine:
    """`backend` with a server and one that rests; an empty `spare`; the two of the other tests."""
    made = await engine.create_network(
        NetworkRequest(name="backend", subnets=(NetworkSubnet(subnet="10.80.4.0/24", gateway=""),))
    )
    await engine.create_network(NetworkRequest(name="spare"))
    inside = AttachmentRequest(network=made.network_id, aliases=("api",))
    ports = (PublishedPort(container_port=80, host_port=8080),)
    add(engine, "server", NetworkOptions(attachments=(inside,), published_ports=ports))
    rests = NetworkOptions(attachments=(AttachmentRequest(network=made.network_id),))
    add(engine, "rests", rests, runs=False)
    engine.calls.clear()
    return engine


async def opened(pilot: Pilot[None], app: LamellaApp, name: str = "") -> NetworksScreen:
    await settled(pilot)
    await pilot.press("5")
    await settled(pilot)
    screen = app.screen
    assert isinstance(screen, NetworksScreen)
    if name:
        row = next(row for row in screen.list.rows if row.network.name == name)
        assert screen.list.move_to_key(row.network.network_id)
        await settled(pilot)
    return screen
