"""Names and documents that nobody would write: only our own errors come of them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ArchiveError, EngineError, InvalidReferenceError
from engine.oci.documents import (
    chain_ids,
    decode_config,
    decode_docker_manifest,
    decode_index,
    decode_layout_marker,
    decode_manifest,
    parse_time,
)
from engine.oci.reference import id_beginning, parse_reference

DECODERS = [
    decode_config,
    decode_docker_manifest,
    decode_index,
    decode_layout_marker,
    decode_manifest,
]
DIGEST = "sha256:" + "a" * 64
_LETTERS = st.text("aZ09-_.:/@[]sha256 \n\0é", max_size=40)
_WORDS = st.lists(
    st.sampled_from(
        ["docker.io", "localhost", "library", "web", "a", "A", ":", "/", "@", "5000", "latest",
         DIGEST, "[::1]", ".", "-", "__", "..", ""]
    ),
    max_size=10,
).map("".join)  # fmt: skip


@given(st.text() | _LETTERS | _WORDS)
def test_a_name_is_refused_or_leads_back_to_itself(text):
    try:
        parsed = parse_reference(text)
    except InvalidReferenceError as error:
        message = str(error)
        assert "\n" not in message
        return
    assert parse_reference(parsed.canonical_name).canonical_name == parsed.canonical_name
    assert parse_reference(parsed.familiar_name).canonical_name == parsed.canonical_name
    # It becomes part of addresses and of paths.
    assert parsed.path.isascii()
    assert not set(parsed.path) & set(" ?#%\\\n\0")
    assert ".." not in parsed.path.split("/")
    assert not parsed.path.startswith("/")


@given(st.text() | st.text("sha256:abcdef0", max_size=80))
def test_the_beginning_of_an_id_is_hexadecimal_or_nothing(text):
    beginning = id_beginning(text)
    assert beginning is None or set(beginning) <= set("0123456789abcdef")


_KEYS = st.sampled_from(
    [
        "schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "urls",
        "platform", "os", "architecture", "variant", "annotations", "rootfs", "type", "diff_ids",
        "history", "created", "created_by", "empty_layer", "Env", "Cmd", "Labels", "Volumes",
        "ExposedPorts", "Healthcheck", "Test", "Config", "RepoTags", "Layers",
        "imageLayoutVersion", "x",
    ]
)  # fmt: skip
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.sampled_from([DIGEST, 2, "layers", "1.0.0", "0001-01-01T00:00:00Z"])
)
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=8),
    max_leaves=30,
)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@given(document=_DOCUMENTS)
def test_no_document_is_too_odd(decode, document):
    with contextlib.suppress(ArchiveError):
        decode(json.dumps(document).encode(), "odd")


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__name__)
@given(content=st.binary(max_size=200))
def test_no_bytes_are_too_odd(decode, content):
    with contextlib.suppress(ArchiveError):
        decode(content, "odd")


@given(document=_DOCUMENTS)
def test_what_a_config_says_can_be_used(document):
    wrapped = {"rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "config": document}
    with contextlib.suppress(EngineError):
        config = decode_config(json.dumps(wrapped).encode(), "odd")
        assert chain_ids(config.diff_ids) == (DIGEST,)
        assert str(config.platform)


@given(st.text(max_size=40) | st.datetimes().map(str))
def test_no_time_is_too_odd(text):
    seconds = parse_time(text)
    assert seconds is None or isinstance(seconds, float)
