"""Addresses of containers: each is one's alone, and nobody's for ever."""

import asyncio
import ipaddress

import pytest

from engine.errors import AddressInUseError, NetworkNameInUseError, PoolExhaustedError
from engine.store.container_records import ContainerRecord, ContainerRecords
from engine.store.database import Database
from engine.store.network_records import LeaseRequest, NetworkRecord, NetworkRecords
from engine.types import ChainId, ContainerId, ImageId

NETWORK = NetworkRecord(
    network_id="1" * 64, name="front", created_at=0, subnets=("10.91.0.0/29",), config="{}"
)


def container(name):
    return ContainerRecord(
        container_id=ContainerId(name.ljust(64, "0")), name=name, image_id=ImageId("i"),
        image_name="i", chain_id=ChainId("c"), created_at=0, is_removed_on_exit=False, config="{}",
    )  # fmt: skip


@pytest.fixture
async def database(tmp_path):
    async with await Database.open(tmp_path / "lamella.db") as opened:
        records = ContainerRecords(opened)
        for name in "abcdefgh":
            await records.insert(container(name))
        await NetworkRecords(opened).insert(lambda others: (NETWORK,) if not others else ())
        yield opened


@pytest.fixture
def records(database):
    return NetworkRecords(database)


def request(wanted="", pool="10.91.0.0/29"):
    subnet = ipaddress.ip_network("10.91.0.0/29")
    reserved = frozenset({subnet[0], subnet[1], subnet[-1]})
    return LeaseRequest(
        network_id=NETWORK.network_id, subnet=subnet, pool=ipaddress.ip_network(pool),
        reserved=reserved, wanted=wanted,
    )  # fmt: skip


async def holders(database):
    rows = await database.read(
        lambda connection: connection.execute("SELECT container_id FROM network_leases").fetchall()
    )
    return [container_id[0] for (container_id,) in rows]


def everybody(_container_id):
    return True


def nobody(_container_id):
    return False


async def lease(records, name, *, is_live=everybody, **options):
    (address,) = await records.lease(name.ljust(64, "0"), (request(**options),), is_live=is_live)
    return address


async def test_addresses_are_given_in_order_and_kept(records):
    assert [await lease(records, name) for name in "abc"] == [
        "10.91.0.2", "10.91.0.3", "10.91.0.4",
    ]  # fmt: skip
    assert await lease(records, "a") == "10.91.0.2"


async def test_one_that_asks_at_the_same_time_gets_another(records):
    addresses = await asyncio.gather(*(lease(records, name) for name in "abcde"))
    assert len(set(addresses)) == 5


async def test_a_full_network_takes_from_who_does_not_live(records):
    for name in "abcde":
        await lease(records, name)
    with pytest.raises(PoolExhaustedError, match=r"no available IPv4 addresses .*10\.91\.0\.0/29"):
        await lease(records, "f")
    dead = "c".ljust(64, "0")
    assert await lease(records, "f", is_live=lambda one: one != dead) == "10.91.0.4"
    # Who comes back has to do with another one.
    with pytest.raises(PoolExhaustedError):
        await lease(records, "c")


async def test_an_address_of_choice_is_taken_from_the_dead_only(records):
    assert await lease(records, "a", wanted="10.91.0.6") == "10.91.0.6"
    with pytest.raises(AddressInUseError):
        await lease(records, "b", wanted="10.91.0.6")
    assert await lease(records, "b", wanted="10.91.0.6", is_live=nobody) == "10.91.0.6"
    with pytest.raises(AddressInUseError):
        await lease(records, "c", wanted="10.91.0.1", is_live=nobody)


async def test_a_range_is_all_that_is_drawn_from(records):
    assert await lease(records, "a", pool="10.91.0.4/31") == "10.91.0.4"
    assert await lease(records, "b", pool="10.91.0.4/31") == "10.91.0.5"
    with pytest.raises(PoolExhaustedError):
        await lease(records, "c", pool="10.91.0.4/31")


async def test_all_that_a_container_asks_for_or_nothing(records, database):
    await lease(records, "a", wanted="10.91.0.6")
    with pytest.raises(AddressInUseError):
        await records.lease(
            "b".ljust(64, "0"),
            (request(pool="10.91.0.2/31"), request(wanted="10.91.0.6")),
            is_live=everybody,
        )
    assert await holders(database) == ["a"]


async def test_leases_go_with_their_container_and_with_their_network(records, database):
    await lease(records, "a")
    await lease(records, "b")
    await ContainerRecords(database).delete("a".ljust(64, "0"))
    assert await holders(database) == ["b"]
    await records.delete(NETWORK.network_id)
    assert await holders(database) == []


async def test_a_name_is_one_networks(records):
    with pytest.raises(NetworkNameInUseError):
        await records.insert(lambda others: others)
