from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import PlatformMismatchError
from engine.snapshots.index import MergedTree, read_index
from engine.snapshots.writable import CopySnapshotter, OverlaySnapshotter
from tests.integration.images.loading import Store, describe

FORMS = ("docker.tar", "docker.tar.gz", "oci.tar", "oci", "zstd")


async def _merged(store: Store, container: Path, chain: list) -> Path:
    """The merged tree of layers as plain files, by the copy snapshotter."""
    container.mkdir()
    snapshotter = CopySnapshotter(
        root=store.root, layers_directory=store.layers, runner=store.runner
    )
    return Path((await snapshotter.prepare(container, chain)).upper)


def _differences(expected: dict, actual: dict) -> dict:
    return {
        path: (expected.get(path), actual.get(path))
        for path in expected.keys() | actual.keys()
        if expected.get(path) != actual.get(path)
    }


@pytest.mark.root
@pytest.mark.parametrize("form", FORMS)
async def test_a_nasty_image_unpacks_as_umoci_unpacks_it(
    form: str, store: Store, tmp_path: Path, nasty_corpus: Path
) -> None:
    result = await store.load(nasty_corpus / form)
    merged = await _merged(store, tmp_path / "container", store.chain(result))
    expected = describe(nasty_corpus / "bundle/rootfs")
    assert _differences(expected, describe(merged)) == {}
    assert result.warnings == ()
    assert store.left_in_staging() == []


@pytest.mark.root
@pytest.mark.parametrize("form", ["docker.tar", "oci", "zstd"])
@pytest.mark.timeout(600)
async def test_a_debian_image_unpacks_as_umoci_unpacks_it(
    form: str, store: Store, tmp_path: Path, debian_corpus: Path
) -> None:
    result = await store.load(debian_corpus / form)
    chain = store.chain(result)
    assert len(chain) == 3
    merged = await _merged(store, tmp_path / "container", chain)
    expected = describe(debian_corpus / "bundle/rootfs")
    assert _differences(expected, describe(merged)) == {}


@pytest.mark.root
async def test_the_index_names_what_is_on_disk(store: Store, nasty_corpus: Path) -> None:
    result = await store.load(nasty_corpus / "oci.tar")
    tree = MergedTree.of(
        read_index(str(store.layers / chain[7:] / "index")) for chain in store.chain(result)
    )
    paths = {entry.path.decode("utf-8", "surrogateescape") for entry, _ in tree if entry.path}
    assert paths == describe(nasty_corpus / "bundle/rootfs").keys()


@pytest.mark.root
async def test_loading_again_unpacks_nothing(store: Store, nasty_corpus: Path) -> None:
    first = await store.load(nasty_corpus / "docker.tar")
    store.runner.calls.clear()
    again = await store.load(nasty_corpus / "zstd")
    assert store.runner.calls == []
    assert again.images[0].image_id == first.images[0].image_id
    assert again.images[0].was_present


@pytest.mark.root
async def test_another_architecture_is_refused(store: Store, nasty_corpus: Path) -> None:
    with pytest.raises(PlatformMismatchError):
        await store.load(nasty_corpus / "oci", architecture="riscv64")
    assert store.catalog.images == {}


@pytest.mark.root
async def test_changes_are_those_of_the_writable_layer(
    store: Store, tmp_path: Path, nasty_corpus: Path
) -> None:
    chain = store.chain(await store.load(nasty_corpus / "oci"))
    container = tmp_path / "container"
    upper = await _merged(store, container, chain)
    snapshotter = CopySnapshotter(
        root=store.root, layers_directory=store.layers, runner=store.runner
    )
    assert await snapshotter.changes(container, chain) == ()
    (upper / "a/added").unlink()
    (upper / "a/c").write_text("other")
    (upper / "fresh").write_text("fresh")
    changes = {
        change.path: change.change.value for change in await snapshotter.changes(container, chain)
    }
    assert changes == {"a": "modified", "a/added": "removed", "a/c": "modified", "fresh": "added"}
    await snapshotter.remove(container)
    assert list(container.iterdir()) == []


@pytest.mark.root
async def test_an_overlay_has_the_stubs_at_the_bottom(
    store: Store, tmp_path: Path, nasty_corpus: Path
) -> None:
    chain = store.chain(await store.load(nasty_corpus / "oci"))
    container = tmp_path / "container"
    container.mkdir()
    snapshotter = OverlaySnapshotter(
        root=store.root, layers_directory=store.layers, runner=store.runner
    )
    rootfs = await snapshotter.prepare(container, chain)
    assert Path(rootfs.lowers[-1], "etc/resolv.conf").is_file()
    assert len(rootfs.lowers) == len(chain) + 1
    assert await snapshotter.changes(container, chain) == ()
    assert (await snapshotter.usage(container)).entry_count == 0
