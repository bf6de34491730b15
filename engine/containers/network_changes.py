"""Putting containers that run into networks and taking them out, as their records have it.

For the holder of the container's operation lock. The record and the container cannot change in one
step: whoever is killed between the two leaves a difference, which `reconcile_networks` ends.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.containers.lifecycle import change_network, current_state
from engine.containers.network_following import follow_network, wanted_network
from engine.containers.states import LIVE_STATUSES, operation_lock, status_of
from engine.errors import EngineError
from engine.network.attachments import is_shared_mode

if TYPE_CHECKING:
    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.types import Network


async def connect(
    services: ContainerServices,
    before: ContainerRecord,
    record: ContainerRecord,
    network: Network,
) -> None:
    """Put a container into a network that its record has, and had not before.

    It is written down first: what runs and is not written down would not come back.
    """
    await services.table.replace(record)
    state = await current_state(services, record)
    if status_of(state) not in LIVE_STATUSES:
        return
    try:
        async with services.attacher.hold_more(
            wanted_network(record), state.network, network
        ) as changed:
            await change_network(services, record, changed)
            await follow_network(services, before=(before, state.network), after=(record, changed))
    except BaseException:
        if before is not record:
            await services.table.replace(before)
            await services.networks.release(record.container_id, network)
        raise


async def disconnect(
    services: ContainerServices, record: ContainerRecord, network: Network
) -> None:
    """Take a container out of a network that its record does not have any more."""
    state = await current_state(services, record)
    if status_of(state) in LIVE_STATUSES:
        changed = await services.attacher.without(state.network, network)
        await change_network(services, record, changed)
        await follow_network(services, before=(record, state.network), after=(record, changed))
    await services.table.replace(record)
    await services.networks.release(record.container_id, network)


async def reconcile_networks(services: ContainerServices) -> None:
    """Have every container that runs in the networks that its record has.

    Raises:
        EngineError: The store cannot be read.
    """
    networks = {one.network_id: one for one in await services.networks.known()}
    for record in await services.table.list():
        if not networks or is_shared_mode(record.network.mode):
            continue
        if not record.network.attachments and not record.network.mode:
            continue  # Wherever it was put at its start is right.
        lock = operation_lock(services.config, record.container_id, record.name, is_of_record=True)
        # Whoever holds it changes it just now. What cannot be done is tried by the next one.
        with contextlib.suppress(EngineError):
            # Not in a thread: who is cancelled meanwhile would not know that it has it.
            if lock.try_acquire():
                try:
                    await _reconcile(services, record.container_id, networks)
                finally:
                    lock.release()


async def _reconcile(
    services: ContainerServices, container_id: str, networks: dict[str, Network]
) -> None:
    record = await services.table.get(container_id)
    if record is None:
        return
    state = await current_state(services, record)
    if status_of(state) not in LIVE_STATUSES:
        return
    wanted = {one.network for one in record.network.attachments}
    has = {one.network_id for one in state.network.interfaces}
    for network_id in (has - wanted) & networks.keys():
        await disconnect(services, record, networks[network_id])
    for network_id in (wanted - has) & networks.keys():
        await connect(services, record, record, networks[network_id])
