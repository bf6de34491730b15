"""Networks that break and registries that misbehave: never a wrong byte, never a hang."""

import email.utils
import random
import time

import pytest

from engine.errors import (
    ArchiveError,
    DigestMismatchError,
    EngineError,
    RateLimitedError,
    RegistryError,
    RegistryUnreachableError,
)
from engine.oci.digests import digest_of
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.settings import HostSettings, RetryPolicy
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.registry.conftest import (
    HOST,
    QUICK,
    is_blob,
    pull,
    quick_settings,
    read_all,
)

SEEDS = 100
SEEDS_A_TEST = 50


@pytest.mark.parametrize("first_seed", range(0, SEEDS, SEEDS_A_TEST))
def test_a_pull_that_is_cut_anywhere_brings_every_byte_once(proxy, pushed, first_seed):
    for seed in range(first_seed, first_seed + SEEDS_A_TEST):
        chance = random.Random(seed)

        def plan(_request, chance=chance):
            match chance.randrange(5):
                case 0:
                    return Fault(cuts_at=-1)
                case 1:
                    return Fault(cuts_at=chance.randrange(300_000))
                case 2:
                    return Fault(cuts_at=chance.randrange(200))
                case 3:
                    return Fault(cuts_head_at=chance.randrange(300))
                case _:
                    return None

        patient = RetryPolicy(attempts=40, first_delay_seconds=0.0001, longest_delay_seconds=0.001)
        proxy.plan = plan
        with RegistryClient(quick_settings(retry=patient)) as client:
            assert pull(client, pushed) == pushed.layer, f"seed {seed}"


def test_a_blob_that_is_cut_goes_on_where_it_was(proxy, pushed, client):
    cuts = iter((100_000, 50_000, 30_000))
    proxy.plan = lambda request: (
        Fault(cuts_at=cut) if is_blob(request) and (cut := next(cuts, None)) is not None else None
    )

    assert read_all(client.open_blob(pushed.name, pushed.layer_descriptor)) == pushed.layer
    asked = [request.headers.get("range") for request in proxy.requests if is_blob(request)]
    assert asked == [None, "bytes=100000-", "bytes=150000-", "bytes=180000-"]
    assert proxy.sent_bytes == len(pushed.layer)


def test_a_registry_that_knows_no_ranges_is_read_from_the_beginning(proxy, pushed, client):
    proxy.plan = lambda request: (
        Fault(cuts_at=200_000 if "range" not in request.headers else None, drops_range=True)
        if is_blob(request)
        else None
    )

    assert read_all(client.open_blob(pushed.name, pushed.layer_descriptor)) == pushed.layer


def test_a_registry_that_sends_another_range_is_not_believed(proxy, pushed, client):
    proxy.plan = lambda request: (
        Fault(status=206, body=b"x" * 10, headers={"Content-Range": "bytes 7-16/300000"})
        if "range" in request.headers
        else None
    )
    stream = client.open_blob(pushed.name, pushed.layer_descriptor, offset=5)

    with pytest.raises(RegistryUnreachableError, match="another part"):
        stream.read(10)


def test_a_connection_that_falls_silent_is_replaced(proxy, pushed):
    def plan(request):
        is_first = is_blob(request) and "range" not in request.headers
        return Fault(stalls_at=100_000) if is_first else None

    proxy.plan = plan
    with RegistryClient(quick_settings(silence_seconds=0.2)) as client:
        assert pull(client, pushed) == pushed.layer


def test_a_registry_that_is_always_silent_is_given_up(proxy, pushed):
    proxy.plan = lambda _request: Fault(stalls_at=0)
    with (
        RegistryClient(quick_settings(silence_seconds=0.05)) as client,
        pytest.raises(RegistryUnreachableError, match="fallen silent"),
    ):
        client.choose(pushed.name, HOST)


def test_a_blob_that_never_gets_further_is_given_up(proxy, pushed, client):
    proxy.plan = lambda request: Fault(cuts_at=1) if is_blob(request) else None

    with pytest.raises(RegistryUnreachableError, match="ended before"):
        read_all(client.open_blob(pushed.name, pushed.layer_descriptor))
    assert len(proxy.requests) <= QUICK.attempts + 1


def test_a_layer_that_is_longer_than_it_should_be_ends_where_it_should(proxy, pushed, client):
    proxy.plan = lambda request: Fault(repeats_body=3) if is_blob(request) else None

    assert read_all(client.open_blob(pushed.name, pushed.layer_descriptor)) == pushed.layer


@pytest.mark.parametrize("difference", [-1000, 1000])
def test_a_wrong_length_changes_no_byte(proxy, pushed, client, difference):
    proxy.plan = lambda request: (
        Fault(adds_to_length=difference)
        if is_blob(request) and "range" not in request.headers
        else None
    )

    assert read_all(client.open_blob(pushed.name, pushed.layer_descriptor)) == pushed.layer


def test_a_manifest_that_was_changed_on_its_way_is_refused(proxy, pushed, client):
    proxy.plan = lambda request: Fault(flips_at=40) if "/manifests/" in request.path else None

    with pytest.raises(DigestMismatchError):
        client.choose(pushed.name, HOST)


def test_a_manifest_without_a_stated_digest_is_held_against_the_one_that_was_asked_for(
    proxy, pushed, client
):
    digest = digest_of(pushed.manifest)
    proxy.plan = lambda request: (
        Fault(flips_at=40, headers={"docker-content-digest": ""})
        if "/manifests/" in request.path
        else None
    )

    with pytest.raises(DigestMismatchError):
        client.get_manifest(pushed.name, tag_or_digest=digest)


def test_a_config_that_was_changed_is_refused(proxy, pushed, client):
    proxy.plan = lambda request: Fault(flips_at=3) if is_blob(request) else None
    chosen = client.choose(pushed.name, HOST)

    with pytest.raises(DigestMismatchError):
        client.get_small_blob(pushed.name, chosen.manifest.config, maximum_bytes=1000)


@pytest.mark.parametrize("has_length", [True, False])
def test_a_manifest_of_a_hundred_megabytes_is_not_read(proxy, pushed, client, has_length):
    proxy.plan = lambda request: (
        Fault(
            status=200,
            body=b" " * 1_000_000,
            repeats_body=100,
            adds_to_length=0 if has_length else -99_999_999 + 4_000_000,
        )
        if "/manifests/" in request.path
        else None
    )

    with pytest.raises(ArchiveError, match=r"larger than|not a valid JSON"):
        client.choose(pushed.name, HOST)
    assert proxy.sent_bytes < 20_000_000


def test_a_manifest_with_a_hundred_thousand_layers_is_refused(proxy, pushed, client):
    layer = b'{"digest":"sha256:' + b"0" * 64 + b'","size":1},'
    head = b'{"schemaVersion":2,"config":' + layer[:-1] + b',"layers":['
    content = head + (layer * 40_000)[:-1] + b"]}"
    proxy.plan = lambda request: (
        Fault(status=200, body=content) if "/manifests/" in request.path else None
    )

    with pytest.raises(ArchiveError, match="layers are more than"):
        client.choose(pushed.name, HOST)
    proxy.plan = lambda request: (
        Fault(status=200, body=head + (layer * 100_000)[:-1] + b"]}")
        if "/manifests/" in request.path
        else None
    )
    with pytest.raises(ArchiveError, match="larger than"):
        client.choose(pushed.name, HOST)


def test_schema_1_is_refused_with_a_sentence(proxy, pushed, client):
    proxy.plan = lambda request: (
        Fault(
            status=200,
            body=b'{"schemaVersion":1,"name":"web","fsLayers":[],"signatures":[]}',
            headers={"content-type": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
        )
        if "/manifests/" in request.path
        else None
    )

    with pytest.raises(ArchiveError, match="schema 1, which is not supported"):
        client.choose(pushed.name, HOST)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_registry_that_is_busy_for_a_while_is_asked_again(proxy, pushed, client, status):
    proxy.plan = lambda request: (
        Fault(status=status, headers={"Retry-After": "0"}) if request.number % 3 else None
    )

    assert pull(client, pushed) == pushed.layer


def test_a_registry_that_wants_fewer_requests_for_ever_is_given_up(proxy, pushed, client):
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull limit"}]}'
    proxy.plan = lambda _request: Fault(status=429, body=body)

    with pytest.raises(RateLimitedError, match="toomanyrequests: You have reached your pull limit"):
        client.choose(pushed.name, HOST)
    assert len(proxy.requests) <= QUICK.attempts + 2


@pytest.mark.parametrize("wait", ["86400", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_registry_that_wants_a_day_is_not_waited_for(proxy, pushed, client, wait):
    proxy.plan = lambda request: (
        Fault(status=503, headers={"Retry-After": wait}) if "/manifests/" in request.path else None
    )

    with pytest.raises(RegistryUnreachableError, match="status 503"):
        client.choose(pushed.name, HOST)
    assert len([one for one in proxy.requests if "/manifests/" in one.path]) == 1


def http_date(seconds: int) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("3", 3, 3),
        (90, 30, 90),
        (-1000, 0, 1),
        ("-1", 0, 1),
        ("0x3", 0, 1),
        ("soon", 0, 1),
        ("", 0, 1),
        ("Fri, 99 Foo 2100", 0, 1),
    ],
    ids=["seconds", "date", "past", "negative", "hexadecimal", "word", "empty", "no date"],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_is_given_as_long_as_it_asks_for(proxy, pushed, status, asked, least, most):
    waits = []
    moment = http_date(asked) if isinstance(asked, int) else asked
    refusals = iter((Fault(status=status, headers={"Retry-After": moment}),))
    proxy.plan = lambda request: next(refusals, None) if is_blob(request) else None
    patient = RetryPolicy(first_delay_seconds=0.001, longest_wait_seconds=100)
    with RegistryClient(quick_settings(retry=patient)) as client:
        client._transport.breaker.wait = waits.append
        assert pull(client, pushed) == pushed.layer
    (wait,) = waits
    assert least <= wait <= most


@pytest.mark.parametrize("asked", ["121", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_registry_that_asks_for_an_absurd_time_has_refused(proxy, pushed, client, asked):
    proxy.plan = lambda request: (
        Fault(status=503, headers={"Retry-After": asked}) if is_blob(request) else None
    )

    with pytest.raises(RegistryUnreachableError, match="status 503"):
        pull(client, pushed)
    assert len([one for one in proxy.requests if is_blob(one)]) == 1


def test_a_registry_that_drips_what_is_here_already_is_given_up(proxy, pushed):
    def plan(request):
        if "range" not in request.headers:
            return Fault(cuts_at=200_000) if is_blob(request) else None
        # It knows no ranges: what has come is read over, a byte at a time.
        return Fault(drips=True, body=b"x")

    proxy.plan = plan
    few = RetryPolicy(attempts=2, first_delay_seconds=0.001)
    with (
        RegistryClient(quick_settings(slow_seconds=0.2, retry=few)) as client,
        pytest.raises(RegistryUnreachableError, match="next to nothing"),
    ):
        read_all(client.open_blob(pushed.name, pushed.layer_descriptor))


def test_redirections_that_lead_nowhere_end(proxy, pushed, client):
    proxy.plan = lambda request: (
        Fault(status=307, headers={"Location": request.path + "?again"})
        if is_blob(request)
        else None
    )

    with pytest.raises(RegistryUnreachableError, match="more than 10 times"):
        client.open_blob(pushed.name, pushed.layer_descriptor).read(10)
    assert len(proxy.requests) < 20


@pytest.mark.parametrize(
    "location", ["", "ftp://localhost/x", "http://", "http://[::1", "javascript:1", "http://a b/"]
)
def test_redirections_to_nonsense_are_said(proxy, pushed, client, location):
    proxy.plan = lambda request: (
        Fault(status=302, headers={"Location": location}) if is_blob(request) else None
    )

    with pytest.raises(RegistryError):
        client.open_blob(pushed.name, pushed.layer_descriptor).read(10)


def test_a_redirection_takes_us_to_another_server(registry, proxy, pushed, client):
    with FaultProxy(registry.address).running() as other:
        proxy.plan = lambda request: (
            Fault(status=307, headers={"Location": f"http://{other.address}{request.path}"})
            if is_blob(request)
            else None
        )
        assert pull(client, pushed) == pushed.layer
        assert [request for request in other.requests if is_blob(request)]


def test_answers_that_are_no_http_are_said(proxy, pushed, client):
    headers = {"X-Much": "x" * 70_000}
    proxy.plan = lambda request: (
        Fault(status=200, headers=headers) if "/manifests/" in request.path else None
    )

    with pytest.raises(RegistryUnreachableError):
        client.choose(pushed.name, HOST)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b"nul"])
def test_manifests_of_nonsense_are_our_own_errors(proxy, pushed, client, body):
    proxy.plan = lambda request: (
        Fault(status=200, body=body) if "/manifests/" in request.path else None
    )

    with pytest.raises(EngineError):
        client.choose(pushed.name, HOST)


def test_a_mirror_is_asked_before_the_registry_and_may_fail(registry, proxy, pushed):
    hosts = {registry.address: HostSettings(mirrors=(f"http://{proxy.address}",))}
    name = parse_reference(f"{registry.address}/web:1")
    with RegistryClient(quick_settings(hosts=hosts)) as client:
        assert client.choose(name, HOST).document.content == pushed.manifest
        assert [one for one in proxy.requests if "/manifests/" in one.path]

        proxy.plan = lambda _request: Fault(status=500)
        assert client.choose(name, HOST).document.content == pushed.manifest
        proxy.plan = lambda _request: Fault(cuts_at=-1)
        assert read_all(client.open_blob(name, pushed.layer_descriptor)) == pushed.layer


def test_warnings_of_a_registry_are_kept(proxy, pushed, client):
    proxy.plan = lambda request: Fault(headers={"Warning": '299 - "It will \\"move\\" soon"'})

    client.tags(pushed.name)
    client.tags(pushed.name)

    assert client.warnings == ('It will "move" soon',)


def test_one_connection_does_for_one_thing_after_the_other(proxy, pushed, client):
    before = proxy.connection_count
    for _ in range(5):
        assert pull(client, pushed) == pushed.layer
        client.tags(pushed.name)
        assert client.has_blob(pushed.name, pushed.layer_descriptor.digest)
        assert not client.has_blob(pushed.name, digest_of(b"nowhere"))

    # The first one asked in vain whether TLS is spoken here.
    assert proxy.connection_count - before <= 2


@pytest.mark.parametrize("body", [b"", b"{"])
def test_a_manifest_that_drips_is_not_waited_for(proxy, pushed, body):
    proxy.plan = lambda request: (
        Fault(drips=True, body=body) if "/manifests/" in request.path else None
    )
    few = RetryPolicy(attempts=2, first_delay_seconds=0.001)
    with (
        RegistryClient(quick_settings(answer_seconds=0.3, retry=few)) as client,
        pytest.raises(RegistryUnreachableError),
    ):
        client.choose(pushed.name, HOST)


def test_a_blob_that_drips_is_got_from_another_connection(proxy, pushed):
    proxy.plan = lambda request: (
        Fault(drips=True, body=pushed.layer[:1000])
        if is_blob(request) and "range" not in request.headers
        else None
    )
    with RegistryClient(quick_settings(slow_seconds=0.3)) as client:
        stream = client.open_blob(pushed.name, pushed.layer_descriptor)
        content = read_all(stream)

    # What dripped was taken for the blob's, as it has no digest of its own: who reads verifies.
    assert len(content) == len(pushed.layer)
    assert content[:1000] == pushed.layer[:1000]
    assert content[200_000:] == pushed.layer[200_000:]
