"""Answers of registries that were never meant: only our own errors come of them, and soon."""

from __future__ import annotations

import contextlib
import io
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import HTTPResponse
from urllib3._collections import HTTPHeaderDict

from engine.errors import EngineError
from engine.oci.digests import digest_of
from engine.oci.documents import OCI_LAYER_GZIP, Descriptor, Platform
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.endpoints import parse_http_url
from engine.registry.listing import next_link
from engine.registry.session import _seconds_of
from engine.registry.settings import RegistrySettings, RetryPolicy
from engine.registry.transport import Answer

NAME = parse_reference("registry.example:5000/team/web:1")
HOST = Platform(os="linux", architecture="amd64")
LAYER = b"layer" * 100
DESCRIPTOR = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest_of(LAYER), size=len(LAYER))
ONCE = RetryPolicy(
    attempts=2, first_delay_seconds=0.0, longest_delay_seconds=0.0, longest_wait_seconds=0.0
)
_TEXTS = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)
_NUMBERS = st.sampled_from(
    ["0", "1", "5", "499", "500", "-1", "9" * 18, "9" * 400, "", "*", "1e3", "٣"]
)
_ADDRESSES = st.sampled_from(
    ["/v2/", "//", "//other/", "http://[", "http://[::1]:5000/", "?x", "", "#", "https://a:99999/",
     "https://registry.example:5000/v2/x", "https://u:p@h/", "HTTPS://H/%zz", "/v2/\x80", "\t",
     "https://" + "a" * 20_000, "https://a\\b/", "ftp://x/", "file:///etc/passwd", "https://%00/"]
) | _TEXTS  # fmt: skip
_DATES = st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")) | st.lists(
    st.sampled_from(["Fri,", "99", "31", "Feb", "Foo", "9999", "0001", "99999999999", "23:59:60",
                     "GMT", "-0000", "+9999", "+999999999", "-2400", ":", "12:00"]), max_size=7,
).map(" ".join)  # fmt: skip
_CHALLENGES = st.lists(
    st.sampled_from(["Bearer ", "Basic ", "realm=", '"', "https://auth.example/t", ",", "service=",
                     "scope=", "repository:x:pull", "\\", "=", " ", "error=", "é", "x" * 5000]),
    max_size=12,
).map("".join)  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Location": _ADDRESSES,
        "Link": st.builds("<{}>; rel={}".format, _ADDRESSES, st.sampled_from(["next", '"next"'])),
        "WWW-Authenticate": _CHALLENGES,
        "Content-Range": st.builds("bytes {}-{}/{}".format, _NUMBERS, _NUMBERS, _NUMBERS) | _TEXTS,
        "Range": st.builds("{}-{}".format, _NUMBERS, _NUMBERS) | _TEXTS,
        "Retry-After": _NUMBERS | _DATES | _TEXTS,
        "Docker-Content-Digest": st.sampled_from(
            [DESCRIPTOR.digest, "sha256:" + "0" * 64, "sha512:" + "0" * 128, "sha256:", "\x80"]
        ),
        "Content-Type": _TEXTS
        | st.sampled_from(["application/vnd.oci.image.index.v1+json", "application/json; x"]),
        "Content-Length": _NUMBERS,
        "Warning": _TEXTS | st.builds('299 - "{}"'.format, _TEXTS),
    },
)  # fmt: skip
_KEYS = ["schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "name",
         "platform", "os", "errors", "message", "code", "tags", "repositories", "results", "urls",
         "token", "access_token", "expires_in", "star_count", "is_official",
         "description"]  # fmt: skip
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.just(DESCRIPTOR.digest),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=6),
    max_leaves=15,
)  # fmt: skip
BODIES = (
    DOCUMENTS.map(lambda document: json.dumps(document).encode())
    | st.binary(max_size=60)
    | st.sampled_from([b"", b"[" * 50_000, b'{"x":' * 50_000, b"\xff\xfe", LAYER, LAYER[:99],
                       b'{"tags":[' + b'"a",' * 300_000 + b'"b"]}', b'"\\ud800"',
                       b'{"results":[' + b"{}," * 300_000 + b"{}]}", b"1" * 5000])
)  # fmt: skip
STATUSES = st.sampled_from(
    [200, 200, 200, 200, 201, 202, 204, 206, 206, 301, 307, 308, 400, 401, 401, 403, 404, 405, 407,
     416, 418, 429, 500, 503, 599]
)  # fmt: skip
ANSWERS = st.lists(st.tuples(STATUSES, HEADERS, BODIES), min_size=1, max_size=5)


class Answers:
    """Stands for the transport: gives one answer after the other, the last one for ever."""

    def __init__(self, client: RegistryClient, answers) -> None:
        self._client = client
        self._answers = list(answers)
        self.asked = 0

    def send(self, _method, url, *, headers, body=None) -> Answer:
        for value in headers.values():
            # What goes out is a header and no more.
            assert "\r" not in value
            assert "\n" not in value
        if body is not None and not isinstance(body, bytes):
            b"".join(body)
        self.asked += 1
        status, said, content = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        response = HTTPResponse(
            body=io.BytesIO(content),
            headers=HTTPHeaderDict(said),
            status=status,
            preload_content=False,
            decode_content=False,
        )
        return Answer(response, url, self._client._transport.breaker, seconds=5)


class Content:
    size = len(LAYER)

    def open(self):
        return io.BytesIO(LAYER)


def read_all(stream) -> bytes:
    with stream:
        return b"".join(iter(lambda: stream.read(200), b""))


CALLS = {
    "choose": lambda client: client.choose(NAME, HOST),
    "digest": lambda client: client.find_digest(NAME, tag_or_digest="1"),
    "small": lambda client: client.get_small_blob(NAME, DESCRIPTOR, maximum_bytes=1000),
    "blob": lambda client: read_all(client.open_blob(NAME, DESCRIPTOR)),
    "rest": lambda client: read_all(client.open_blob(NAME, DESCRIPTOR, offset=100)),
    "tags": lambda client: client.tags(NAME),
    "search": lambda client: client.search("registry.example:5000/web", limit=20),
    "hub": lambda client: client.search("web", limit=20),
    "has": lambda client: client.has_blob(NAME, DESCRIPTOR.digest),
    "mount": lambda client: client.mount_blob(NAME, DESCRIPTOR.digest, source_repository="a/b"),
    "upload": lambda client: client.upload_blob(NAME, Content(), digest=DESCRIPTOR.digest),
    "stream": lambda client: client.upload_blob(NAME, Content()),
    "put": lambda client: client.put_manifest(
        NAME, tag_or_digest="1", media_type="x/y", content=b"{}"
    ),
    "delete": lambda client: client.delete_manifest(NAME, digest=DESCRIPTOR.digest),
    "login": lambda client: client.check_login("registry.example:5000"),
}


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=60, deadline=None)
@given(answers=ANSWERS)
def test_whatever_is_answered_only_our_own_errors_come_of_it(call: str, answers) -> None:
    client = RegistryClient(RegistrySettings(retry=ONCE))
    said = Answers(client, answers)
    client._transport.send = said.send
    with client, contextlib.suppress(EngineError):
        found = CALLS[call](client)
        if call == "small":
            assert found == LAYER
    assert said.asked < 250


@given(_DATES | _NUMBERS | _TEXTS | st.text())
def test_when_to_come_again_is_a_time_or_nothing(text: str) -> None:
    seconds = _seconds_of(text)
    assert seconds is None or seconds >= 0


@given(st.text('<>;,="rel next/a', max_size=60) | _TEXTS)
def test_no_link_is_too_odd(text: str) -> None:
    link = next_link(text)
    assert f"<{link}>" in text or not link


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('</v2/x?n=1&last=a>; rel="next"', "/v2/x?n=1&last=a"),
        ("<a>;rel=next", "a"),
        ('<a>; rel=prev, <b>; title="x, y"; REL="next"', "b"),
        ("<a>; rel=nextish", ""),
        ("<a>; notrel=next", ""),
        ("<>; rel=next", ""),
        ("<a", ""),
        ("", ""),
    ],
)
def test_the_next_page_is_where_the_link_says(header: str, expected: str) -> None:
    assert next_link(header) == expected


@pytest.mark.parametrize(
    "header", ["<a>;" * 16_000, "<" * 65_000, "<a>" + "; rel = " * 8_000, "<a>; rel" + " " * 60_000]
)
def test_a_link_without_end_is_read_in_no_time(header: str) -> None:
    before = time.process_time()
    assert next_link(header) == ""
    # Looking back from every address would take minutes.
    assert time.process_time() - before < 5


@given(_ADDRESSES, _ADDRESSES)
def test_an_address_is_one_or_none(text: str, base_text: str) -> None:
    base = parse_http_url(base_text)
    found = parse_http_url(text, base=base)
    if found is not None:
        assert found.host
        assert str(found).isascii()
        assert not set(str(found)) & set(" \r\n\t")
