"""Pushes over networks that break, to registries that are busy, forget, or lie."""

from __future__ import annotations

import random
import socket
import threading

import pytest

from engine.errors import RateLimitedError, RegistryError, RegistryUnreachableError
from engine.oci.digests import digest_of
from engine.oci.documents import OCI_MANIFEST
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.settings import RetryPolicy
from tests.fault_proxy import Fault
from tests.integration.registry.conftest import QUICK, Content, quick_settings

SEEDS = 500
SEEDS_A_TEST = 50
OTHER = "sha256:" + "0" * 64
SMALL = random.Random(1).randbytes(10_000)
LARGE = random.Random(2).randbytes(1_200_000)


@pytest.fixture
def name(proxy):
    return parse_reference(f"{proxy.address}/web:1")


def test_a_push_whose_connection_breaks_goes_on_where_it_was(proxy, pushed, client):
    content = random.Random(9).randbytes(3_000_000)
    broken = iter((True, True))

    def plan(request):
        is_broken = request.method == "PATCH" and next(broken, False)
        return Fault(cuts_at=-1) if is_broken else None

    proxy.plan = plan
    source = Content(content)

    digest = client.upload_blob(pushed.name, source, digest=digest_of(content))

    assert digest == digest_of(content)
    assert source.opened == 3
    assert client.has_blob(pushed.name, digest)


def test_a_push_of_which_half_arrived_sends_the_other_half(proxy, client):
    content = random.Random(9).randbytes(3_000_000)
    name = parse_reference(f"{proxy.address}/half")
    losses = iter((True,))
    proxy.loses_rest = lambda request, size: (
        size // 2 if request.method == "PATCH" and next(losses, False) else None
    )

    digest = client.upload_blob(name, Content(content), digest=digest_of(content))

    patches = [request for request in proxy.requests if request.method == "PATCH"]
    assert [request.headers["content-range"] for request in patches] == [
        "0-2999999",
        "1500000-2999999",
    ]
    assert client.has_blob(name, digest)


@pytest.mark.parametrize("first_seed", range(0, SEEDS, SEEDS_A_TEST))
def test_a_push_that_is_cut_anywhere_sends_nothing_that_the_registry_has(
    proxy, name, first_seed, monkeypatch
):
    monkeypatch.setattr("engine.registry.uploads._SMALL_BYTES", 1000)
    patient = RetryPolicy(attempts=30, first_delay_seconds=0.0001, longest_delay_seconds=0.001)
    for seed in range(first_seed, first_seed + SEEDS_A_TEST):
        chance = random.Random(seed)
        content = chance.randbytes(chance.choice((500, 20_000, 70_000)))
        has = [0]
        cuts = [3]

        def lose(request, size, chance=chance, has=has, cuts=cuts):
            """Cut the body; note how much of it the registry has then."""
            if request.method != "PATCH" or not cuts[0] or chance.random() < 0.3:
                return None
            first = int(request.headers["content-range"].partition("-")[0])
            assert first == has[0]
            cuts[0] -= 1
            taken = chance.randrange(1, size) if size > 1 else size
            has[0] = first + taken
            return taken

        def plan(request, chance=chance, has=has):
            if request.method == "PATCH":
                return None
            if request.method == "POST" and "uploads" in request.path:
                has[0] = 0
            # The request is lost, or its answer is.
            return chance.choice((None, None, Fault(cuts_at=-1), Fault(cuts_head_at=0)))

        proxy.loses_rest, proxy.plan = lose, plan
        with RegistryClient(quick_settings(retry=patient)) as client:
            digest = client.upload_blob(name, Content(content), digest=digest_of(content))
            assert digest == digest_of(content), f"seed {seed}"
            proxy.plan = lambda _request: None
            assert client.has_blob(name, digest), f"seed {seed}"


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["whole", "stream"])
def test_a_blob_whose_last_answer_was_lost_is_there_all_the_same(proxy, name, client, content):
    losses = iter((True,))
    proxy.plan = lambda request: (
        Fault(cuts_head_at=0) if request.method == "PUT" and next(losses, False) else None
    )
    assert client.upload_blob(name, Content(content), digest=digest_of(content))
    assert client.has_blob(name, digest_of(content))


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["whole", "stream"])
def test_a_registry_that_says_it_took_another_blob_is_not_believed(proxy, name, client, content):
    proxy.plan = lambda request: (
        Fault(headers={"docker-content-digest": OTHER}) if request.method == "PUT" else None
    )
    with pytest.raises(RegistryError, match=f"says that it took {OTHER}"):
        client.upload_blob(name, Content(content), digest=digest_of(content))


def test_a_registry_that_says_it_took_another_manifest_is_not_believed(proxy, pushed, client):
    proxy.plan = lambda request: (
        Fault(headers={"docker-content-digest": OTHER}) if request.method == "PUT" else None
    )
    with pytest.raises(RegistryError, match=f"says that it took {OTHER}"):
        client.put_manifest(
            pushed.name, tag_or_digest="2", media_type=OCI_MANIFEST, content=pushed.manifest
        )


def test_a_registry_that_says_it_has_what_it_has_not_takes_no_manifest(proxy, pushed, client):
    missing = digest_of(b"missing")
    proxy.plan = lambda request: Fault(status=200) if request.method == "HEAD" else None
    assert client.has_blob(pushed.name, missing)
    content = pushed.manifest.replace(pushed.layer_descriptor.digest.encode(), missing.encode())
    with pytest.raises(RegistryError, match="blob unknown"):
        client.put_manifest(
            pushed.name, tag_or_digest="2", media_type=OCI_MANIFEST, content=content
        )


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_is_busy_in_the_middle_of_a_layer_is_asked_again(
    proxy, name, client, status
):
    busy = iter((True, True))
    proxy.plan = lambda request: (
        Fault(status=status, headers={"Retry-After": "0"})
        if request.method == "PATCH" and next(busy, False)
        else None
    )
    client.upload_blob(name, Content(LARGE), digest=digest_of(LARGE))
    assert client.has_blob(name, digest_of(LARGE))


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimitedError), (503, RegistryUnreachableError)]
)
def test_a_registry_that_is_busy_for_ever_is_said_in_its_own_words(
    proxy, name, client, status, error
):
    body = b'{"errors":[{"code":"TOO_MUCH","message":"come back tomorrow"}]}'
    proxy.plan = lambda request: (
        Fault(status=status, body=body) if request.method == "PATCH" else None
    )
    with pytest.raises(error, match="too much: come back tomorrow"):
        client.upload_blob(name, Content(LARGE), digest=digest_of(LARGE))
    assert len([one for one in proxy.requests if one.method == "PATCH"]) == QUICK.attempts


def test_a_registry_is_given_the_time_that_it_asks_for_and_no_day(proxy, name, client):
    waits = []
    client._transport.breaker.wait = waits.append
    answers = iter((Fault(status=503, headers={"Retry-After": "3"}),))
    proxy.plan = lambda request: next(answers, None) if request.method == "PATCH" else None
    client.upload_blob(name, Content(LARGE), digest=digest_of(LARGE))
    assert waits == [3.0]
    proxy.plan = lambda request: (
        Fault(status=503, headers={"Retry-After": "86400"}) if request.method == "PATCH" else None
    )
    with pytest.raises(RegistryUnreachableError, match="status 503"):
        client.upload_blob(name, Content(LARGE), digest=digest_of(LARGE))
    assert waits == [3.0]


def test_a_blob_is_sent_in_pieces_that_each_have_their_time(proxy, name, client, monkeypatch):
    sent = []
    send, ours = socket.socket.sendall, threading.current_thread()

    def note(self, data, *words):
        if threading.current_thread() is ours:
            sent.append(len(data))
        return send(self, data, *words)

    monkeypatch.setattr(socket.socket, "sendall", note)
    content = LARGE[:900_000]
    client.upload_blob(name, Content(content), digest=digest_of(content))
    assert sum(sent) > len(content)
    # A connection's time limit holds for each: a whole blob would have to be through within it.
    assert max(sent) <= 65_536
