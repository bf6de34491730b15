import json

import pytest

from engine.errors import ArchiveError
from engine.oci.documents import (
    MAXIMUM_CONFIG_BYTES,
    MAXIMUM_LAYERS,
    ConfigSection,
    Descriptor,
    ImageDocument,
    Platform,
    RootFsDocument,
    chain_ids,
    decode_config,
    decode_docker_manifest,
    decode_index,
    decode_layout_marker,
    decode_manifest,
    encode_document,
    format_time,
    parse_time,
)
from engine.oci.platforms import choose_manifests, platform_rank

DIGEST = "sha256:" + "a" * 64
CONFIG = {"rootfs": {"type": "layers", "diff_ids": [DIGEST]}}
MANIFEST = {
    "schemaVersion": 2,
    "config": {"digest": DIGEST, "size": 2},
    "layers": [{"digest": DIGEST, "size": 3}],
}
NOT_JSON = [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'"\\ud800"', b"null", b"7"]
DECODERS = [
    decode_config,
    decode_docker_manifest,
    decode_index,
    decode_layout_marker,
    decode_manifest,
]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("content", NOT_JSON)
def test_what_is_no_document_is_refused_and_the_file_is_named(decode, content):
    with pytest.raises(ArchiveError, match=r"cannot load some\.tar: "):
        decode(content, "some.tar")


@pytest.mark.parametrize("decode", DECODERS)
def test_a_document_without_end_is_not_read(decode):
    with pytest.raises(ArchiveError, match="larger than"):
        decode(b" " * (MAXIMUM_CONFIG_BYTES + 1), "some.tar")


def encoded(document, **changes):
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"config": {"digest": "sha256:../../etc/passwd", "size": 2}},
        {"config": {"digest": DIGEST, "size": -1}},
        {"config": {"digest": DIGEST}},
        {"layers": [{"digest": "md5:" + "a" * 32, "size": 1}]},
        {"layers": [{"digest": DIGEST[:-1] + "٣", "size": 1}]},
        {"layers": [{"digest": DIGEST, "size": "7"}]},
        {"layers": {"digest": DIGEST}},
        {"layers": [{"digest": DIGEST, "size": 1}] * (MAXIMUM_LAYERS + 1)},
        {"schemaVersion": 1},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(changes):
    with pytest.raises(ArchiveError):
        decode_manifest(encoded(MANIFEST, **changes), "some.tar")


@pytest.mark.parametrize(
    "changes",
    [
        {"rootfs": None},
        {"rootfs": {"type": "layers"}},
        {"rootfs": {"diff_ids": ["latest"]}},
        {"rootfs": {"diff_ids": [DIGEST + "\n"]}},
        {"rootfs": {"diff_ids": [DIGEST] * (MAXIMUM_LAYERS + 1)}},
        {"history": [{}] * 10_001},
        {"history": "none"},
        {"config": {"Env": "PATH=/"}},
        {"config": {"Cmd": {"0": "sh"}}},
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(changes):
    with pytest.raises(ArchiveError):
        decode_config(encoded(CONFIG, **changes), "some.tar")


def test_null_is_read_where_a_list_belongs():
    document = decode_config(
        encoded(CONFIG, history=None, config={"Env": None, "Cmd": None, "Labels": None}), "some.tar"
    )
    assert document.diff_ids == (DIGEST,)
    assert decode_index(b'{"manifests":null}', "some.tar").manifests is None
    (image,) = decode_docker_manifest(b'[{"Config":"a","RepoTags":null,"Layers":null}]', "x")
    assert image.repo_tags is None


def test_what_is_written_has_no_empty_fields_and_reads_the_same():
    document = ImageDocument(
        os="linux",
        config=ConfigSection(cmd=("sh",)),
        rootfs=RootFsDocument(type="layers", diff_ids=(DIGEST,)),
    )
    content = encode_document(document)
    assert b"null" not in content
    assert decode_config(content, "made here") == document
    assert encode_document(document) == content


def test_chain_ids_are_those_of_the_specification():
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    chain = chain_ids((first, second))
    assert chain[0] == first
    # printf 'sha256:111…1 sha256:222…2' | sha256sum
    assert chain[1] == "sha256:9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5"
    assert chain_ids((first, second, first))[:2] == chain
    assert chain_ids(()) == ()


def test_a_marker_of_another_version_is_refused():
    assert decode_layout_marker(b'{"imageLayoutVersion":"1.0.0"}', "x")
    with pytest.raises(ArchiveError, match="version '2"):
        decode_layout_marker(b'{"imageLayoutVersion":"2.0.0"}', "x")


HOST = Platform(os="linux", architecture="arm64")


def test_the_best_manifest_for_the_host_comes_first_and_attestations_not_at_all():
    def descriptor(letter, platform=None, **fields):
        return Descriptor(digest="sha256:" + letter * 64, size=1, platform=platform, **fields)

    newer = descriptor("a", Platform(os="linux", architecture="arm64", variant="v9"))
    exact = descriptor("b", Platform(os="linux", architecture="arm64", variant="v8"))
    other = descriptor("c", Platform(os="linux", architecture="amd64"))
    windows = descriptor("d", Platform(os="windows", architecture="arm64"))
    unsaid = descriptor("e")
    proof = descriptor("f", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    listed = (unsaid, newer, other, windows, proof, exact)
    assert choose_manifests(listed, HOST) == (exact, newer, unsaid)
    assert platform_rank(other.platform, HOST) is None


@pytest.mark.parametrize("architecture", ["arm64", "aarch64", "arm64/v8"])
def test_an_architecture_is_known_by_each_of_its_names(architecture):
    assert platform_rank(Platform(architecture=architecture), HOST) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("2026-01-01T00:00:00.123456789Z", 1767225600.123456),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("9999-06-01T00:00:00Z", None),
        ("0002-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_of_documents_are_read_or_left_out(text, seconds):
    found = parse_time(text)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_time_that_is_written_is_read_the_same():
    assert parse_time(format_time(1767225600.5)) == 1767225600.5
