"""Looks into images of a registry, without pulling them."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from engine.errors import ArchiveError, FileNotInLayerError, InvalidInputError
from engine.images.layer_cache import KeptLayer
from engine.types import MAXIMUM_VIEWED_BYTES, ChangeKind, FileKind
from tests.fault_proxy import Fault
from tests.integration.registry.test_faulty_pulls import is_layer, push_tar
from tests.registries import push_files
from tests.staging import left_in_staging
from tests.unit.snapshots.tars import END, directory, entry, hard_link, pax, symlink


async def test_the_files_of_a_layer_are_as_its_tar_has_them(engine, registry, client, store_paths):
    name = f"{registry.address}/odd:1"
    tar = (
        directory(b"./")
        + directory(b"etc/", mode=0o1755)
        + entry(b"etc/passwd", b"root", mode=0o4755)
        + symlink(b"link", b"../../outside")
        + hard_link(b"etc/twin", b"etc/passwd")
        + entry(b"etc/.wh.gone", b"")
        + entry(b"etc/.wh..wh..opq", b"")
        + entry(b"../../climbs\xff", b"x")
        + END
    )
    push_tar(client, name, tar)
    tree = await engine.list_remote_layer_files(name, 0)
    found = {one.path: (one.kind, one.change, one.mode, one.link_target) for one in tree.entries}
    assert found == {
        "etc": (FileKind.DIRECTORY, ChangeKind.ADDED, 0o1755, ""),
        "etc/passwd": (FileKind.FILE, ChangeKind.ADDED, 0o4755, ""),
        "etc/twin": (FileKind.HARD_LINK, ChangeKind.ADDED, 0o644, "etc/passwd"),
        "etc/gone": (FileKind.WHITEOUT, ChangeKind.REMOVED, 0o644, ""),
        "link": (FileKind.SYMLINK, ChangeKind.ADDED, 0o644, "../../outside"),
        "climbs\udcff": (FileKind.FILE, ChangeKind.ADDED, 0o644, ""),
    }
    assert list((store_paths.root / "layers").glob("*")) == []


async def test_a_layer_that_comes_otherwise_than_promised_is_not_shown(engine, proxy):
    image_id = push_files(f"{proxy.upstream}/web:1", {"file": bytes(1000)})
    proxy.plan = lambda request: Fault(flips_at=9) if is_layer(request, image_id) else None
    with pytest.raises(ArchiveError):
        await engine.list_remote_layer_files(f"{proxy.address}/web:1", 0)


async def test_a_look_fetches_no_layer_and_a_look_at_one_no_other(engine, proxy):
    image_id = push_files(f"{proxy.upstream}/web:1", {"one": b"1"}, {"two": b"2"})
    await engine.peek_image(f"{proxy.address}/web:1")
    assert not [request for request in proxy.requests if is_layer(request, image_id)]
    await engine.list_remote_layer_files(f"{proxy.address}/web:1", 1)
    assert len([request for request in proxy.requests if is_layer(request, image_id)]) == 1


async def test_a_file_is_read_as_the_layer_leaves_it(engine, registry, client, store_paths):
    name = f"{registry.address}/odd:1"
    large = bytes(range(256)) * 8192
    tar = (
        entry(b"etc/passwd", b"before")
        + entry(b"./etc/passwd", b"after")
        + hard_link(b"etc/twin", b"etc/passwd")
        + hard_link(b"round", b"about")
        + hard_link(b"about", b"round")
        + entry(b"large", large)
        + pax(**{"GNU.sparse.size": b"3000000", "GNU.sparse.map": b"2,3,2000000,4"})
        + entry(b"sparse", b"abcdefg")
        + entry(b"empty")
        + symlink(b"link", b"etc/passwd")
        + directory(b"dir/")
        + entry(b"etc/.wh.gone")
        + entry(b"odd\xff", b"odd")
        + END
    )
    push_tar(client, name, tar)
    told = []

    async def read(path):
        return await engine.read_remote_file(name, 0, path, progress=told.append)

    for path, content in (
        ("etc/passwd", b"after"),
        ("/etc/../etc/twin", b"after"),
        ("empty", b""),
        ("odd\udcff", b"odd"),
    ):
        file = await read(path)
        assert (file.content, file.size_bytes, file.is_complete) == (content, len(content), True)
    file = await read("large")
    assert (file.content, file.size_bytes) == (large[:MAXIMUM_VIEWED_BYTES], len(large))
    assert not file.is_complete
    file = await read("sparse")
    assert file.size_bytes == 3_000_000
    assert file.content == b"\0\0abc" + bytes(MAXIMUM_VIEWED_BYTES - 5)
    assert told[0].unit == "bytes"
    assert 0 < told[0].done <= told[0].total
    for path, reason in (
        ("link", "link is a symbolic link to etc/passwd"),
        ("dir", "dir is no file: directory"),
        ("etc/gone", "etc/gone is removed by this layer"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            await read(path)
    for path in ("none", "round", "", "etc/passwd/below", "nul\0"):
        with pytest.raises(FileNotInLayerError):
            await read(path)
    assert list((store_paths.root / "layers").glob("*")) == []


async def test_a_file_of_a_layer_that_is_not_what_was_promised_is_not_shown(engine, proxy):
    image_id = push_files(f"{proxy.upstream}/web:1", {"file": b"true", "more": bytes(300_000)})
    # The file itself arrives whole: what is wrong comes long after it.
    proxy.plan = lambda request: Fault(flips_at=400) if is_layer(request, image_id) else None
    with pytest.raises(ArchiveError):
        await engine.read_remote_file(f"{proxy.address}/web:1", 0, "file")


async def test_a_look_at_a_file_can_be_given_up(engine, proxy):
    image_id = push_files(f"{proxy.upstream}/web:1", {"file": os.urandom(300_000)})
    is_asked = threading.Event()

    def plan(request):
        if is_layer(request, image_id):
            is_asked.set()
            return Fault(stalls_at=1000)
        return None

    proxy.plan = plan
    looking = asyncio.ensure_future(engine.read_remote_file(f"{proxy.address}/web:1", 0, "file"))
    assert await asyncio.to_thread(is_asked.wait, 20)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


def asked(proxy) -> list[str]:
    """What the registry was asked for since the last time, beside whether it is one."""
    paths = [request.path for request in proxy.requests if request.path != "/v2/"]
    proxy.requests.clear()
    return paths


async def test_what_was_looked_into_is_not_asked_for_again(engine, proxy, store_paths):
    image_id = push_files(f"{proxy.upstream}/web:1", {"one": b"1", "two": b"2"}, {"three": b"3"})
    seen = await engine.peek_image(f"{proxy.address}/web:1")
    exact = f"{proxy.address}/web@{seen.digest}"
    asked(proxy)

    await engine.list_remote_layer_files(exact, 0)
    assert [one for one in proxy.requests if is_layer(one, image_id)]
    assert all("/manifests/" not in path for path in asked(proxy))
    for path, content in (("one", b"1"), ("two", b"2")):
        assert (await engine.read_remote_file(exact, 0, path)).content == content
    assert asked(proxy) == []
    # Another layer is another matter, and a tag may lead elsewhere by now.
    await engine.read_remote_file(exact, 1, "three")
    assert len(asked(proxy)) == 1
    await engine.read_remote_file(f"{proxy.address}/web:1", 1, "three")
    assert any("/manifests/1" in path for path in asked(proxy))
    # It has no name, so that nothing is left of it, however the process ends.
    assert left_in_staging(store_paths.root) == []


async def test_a_layer_that_was_pulled_is_not_asked_for_unless_it_is_damaged(
    engine, proxy, store_paths
):
    push_files(f"{proxy.upstream}/web:1", {"one": b"1", "two": b"2"})
    name = f"{proxy.address}/web:1"
    await engine.pull_image(name)
    seen = await engine.peek_image(name)
    exact = f"{proxy.address}/web@{seen.digest}"
    asked(proxy)

    assert (await engine.read_remote_file(exact, 0, "one")).content == b"1"
    assert asked(proxy) == []
    blob = store_paths.root / "blobs/sha256" / seen.layers[0].digest.removeprefix("sha256:")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-9] + b"x" + whole[-8:])
    assert (await engine.read_remote_file(exact, 0, "two")).content == b"2"
    assert len(asked(proxy)) == 1
    blob.write_bytes(whole)


async def test_a_pull_takes_the_layers_that_were_looked_into(engine, proxy):
    image_id = push_files(f"{proxy.upstream}/web:1", {"one": b"1" * 5000}, {"two": b"2"})
    name = f"{proxy.address}/web:1"
    await engine.list_remote_layer_files(name, 0)
    assert len([one for one in proxy.requests if is_layer(one, image_id)]) == 1
    proxy.requests.clear()

    await engine.pull_image(name)

    assert len([one for one in proxy.requests if is_layer(one, image_id)]) == 1
    assert (await engine.read_layer_file(name, 0, "one")).content == b"1" * 5000
    assert (await engine.check_store()).is_whole


async def test_a_layer_that_was_damaged_since_it_was_looked_into_is_fetched(
    engine, proxy, monkeypatch
):
    image_id = push_files(f"{proxy.upstream}/web:1", {"one": b"1" * 5000})
    name = f"{proxy.address}/web:1"
    await engine.list_remote_layer_files(name, 0)
    proxy.requests.clear()
    read = KeptLayer.read

    def damaged(self, size, /):
        piece = read(self, size)
        return piece and piece[:-9] + bytes([piece[-9] ^ 1]) + piece[-8:]

    monkeypatch.setattr(KeptLayer, "read", damaged)
    await engine.pull_image(name)

    assert len([one for one in proxy.requests if is_layer(one, image_id)]) == 1
    assert (await engine.check_store()).is_whole
