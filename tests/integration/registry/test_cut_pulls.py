"""Whole pulls over a network that breaks at random, and what they fetch of it."""

from __future__ import annotations

import asyncio
import random

import pytest

from engine.errors import EngineError
from engine.registry.client import RegistryClient
from engine.registry.settings import RetryPolicy
from tests.fault_proxy import Fault
from tests.integration.registry.conftest import quick_settings
from tests.integration.registry.test_faulty_pulls import left_in, verified
from tests.registries import push_files

SEEDS = 500
SEEDS_A_TEST = 50
DAMAGED_SEEDS = 60
CANCELLED_SEEDS = 60


@pytest.fixture(autouse=True)
def patient(monkeypatch) -> None:
    """Pulls that ask often, and at once."""
    policy = RetryPolicy(attempts=60, first_delay_seconds=0.0001, longest_delay_seconds=0.0005)
    monkeypatch.setattr(
        "engine.api.registry._connect", lambda: RegistryClient(quick_settings(retry=policy))
    )


@pytest.fixture
def image_id(proxy) -> str:
    """An image of three layers, one of which does not fit into one answer's first pieces."""
    content = random.Random(0)
    layers = ({f"file-{size}": content.randbytes(size)} for size in (300, 20_000, 60_000))
    return push_files(f"{proxy.upstream}/web:1", *layers)


def blobs_sent(proxy) -> dict[str, int]:
    """How many bytes of each blob came over the network."""
    return {
        path.rpartition(":")[2]: count for path, count in proxy.sent_of.items() if "/blobs/" in path
    }


def arrived(store_paths) -> dict[str, int]:
    """How many bytes of each blob are kept for the next pull."""
    return {
        path.parent.name: path.stat().st_size
        for path in (store_paths.root / "downloads").glob("*/content")
    }


def require_going_on(proxy, before: dict[str, int], sizes: dict[str, int]) -> None:
    """Each blob was asked for from where it had come to before; a whole one not at all."""
    first: dict[str, str] = {}
    for request in proxy.requests:
        if request.method == "GET" and "/blobs/" in request.path:
            first.setdefault(request.path.rpartition(":")[2], request.headers.get("range", ""))
    for digest, asked in first.items():
        here = before.get(digest, 0)
        assert here < sizes[digest]
        assert asked == (f"bytes={here}-" if here else "")


@pytest.mark.parametrize("first_seed", range(0, SEEDS, SEEDS_A_TEST))
async def test_a_pull_that_is_cut_anywhere_fetches_no_byte_twice(
    first_seed: int, engine, proxy, image_id, store_paths
) -> None:
    name = f"{proxy.address}/web:1"
    await engine.pull_image(name)
    whole = blobs_sent(proxy)
    assert len(whole) == 4
    await engine.remove_image(name)
    cut_count = 0
    for seed in range(first_seed, first_seed + SEEDS_A_TEST):
        chance = random.Random(seed)

        def plan(_request, chance=chance):
            nonlocal cut_count
            fault = chance.choice(
                (
                    Fault(cuts_at=-1),
                    Fault(cuts_at=chance.randrange(60_000)),
                    Fault(cuts_at=chance.randrange(200)),
                    Fault(cuts_head_at=chance.randrange(300)),
                    Fault(status=503, headers={"Retry-After": "0"}),
                    Fault(status=429),
                    None,
                    None,
                )
            )
            cut_count += fault is not None
            return fault

        proxy.plan = plan
        proxy.sent_of.clear()
        pulled = await engine.pull_image(name)
        assert pulled.image_id == image_id, f"seed {seed}"
        assert blobs_sent(proxy) == whole, f"seed {seed}"
        await engine.remove_image(name)
    assert cut_count > SEEDS_A_TEST
    await verified(engine)
    assert left_in(store_paths, "layers", "staging", "downloads", "blobs/sha256") == []


async def test_a_pull_of_damaged_answers_gives_the_right_image_or_none(
    engine, proxy, image_id, store_paths
) -> None:
    name = f"{proxy.address}/web:1"
    whole = 0
    for seed in range(DAMAGED_SEEDS):
        chance = random.Random(seed)

        def plan(_request, chance=chance):
            return Fault(flips_at=chance.randrange(70_000)) if chance.random() < 0.25 else None

        proxy.plan = plan
        try:
            pulled = await engine.pull_image(name)
        except EngineError:
            assert await engine.list_images() == (), f"seed {seed}"
        else:
            whole += 1
            assert pulled.image_id == image_id, f"seed {seed}"
            await verified(engine)
            await engine.remove_image(name)
        assert left_in(store_paths, "layers", "staging") == [], f"seed {seed}"
    assert 0 < whole < DAMAGED_SEEDS


async def test_a_pull_that_is_cancelled_at_any_moment_is_gone_on_with(
    engine, proxy, image_id, store_paths
) -> None:
    name = f"{proxy.address}/web:1"
    await engine.pull_image(name)
    whole = blobs_sent(proxy)
    await engine.remove_image(name)
    cancelled_count = 0
    for seed in range(CANCELLED_SEEDS):
        chance = random.Random(seed)
        for _ in range(3):
            before = arrived(store_paths)
            proxy.requests.clear()
            pulling = asyncio.create_task(engine.pull_image(name))
            await asyncio.wait((pulling,), timeout=chance.uniform(0, 0.06))
            pulling.cancel()
            try:
                await pulling
            except asyncio.CancelledError:
                cancelled_count += 1
                assert await engine.list_images() == (), f"seed {seed}"
                assert left_in(store_paths, "layers", "staging") == [], f"seed {seed}"
            else:
                await engine.remove_image(name)
            require_going_on(proxy, before, whole)
        before = arrived(store_paths)
        proxy.requests.clear()
        pulled = await engine.pull_image(name)
        assert pulled.image_id == image_id
        require_going_on(proxy, before, whole)
        await engine.remove_image(name)
    assert cancelled_count > CANCELLED_SEEDS
    await verified(engine)
    assert left_in(store_paths, "layers", "staging", "downloads") == []
