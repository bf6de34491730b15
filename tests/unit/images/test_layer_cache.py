"""Layers that were looked into: how many are kept, and what is left of them."""

import os

import pytest

from engine.images import layer_cache
from engine.images.layer_cache import LayerCache


@pytest.fixture
def cache(tmp_path):
    kept = LayerCache(tmp_path / "staging", maximum_bytes=100)
    yield kept
    kept.close()


def keep(cache, digest, content):
    with cache.copy(digest, len(content)) as copy:
        copy.write(content[:3])
        copy.write(content[3:])
        copy.finish()


def content_of(cache, digest):
    kept = cache.open(digest)
    if kept is None:
        return None
    with kept:
        return b"".join(iter(lambda: kept.read(7), b""))


def test_the_layers_that_were_used_last_are_kept_as_far_as_there_is_room(cache):
    keep(cache, "one", b"1" * 40)
    keep(cache, "two", b"2" * 40)
    assert content_of(cache, "one") == b"1" * 40
    keep(cache, "three", b"3" * 40)
    assert [content_of(cache, name) for name in ("one", "two", "three")] == [
        b"1" * 40,
        None,
        b"3" * 40,
    ]
    keep(cache, "large", b"4" * 101)
    assert content_of(cache, "large") is None
    assert content_of(cache, "three") == b"3" * 40


def test_one_that_is_dropped_can_be_read_to_its_end(cache):
    keep(cache, "one", b"0123456789")
    with cache.open("one") as kept:
        assert kept.read(4) == b"0123"
        cache.drop("one")
        assert kept.read(100) == b"456789"
    assert cache.open("one") is None


def test_what_did_not_come_whole_is_not_kept(cache):
    with cache.copy("one", 10) as copy:
        copy.write(b"01234")
    assert cache.open("one") is None


def test_nothing_has_a_name_and_nothing_stays_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    cache = LayerCache(tmp_path / "staging")
    keep(cache, "one", b"1")
    late = cache.copy("two", 1)
    late.write(b"2")
    assert os.listdir(tmp_path / "staging") == []
    cache.close()
    late.finish()
    assert cache.open("one") is cache.open("two") is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_ends_the_keeping_and_not_the_look(cache, monkeypatch):
    def full(_descriptor, _piece):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layer_cache, "write_all", full)
    keep(cache, "one", b"0123456789")
    assert cache.open("one") is None


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / "staging").write_bytes(b"")
    cache = LayerCache(tmp_path / "staging")
    keep(cache, "one", b"1")
    assert cache.open("one") is None
