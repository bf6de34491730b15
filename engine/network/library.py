"""The networks of one store: made, found, forgotten. Their devices are `engine.network.bridges`'.

`bridge`, `host` and `none` are there from the first look on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.errors import (
    NetworkNameInUseError,
    StoreError,
)
from engine.network.host import routed_subnets
from engine.network.planning import (
    DEFAULT_NETWORK,
    check_network_request,
    find_network,
    plan_network,
    plan_predefined,
)
from engine.network.stores import subnet_turn
from engine.store.locks import LockFile
from engine.store.network_records import NetworkRecord
from engine.types import Network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.store.network_records import NetworkRecords
    from engine.types import NetworkRequest

_LOCK_FILE = "lock"


class NetworkLibrary:
    """The records of a store's networks."""

    def __init__(self, config: EngineConfig, records: NetworkRecords) -> None:
        """Use a store."""
        self._config = config
        self._records = records
        self._turn = subnet_turn(config.root)

    async def list(self) -> tuple[Network, ...]:
        """Every network, by name."""
        records = await self._records.list_networks()
        if not any(record.name == DEFAULT_NETWORK for record in records):
            await self._add_predefined()
            records = await self._records.list_networks()
        return tuple(_network(record) for record in records)

    async def known(self) -> tuple[Network, ...]:
        """Every network that has been needed so far: none are made for this look."""
        return tuple(_network(record) for record in await self._records.list_networks())

    async def find(self, reference: str) -> Network:
        """One network, by id, name or the beginning of an id.

        Raises:
            NetworkNotFoundError: There is none.
            AmbiguousReferenceError: The beginning matches several.
        """
        return find_network(await self.list(), reference)

    async def create(self, request: NetworkRequest) -> Network:
        """Make a network.

        Raises:
            NetworkNameInUseError: There is one of this name.
            InvalidInputError: What is asked for makes no sense, or overlaps another network.
        """
        check_network_request(request)
        await self.list()
        host = await asyncio.to_thread(routed_subnets)
        network_id = os.urandom(32).hex()

        def decide(others: tuple[NetworkRecord, ...]) -> tuple[NetworkRecord, ...]:
            # Within the transaction: no other network is made meanwhile.
            networks = tuple(map(_network, others))
            made = plan_network(request, networks, host, network_id=network_id, turn=self._turn)
            return (_record(made),)

        await self._records.insert(decide)
        return await self.find(network_id)

    async def delete(self, network: Network) -> None:
        """Forget a network.

        Raises:
            NetworkNotFoundError: Somebody else was faster.
        """
        await self._records.delete(network.network_id)
        await asyncio.to_thread(_remove_run_directory, self._run_directory(network))

    # --- who is in it -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def exclusively(self, network: Network) -> AsyncIterator[None]:
        """Let nobody start in a network or remove it while the block lasts."""
        async with self._locked((network,)):
            yield

    @contextlib.asynccontextmanager
    async def keep(self, networks: tuple[Network, ...]) -> AsyncIterator[None]:
        """Let nobody remove these networks while the block lasts."""
        async with self._locked(networks, is_shared=True):
            yield

    @contextlib.contextmanager
    def idle(self, network: Network) -> Iterator[bool]:
        """Let whoever wants to start in a network wait while the block lasts; blocking.

        Yields:
            False if somebody starts in it, or removes it: then nobody waits.
        """
        lock = self._lock(network)
        try:
            yield lock.try_acquire()
        finally:
            lock.release()

    async def release(self, container_id: str, network: Network) -> None:
        """Take a container's addresses in a network back."""
        await self._records.release(container_id, network.network_id)

    def _run_directory(self, network: Network) -> Path:
        return self._config.network_run_directory(network.network_id)

    @contextlib.asynccontextmanager
    async def _locked(
        self, networks: tuple[Network, ...], *, is_shared: bool = False
    ) -> AsyncIterator[None]:
        # In one order for all, so that two who want the same two do not wait for each other.
        ordered = sorted(networks, key=lambda one: one.network_id)
        locks = [self._lock(network) for network in ordered]
        try:
            for lock in locks:
                await lock.acquire(is_shared=is_shared)
            yield
        finally:
            for lock in locks:
                lock.release()

    def _lock(self, network: Network) -> LockFile:
        return LockFile(
            self._run_directory(network) / _LOCK_FILE,
            what=f"An operation on network {network.name}",
            is_removed_with_directory=True,
        )

    async def _add_predefined(self) -> None:
        host = await asyncio.to_thread(routed_subnets)

        def decide(others: tuple[NetworkRecord, ...]) -> tuple[NetworkRecord, ...]:
            made = plan_predefined(tuple(map(_network, others)), host, turn=self._turn)
            return tuple(map(_record, made))

        # Somebody else may have been faster: then theirs are the store's.
        with contextlib.suppress(NetworkNameInUseError):
            await self._records.insert(decide)


def _remove_run_directory(directory: Path) -> None:
    # Members are gone by now: what is left are names of containers that were killed.
    import shutil  # for removals only: it takes two milliseconds

    shutil.rmtree(directory, ignore_errors=True)


def _record(network: Network) -> NetworkRecord:
    return NetworkRecord(
        network_id=network.network_id,
        name=network.name,
        created_at=network.created_at,
        subnets=tuple(one.subnet for one in network.subnets),
        config=msgspec.json.encode(network).decode(),
    )


def _network(record: NetworkRecord) -> Network:
    try:
        return msgspec.json.decode(record.config, type=Network)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreError(
            f"the record of network {record.name} is damaged: {error}",
            hint="It may come from a newer version of Lamella",
        ) from error
