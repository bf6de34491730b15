"""Images of many layers, and archives of several images, packed by umoci, skopeo and podman."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.images.corpus import (
    archive_forms,
    cached,
    fill_base,
    fill_change,
    make_layer,
    need,
    run,
)
from tests.workers import STORE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYER_COUNT = 119
"""More than overlay's mount options have room for, if layers are named by long paths."""

PODMAN = ("podman", "--runtime", "runc", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs")


@contextlib.contextmanager
def own_podman() -> Iterator[tuple[str, ...]]:
    """Podman with a store of its own, for the length of a block."""
    # Podman has room for 50 characters.
    directory = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        yield (*PODMAN, "--root", f"{directory}/g", "--runroot", f"{directory}/r")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _add_layer(layout: str, image: str, tree: Path) -> None:
    tar = tree.with_suffix(".tar")
    # Ended by two blocks, as Go ends a tar: skopeo's zstd:chunked drops what is more.
    run("tar", "--numeric-owner", "--sort=name", "-b1", "-cf", tar, "-C", tree, ".")
    run("umoci", "raw", "add-layer", "--image", f"{layout}:{image}", tar)
    shutil.rmtree(tree)
    tar.unlink()


def _make_many(directory: Path) -> None:
    layout = f"{directory}/oci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:many")
    for number in range(LAYER_COUNT):
        tree = directory / f"layer-{number}"
        (tree / "d").mkdir(parents=True)
        (tree / f"d/file-{number}").write_text(str(number))
        (tree / "same").write_text(f"of layer {number}")
        if number:
            (tree / f"d/.wh.file-{number - 1}").touch()
        _add_layer(layout, "many", tree)
    copy = ("skopeo", "copy", "--insecure-policy", "-q", f"oci:{layout}:many")
    run(*copy, f"docker-archive:{directory}/docker.tar:example/many:1")
    run(*copy, f"oci-archive:{directory}/oci.tar:many")
    run("umoci", "unpack", "--image", f"{layout}:many", directory / "bundle")


def _make_multi(directory: Path) -> None:
    """Three images that share their lowest layer, in every form that holds several."""
    layout = f"{directory}/oci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:base")
    tree = directory / "base"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("base")
    _add_layer(layout, "base", tree)
    for name in ("one", "two"):
        run("umoci", "tag", "--image", f"{layout}:base", name)
        tree = directory / name
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/motd").write_text(name)
        _add_layer(layout, name, tree)
    run("tar", "-cf", directory / "oci.tar", "-C", layout, ".")
    names = []
    with own_podman() as podman:
        for name in ("base", "one", "two"):
            archive = directory / f"{name}.tar"
            names.append(f"docker.io/example/{name}:1")
            source = f"oci:{layout}:{name}"
            run(
                *("skopeo", "copy", "--insecure-policy", "-q", source),
                f"docker-archive:{archive}:example/{name}:1",
            )
            run(*podman, "load", "-q", "-i", archive)
            archive.unlink()
            run("umoci", "unpack", "--image", f"{layout}:{name}", directory / f"bundle-{name}")
        run(*podman, "save", "-q", "-m", "-o", directory / "podman.tar", *names)
    run(
        "skopeo", "copy", "--insecure-policy", "-q", "--dest-compress-format", "zstd:chunked",
        f"oci:{layout}:two", f"oci:{directory}/chunked:two",
    )  # fmt: skip


def _make_odd(directory: Path) -> None:
    """The odd image without sparse tars: Docker, Podman and Buildah cannot push or save those."""
    layers = [
        make_layer(
            directory, "layer-1", fill_base, "--format=pax", "--xattrs", "--xattrs-include=*"
        ),
        make_layer(directory, "layer-2", fill_change, "--format=gnu"),
    ]
    layout = f"{directory}/oci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:odd")
    for layer in layers:
        run("umoci", "raw", "add-layer", "--image", f"{layout}:odd", layer)
        layer.unlink()
    run("umoci", "config", "--image", f"{layout}:odd", "--config.cmd", "/none")
    archive_forms(directory, "odd")


@pytest.fixture(scope="session")
def odd_corpus() -> Path:
    """`example/odd:1`, with everything odd that every other tool can handle."""
    need("umoci", "skopeo", "tar")
    return cached("odd", _make_odd, recipe_file=__file__)


@pytest.fixture(scope="session")
def many_corpus() -> Path:
    """An image of 119 layers; each but the first removes a file of the one below."""
    need("umoci", "skopeo", "tar")
    return cached("many", _make_many, recipe_file=__file__)


@pytest.fixture(scope="session")
def multi_corpus() -> Path:
    """`example/base:1`, `example/one:1`, `example/two:1` in one archive."""
    need("umoci", "skopeo", "podman", "tar")
    return cached("multi", _make_multi, recipe_file=__file__)
