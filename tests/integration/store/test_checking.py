"""`check_store` on a real store: a whole one is clean, damage is found, named and repaired."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import shutil
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from engine.images.layout import MadeImage, MadeLayer, write_layout
from engine.oci.documents import ConfigSection
from engine.snapshots.tar_writer import TarEntry
from engine.types import CommitRequest, ContainerRequest, ProblemKind
from tests.integration.images.corpus import debian_corpus, nasty_corpus

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["debian_corpus", "nasty_corpus"]


def layer(*paths):
    entries = tuple(
        TarEntry(path=path, mode=stat.S_IFREG | 0o644, content=path.encode() * 100)
        for path in paths
    )
    return MadeLayer(created_by=f"COPY {' '.join(paths)}", entries=entries)


BASE, ONE = layer("base", "etc"), layer("one")


@pytest.fixture
def layout(tmp_path):
    """A layout of an image of two layers, called `web:1`."""
    image = MadeImage(name="web:1", layers=(BASE, ONE), config=ConfigSection(cmd=("/none",)))
    write_layout(tmp_path / "layout", [image])
    return tmp_path / "layout"


@pytest.fixture
async def web(engine, layout):
    """The image in the store, with what is known of it."""
    await engine.load_images(layout)
    return await engine.inspect_image("web:1")


def kept_blobs(store_paths):
    return {path.name for path in (store_paths.root / "blobs" / "sha256").iterdir()}


def blob_path(store_paths, digest):
    return store_paths.root / "blobs" / "sha256" / digest[7:]


def diff_of(store_paths, step):
    return store_paths.root / "layers" / step.chain_id[7:] / "diff"


def tamper(path):
    """Change a byte, and leave the times as they were."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change(store_paths, *statements):
    """Change the database behind the engine's back."""
    with sqlite3.connect(store_paths.root / "lamella.db", timeout=30) as database:
        for statement, values in statements:
            database.execute(statement, values)
    database.close()


def kept_compressed(store_paths, layout, step, position):
    """Let a layer be kept compressed as well, as a pull leaves it; returns the blob's digest."""
    tar = (layout / "blobs" / "sha256" / step.diff_id[7:]).read_bytes()
    content = gzip.compress(tar, mtime=0)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blob_path(store_paths, digest).write_bytes(content)
    change(
        store_paths,
        (
            "UPDATE image_layers SET blob_digest = ?, blob_size_bytes = ? WHERE position = ?",
            (digest, len(content), position),
        ),
    )
    return digest


def by_chain_id(step):
    """The order in which they are verified."""
    return step.chain_id


async def kinds(engine, **options):
    check = await engine.check_store(**options)
    return [(problem.kind, problem.is_repaired) for problem in check.problems]


async def test_a_whole_store_is_clean_and_everything_in_it_was_read(engine, web, starter_image):
    container = await engine.create_container(ContainerRequest(image="starter", name="job"))
    await engine.commit_container("job", CommitRequest(name="made:1"))
    check = await engine.check_store()
    assert check.problems == ()
    assert check.is_whole
    assert check.image_count == 3
    assert check.layer_count == 4
    assert check.blob_count == 6
    size_bytes = (await engine.disk_usage()).layers_bytes
    assert check.read_bytes > size_bytes
    await engine.remove_container(container.container_id)


async def test_layers_are_told_apart_however_many_one_process_reads(engine, tmp_path, store_paths):
    layers = tuple(layer(f"file-{number}") for number in range(70))
    image = MadeImage(name="deep:1", layers=layers, config=ConfigSection(cmd=("/none",)))
    write_layout(tmp_path / "deep", [image])
    await engine.load_images(tmp_path / "deep")
    found = await engine.inspect_image("deep:1")
    damaged, missing, last = (sorted(found.layers, key=by_chain_id)[rank] for rank in (3, 5, 68))
    (changed,) = diff_of(store_paths, damaged).iterdir()
    tamper(changed)
    shutil.rmtree(diff_of(store_paths, missing).parent)
    (removed,) = diff_of(store_paths, last).iterdir()
    removed.unlink()

    heard = []
    check = await engine.check_store(progress=heard.append)
    said = {problem.subject: problem.text for problem in check.problems}
    assert said.keys() == {step.chain_id for step in (damaged, missing, last)}
    assert said[missing.chain_id] == "the layer is missing"
    assert said[damaged.chain_id].startswith("the layer is damaged: ")
    assert said[last.chain_id].startswith("the layer is damaged: ")
    verified = dict.fromkeys(one.step for one in heard if one.step.startswith("Verifying layer "))
    numbers = [number for number in range(1, 71) if number != 6]
    assert list(verified) == [f"Verifying layer {number} of 70" for number in numbers]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("corpus", ["nasty_corpus", "debian_corpus"])
async def test_what_other_tools_packed_is_clean_once_it_is_loaded(engine, corpus, request):
    directory: Path = request.getfixturevalue(corpus)
    await engine.load_images(directory / "oci.tar")
    check = await engine.check_store()
    assert [(problem.text, problem.details) for problem in check.problems] == []


async def test_a_changed_file_is_named_and_loading_the_image_again_mends_it(
    engine, web, layout, store_paths
):
    damaged = diff_of(store_paths, web.layers[0]) / "base"
    tamper(damaged)
    (problem,) = (await engine.check_store()).problems
    assert problem.kind is ProblemKind.LAYER
    assert problem.subject == web.layers[0].chain_id
    assert problem.image_names == ("web:1",)
    assert problem.details == ("base has another content",)
    assert not problem.is_repaired
    # To look changes nothing: the layer counts as there.
    (loaded,) = await engine.load_images(layout)
    assert loaded.was_present
    assert await kinds(engine) == [(ProblemKind.LAYER, False)]
    (problem,) = (await engine.check_store(repairs=True)).problems
    assert not problem.is_repaired
    assert "lamella load FILE" in problem.remedy
    assert damaged.exists()
    await engine.load_images(layout)
    assert (await engine.check_store()).problems == ()
    assert damaged.read_bytes() == b"base" * 100


async def test_a_missing_layer_is_brought_by_loading_its_image_again(
    engine, web, layout, store_paths
):
    shutil.rmtree(diff_of(store_paths, web.layers[1]).parent)
    (problem,) = (await engine.check_store()).problems
    assert (problem.kind, problem.text) == (ProblemKind.LAYER, "the layer is missing")
    await engine.load_images(layout)
    assert (await engine.check_store()).problems == ()


async def test_a_damaged_layer_is_unpacked_again_from_the_compressed_one(
    engine, web, layout, store_paths
):
    kept_compressed(store_paths, layout, web.layers[1], 1)
    assert await kinds(engine) == []
    damaged = diff_of(store_paths, web.layers[1]) / "one"
    damaged.unlink()
    assert await kinds(engine) == [(ProblemKind.LAYER, False)]
    assert await kinds(engine, repairs=True) == [(ProblemKind.LAYER, True)]
    assert damaged.read_bytes() == b"one" * 100
    assert await kinds(engine) == []
    tree = await engine.list_layer_files("web:1", 1)
    assert [entry.path for entry in tree.entries] == ["one"]


async def test_a_damaged_compressed_layer_is_dropped_and_the_layer_stays(
    engine, web, layout, store_paths
):
    digest = kept_compressed(store_paths, layout, web.layers[1], 1)
    tamper(blob_path(store_paths, digest))
    assert await kinds(engine) == [(ProblemKind.BLOB, False)]
    assert await kinds(engine, repairs=True) == [(ProblemKind.BLOB, True)]
    assert not blob_path(store_paths, digest).exists()
    assert await kinds(engine) == []


async def test_a_damaged_config_is_written_again_and_a_damaged_manifest_by_loading(
    engine, web, layout, store_paths
):
    config, manifest = (
        blob_path(store_paths, digest) for digest in (web.summary.image_id, web.digest)
    )
    before = config.read_bytes(), manifest.read_bytes()
    config.unlink()
    tamper(manifest)
    problems = (await engine.check_store(repairs=True)).problems
    assert [(problem.kind, problem.is_repaired) for problem in problems] == [
        (ProblemKind.BLOB, True),
        (ProblemKind.BLOB, False),
    ]
    assert "lamella pull web:1" in problems[1].remedy
    await engine.load_images(layout)
    assert await kinds(engine) == []
    assert (config.read_bytes(), manifest.read_bytes()) == before


async def test_what_has_no_record_is_told_and_removed(engine, web, store_paths):
    before = kept_blobs(store_paths)
    left = store_paths.root / "layers" / ("0" * 64)
    (left / "diff").mkdir(parents=True)
    blob = blob_path(store_paths, f"sha256:{hashlib.sha256(b'left').hexdigest()}")
    blob.write_bytes(b"left")
    assert await kinds(engine) == [(ProblemKind.ORPHAN, False)] * 2
    assert left.exists()
    assert await kinds(engine, repairs=True) == [(ProblemKind.ORPHAN, True)] * 2
    assert not left.exists()
    assert kept_blobs(store_paths) == before
    assert await kinds(engine) == []


async def test_records_that_contradict_the_documents_are_told(engine, web, store_paths):
    change(
        store_paths,
        ("UPDATE layers SET entry_count = 99 WHERE chain_id = ?", (web.layers[0].chain_id,)),
        ("UPDATE images SET config = ? WHERE image_id = ?", (b"{}", web.summary.image_id)),
    )
    problems = (await engine.check_store()).problems
    assert [(problem.kind, problem.text) for problem in problems] == [
        (ProblemKind.IMAGE, "its config in the database has another digest than its id"),
        (ProblemKind.LAYER, "the layer is damaged: 1 difference"),
    ]


async def test_a_layer_is_not_replaced_under_a_container_that_runs(
    engine, starter_image, store_paths
):
    details = await engine.inspect_image("starter")
    request = ContainerRequest(image="starter", name="job", command=("sleep", "1000"))
    await engine.create_container(request)
    await engine.start_container("job")
    extra = diff_of(store_paths, details.layers[0]) / "extra"
    extra.touch()
    (problem,) = (await engine.check_store(repairs=True)).problems
    assert not problem.is_repaired
    assert problem.remedy == "containers run on it: stop job, then repair again"
    await engine.remove_container("job", is_forced=True)
    (problem,) = (await engine.check_store(repairs=True)).problems
    assert "bring the image again" in problem.remedy
    await engine.make_starter_image()
    assert await kinds(engine) == []
    assert not extra.exists()


async def test_a_check_holds_nobody_up_and_loses_nothing_that_is_removed_meanwhile(
    engine, web, layout, store_paths
):
    begun = asyncio.Event()
    checking = asyncio.create_task(engine.check_store(progress=lambda _progress: begun.set()))
    await begun.wait()
    await engine.remove_image("web:1")
    assert (await checking).problems == ()
    await engine.load_images(layout)
    assert await kinds(engine) == []


async def test_a_cancelled_check_leaves_no_claims(engine, web, store_paths):
    begun = asyncio.Event()

    def on_progress(progress):
        if progress.step.startswith("Verifying layer"):
            begun.set()

    checking = asyncio.create_task(engine.check_store(progress=on_progress))
    await begun.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    await engine.remove_image("web:1")
    assert kept_blobs(store_paths) == set()
    assert list((store_paths.root / "layers").iterdir()) == []
