import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ArchiveError, EngineError, PlatformMismatchError, RemoteImageNotFoundError
from engine.oci.digests import digest_of
from engine.oci.documents import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Platform,
)
from engine.oci.reference import parse_reference
from engine.registry.manifests import RemoteDocument, choose_manifest, media_type_of

CONFIG = {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1}
MANIFEST = {"schemaVersion": 2, "config": CONFIG, "layers": []}
INDEX = {"schemaVersion": 2, "manifests": []}


def kind(document, stated=""):
    return media_type_of(json.dumps(document).encode(), stated, "web:1")


@pytest.mark.parametrize(
    ("document", "stated", "expected"),
    [
        (MANIFEST, OCI_MANIFEST, OCI_MANIFEST),
        (MANIFEST, DOCKER_MANIFEST, DOCKER_MANIFEST),
        (MANIFEST, "application/json", OCI_MANIFEST),
        (MANIFEST, "", OCI_MANIFEST),
        ({**MANIFEST, "mediaType": DOCKER_MANIFEST}, "", DOCKER_MANIFEST),
        (INDEX, OCI_INDEX, OCI_INDEX),
        (INDEX, "text/plain", OCI_INDEX),
        ({**INDEX, "config": None}, DOCKER_INDEX, DOCKER_INDEX),
    ],
)
def test_a_document_is_what_its_shape_and_its_name_agree_on(document, stated, expected):
    assert kind(document, stated) == expected


@pytest.mark.parametrize(
    ("document", "stated"),
    [
        ({**MANIFEST, "manifests": []}, OCI_MANIFEST),
        ({**INDEX, "layers": []}, OCI_INDEX),
        ({**INDEX, "fsLayers": []}, OCI_INDEX),
        (MANIFEST, OCI_INDEX),
        (INDEX, OCI_MANIFEST),
        ({**MANIFEST, "mediaType": OCI_INDEX}, ""),
        ({**MANIFEST, "mediaType": DOCKER_MANIFEST}, OCI_MANIFEST),
        ({**MANIFEST, "mediaType": "application/other"}, ""),
        ({"schemaVersion": 2}, OCI_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": []}, ""),
        (MANIFEST, "application/vnd.docker.distribution.manifest.v1+json"),
    ],
)
def test_a_document_that_may_be_two_things_is_refused(document, stated):
    with pytest.raises(ArchiveError):
        kind(document, stated)


class Documents:
    """A registry in memory, of manifests."""

    def __init__(self):
        self.by_name = {}
        self.asked = []
        self.config = {}

    def add(self, document, *, tag=""):
        content = json.dumps(document).encode()
        digest = digest_of(content)
        found = RemoteDocument(
            media_type=media_type_of(content, "", "test"), digest=digest, content=content
        )
        self.by_name[digest] = self.by_name[tag] = found
        return {"mediaType": found.media_type, "digest": digest, "size": len(content)}

    def get_manifest(self, name, *, tag_or_digest):
        self.asked.append(tag_or_digest)
        if tag_or_digest not in self.by_name:
            raise RemoteImageNotFoundError(name.domain, name.path, "manifest unknown")
        return self.by_name[tag_or_digest]

    def get_small_blob(self, name, descriptor, *, maximum_bytes):
        return json.dumps(self.config).encode()


NAME = parse_reference("web:1")
HOST = Platform(os="linux", architecture="amd64")


def manifest(number):
    return {**MANIFEST, "annotations": {"number": str(number)}}


def number_of(chosen):
    return chosen.manifest.annotations["number"]


@pytest.mark.parametrize(("architecture", "is_taken"), [("amd64", True), ("arm64", False)])
def test_indexes_lead_to_indexes_and_configs_say_what_they_do_not(architecture, is_taken):
    documents = Documents()
    documents.config = {"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": []}}
    image = documents.add(manifest(1))
    inner = documents.add(
        {**INDEX, "manifests": [{**image, "platform": {"os": "linux", "architecture": "amd64"}}]}
    )
    documents.add({**INDEX, "manifests": [inner]}, tag="1")

    if is_taken:
        assert number_of(choose_manifest(documents, NAME, HOST)) == "1"
    else:
        with pytest.raises(PlatformMismatchError):
            choose_manifest(documents, NAME, HOST)


def test_indexes_that_lead_on_and_on_end():
    documents = Documents()
    below = documents.add(manifest(1))
    for _ in range(10):
        below = documents.add(
            {
                **INDEX,
                "manifests": [{**below, "platform": {"os": "linux", "architecture": "amd64"}}],
                "annotations": {"below": below["digest"]},
            },
            tag="1",
        )

    with pytest.raises(ArchiveError, match="lead to each other"):
        choose_manifest(documents, NAME, HOST)
    assert len(documents.asked) < 10


def test_indexes_that_lead_to_thousands_of_others_end():
    documents = Documents()
    host = {"os": "linux", "architecture": "amd64"}
    below = documents.add({**INDEX, "manifests": []})
    for _ in range(2):
        below = documents.add({**INDEX, "manifests": [{**below, "platform": host}] * 500}, tag="1")

    with pytest.raises(ArchiveError, match="lead to more than 100 manifests"):
        choose_manifest(documents, NAME, HOST)
    assert len(documents.asked) < 110


def test_attestations_and_other_artefacts_are_passed_over():
    documents = Documents()
    image = documents.add(manifest(1))
    about = documents.add(manifest(2))
    documents.add(
        {
            **INDEX,
            "manifests": [
                {**about, "platform": {"os": "unknown", "architecture": "unknown"}},
                {**about, "mediaType": "application/vnd.cncf.helm.config"},
                {**image, "platform": {"os": "linux", "architecture": "amd64"}},
            ],
        },
        tag="1",
    )

    assert number_of(choose_manifest(documents, NAME, HOST)) == "1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size",
             "platform", "os", "architecture", "annotations", "urls", "x"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON | st.binary(max_size=100))
def test_no_manifest_is_too_odd(document):
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    documents = Documents()
    with contextlib.suppress(EngineError):
        documents.by_name["1"] = RemoteDocument(
            media_type=media_type_of(content, "", "test"),
            digest=digest_of(content),
            content=content,
        )
        choose_manifest(documents, NAME, HOST)
