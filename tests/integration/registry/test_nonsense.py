"""A registry that answers at random: whatever it says, only our own errors come of it."""

import contextlib
import random

import pytest

from engine.errors import EngineError
from engine.oci.digests import digest_of
from engine.registry.client import RegistryClient
from engine.registry.settings import RetryPolicy
from tests.fault_proxy import Fault
from tests.integration.registry.conftest import HOST, Content, quick_settings, read_all

HEADERS = {
    "Location": ["/v2/", "//", "http://[", "?x", "", "https://localhost:1/"],
    "WWW-Authenticate": ['Bearer realm="', "Basic", 'Bearer realm="http://x y"', "=", "Bearer ,,"],
    "Content-Range": ["bytes 0-1/2", "bytes */0", "x", "bytes 9-1/-1"],
    "Link": ["<>; rel=next", "</v2/_catalog>; rel=next", '<http://other/>; rel="next"', "<"],
    "Retry-After": ["0", "-1", "x", "9" * 400, "Fri, 99 Foo 2100"],
    "Docker-Content-Digest": ["sha256:" + "0" * 64, "sha512:0", ""],
    "Content-Type": ["application/vnd.oci.image.index.v1+json", "text/html; charset=x", "", "/"],
    "Content-Encoding": ["gzip", "br"],
    "Range": ["0-0", "bytes=0-99", "0-999999999", "x"],
    "Warning": ['299 - "', "299", "299 - x" * 100],
}
BODIES = [
    b"", b"{}", b"[]", b"null", b'{"errors":[{"code":5}]}', b'{"errors":[{"message":"\\u001b"}]}',
    b'{"tags":["a",5]}', b'{"tags":null,"repositories":null}', b'{"token":"x"}', b"<html>",
    b'{"schemaVersion":2,"manifests":[{"digest":"sha256:0","size":-1}]}', b"\xff" * 100,
    b'{"schemaVersion":2,"config":{"digest":"x"},"layers":[]}', b"{" * 5000, b'{"results":[{}]}',
]  # fmt: skip
STATUSES = [200, 200, 200, 201, 202, 204, 206, 301, 307, 400, 401, 403, 404, 405, 416, 418, 500]


@pytest.mark.parametrize("first_seed", range(0, 300, 100))
def test_answers_of_nonsense_are_our_own_errors_or_answers(proxy, pushed, first_seed):
    few = RetryPolicy(
        attempts=2,
        first_delay_seconds=0.0001,
        longest_delay_seconds=0.0001,
        longest_wait_seconds=0.001,
    )
    name = pushed.name
    for seed in range(first_seed, first_seed + 100):
        chance = random.Random(seed)

        def plan(_request, chance=chance):
            chosen = chance.sample(sorted(HEADERS), chance.randrange(5))
            return Fault(
                status=chance.choice(STATUSES),
                headers={header: chance.choice(HEADERS[header]) for header in chosen},
                body=chance.choice(BODIES),
                adds_to_length=chance.choice([0, 0, 0, 5, 5_000_000]),
                cuts_at=chance.choice([None, None, 0, 3]),
            )

        proxy.plan = plan
        with RegistryClient(quick_settings(retry=few, silence_seconds=0.05)) as client:
            for act in (
                lambda client: client.choose(name, HOST),
                lambda client: client.find_digest(name, tag_or_digest="1"),
                lambda client: read_all(client.open_blob(name, pushed.layer_descriptor, offset=5)),
                lambda client: client.tags(name),
                lambda client: client.search(f"{proxy.address}/web", limit=5),
                lambda client: client.has_blob(name, pushed.layer_descriptor.digest),
                lambda client: client.mount_blob(name, digest_of(b"x"), source_repository="a"),
                lambda client: client.upload_blob(name, Content(b"x"), digest=digest_of(b"x")),
                lambda client: client.upload_blob(name, Content(b"x" * 2_000_000)),
                lambda client: client.put_manifest(
                    name, tag_or_digest="9", media_type="x/y", content=b"{}"
                ),
                lambda client: client.delete_manifest(name, digest=digest_of(b"x")),
                lambda client: client.check_login(proxy.address),
            ):
                with contextlib.suppress(EngineError):
                    act(client)
