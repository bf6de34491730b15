import hashlib

import pytest

from engine.errors import DigestMismatchError, InvalidInputError, StoreError
from engine.store.blobs import BlobStore

OTHER = "sha256:" + "0" * 64


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def staging(tmp_path):
    directory = tmp_path / "staging"
    directory.mkdir()
    return directory


def test_content_is_found_under_its_digest_and_nothing_stays_in_staging(blobs, staging):
    digest = blobs.add(b"content", staging)
    assert digest == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    assert blobs.read(digest, maximum_bytes=100) == b"content"
    assert blobs.add(b"content", staging) == digest
    assert list(blobs.digests()) == [digest]
    assert list(staging.iterdir()) == []


def test_content_of_another_digest_is_refused_and_leaves_nothing(blobs, staging):
    with blobs.writer(staging) as writer:
        writer.write(b"not what was promised")
        with pytest.raises(DigestMismatchError):
            writer.commit(OTHER)
    assert list(staging.iterdir()) == []
    assert list(blobs.digests()) == []


def test_a_blob_that_is_not_committed_leaves_nothing(blobs, staging):
    with blobs.writer(staging) as writer:
        writer.write(b"half of")
        assert writer.size_bytes == 7
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sha256:",
        "sha256:../../../etc/passwd",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 64 + "\n",
        "sha512:" + "0" * 128,
        "../" + "0" * 64,
    ],
)
def test_a_name_that_is_no_digest_never_becomes_a_path(blobs, name):
    for ask in (blobs.path, blobs.has, blobs.open, blobs.remove, blobs.size_bytes):
        with pytest.raises(InvalidInputError, match="not a sha256 digest"):
            ask(name)


def test_a_blob_that_was_damaged_on_disk_is_noticed(blobs, staging):
    digest = blobs.add(b"content", staging)
    blobs.path(digest).write_bytes(b"c0ntent")
    with pytest.raises(DigestMismatchError):
        blobs.read(digest, maximum_bytes=100)


def test_what_is_missing_or_too_large_is_said(blobs, staging):
    with pytest.raises(StoreError, match="is missing"):
        blobs.read(OTHER, maximum_bytes=100)
    digest = blobs.add(b"content", staging)
    with pytest.raises(StoreError, match="larger than 3 bytes"):
        blobs.read(digest, maximum_bytes=3)


def test_a_link_in_place_of_a_blob_is_not_followed(blobs, staging, tmp_path):
    digest = blobs.add(b"content", staging)
    (tmp_path / "elsewhere").write_bytes(b"content")
    blobs.path(digest).unlink()
    blobs.path(digest).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        blobs.read(digest, maximum_bytes=100)


def test_removing_says_what_was_freed(blobs, staging):
    digest = blobs.add(b"content", staging)
    (blobs.path(digest).parent / "README").write_text("not a blob")
    assert blobs.total_bytes() == 7
    assert blobs.remove(digest) == 7
    assert blobs.remove(digest) == 0
    assert list(blobs.digests()) == []


def test_a_blob_that_cannot_be_opened_is_not_called_missing(blobs, staging):
    digest = blobs.add(b"content", staging)
    path = blobs.path(digest)
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(StoreError) as caught:
        blobs.open(digest)
    assert "missing" not in caught.value.message
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        blobs.open(digest)
