"""Containers in networks of the fake engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import AttachmentRequest, ContainerRequest, ContainerStatus, NetworkOptions

if TYPE_CHECKING:
    from engine.types import ContainerId
    from tests.fakes import FakeEngine


def run(
    engine: FakeEngine,
    name: str,
    *networks: str,
    status: ContainerStatus = ContainerStatus.RUNNING,
    **options: object,
) -> ContainerId:
    """Have a container of web:latest in networks; without any it is in the default one."""
    attachments = tuple(
        AttachmentRequest(network=engine._network(one).network_id) for one in networks
    )
    asked = NetworkOptions(attachments=attachments, **options)  # type: ignore[arg-type]
    request = ContainerRequest(image="web:latest", name=name, network=asked)
    container = engine._add(request, name)
    engine.change_status(name, status, "start")
    return container.summary.container_id
