"""Images that other tools made, once for each recipe, kept in a cache between test runs.

`LAMELLA_TEST_CACHE` says where; the default is in the temporary directory. A corpus is made
under another name and renamed, so that an interrupted run leaves nothing that looks whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_BUILDAH_CONFIG = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command} failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="surrogateescape")


def need(*tools: str) -> None:
    """Skip where a tool or the right to use it is missing."""
    if os.geteuid() != 0:
        pytest.skip("making images with every owner and device needs root")
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (`make test-tools` installs it)")


def cached(name: str, make: Callable[[Path], None], *, recipe_file: str = __file__) -> Path:
    recipe = hashlib.sha256(Path(recipe_file).read_bytes()).hexdigest()[:12]
    default = Path(tempfile.gettempdir()) / f"lamella-test-cache-{os.geteuid()}"
    cache = Path(os.environ.get("LAMELLA_TEST_CACHE") or default)
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready = cache / f"{name}-{recipe}"
    with open(cache / f"{name}.lock", "w") as lock:
        # Another worker may be making it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_dir():
            fresh = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cache))
            try:
                make(fresh)
                fresh.rename(ready)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    return ready


def archive_forms(directory: Path, image: str) -> None:
    """From `oci:<image>` in a directory, every form that skopeo writes."""
    source = f"oci:{directory}/oci:{image}"
    copy = ("skopeo", "copy", "--insecure-policy", "-q")
    run(*copy, source, f"docker-archive:{directory}/docker.tar:example/{image}:1")
    run(*copy, source, f"oci-archive:{directory}/oci.tar:{image}")
    zstd = ("--dest-compress-format", "zstd")
    run(*copy, *zstd, source, f"oci:{directory}/zstd:{image}")
    run("gzip", "-1", "-k", directory / "docker.tar")
    run("umoci", "unpack", "--image", f"{directory}/oci:{image}", directory / "bundle")


def make_layer(directory: Path, name: str, fill: Callable[[Path], None], *options: str) -> Path:
    tree = directory / name
    tree.mkdir()
    os.chmod(tree, 0o755)
    fill(tree)
    tar = directory / f"{name}.tar"
    run("tar", "--numeric-owner", *options, "-cf", tar, "-C", tree, ".")
    shutil.rmtree(tree)
    return tar


def fill_base(tree: Path) -> None:
    for name in ("bin", "a", "op/x", "dangling", "turns", "gone/deep/er"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is not None:
        shutil.copy(busybox, tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    for name in ("a/b", "a/c", "a/f2", "op/old", "op/x/k", "gone/deep/er/file", "turns/inside"):
        (tree / name).write_text(name)
    (tree / "a/link1").write_text("twins")
    os.link(tree / "a/link1", tree / "a/link2")
    (tree / "to-directory").symlink_to("op")
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "absolute").symlink_to("/usr/lib")
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.mknod(tree / "block", 0o060600, os.makedev(7, 9))
    os.mkfifo(tree / "fifo")
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("locked", 0o000)):
        (tree / name).write_text(name)
        os.chmod(tree / name, mode)
    (tree / "sticky").mkdir()
    os.chmod(tree / "sticky", 0o1777)
    (tree / "far-owner").write_text("x")
    os.chown(tree / "far-owner", 2_000_000, 3_000_000)
    deep = tree
    for _ in range(5):
        deep = deep / ("d" * 90)
        deep.mkdir()
    (deep / ("f" * 200)).write_text("deep")
    (tree / "long-link").symlink_to("t" * 300)
    (tree / "new\nline").write_text("n")
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xfe odd")).write_text("bytes")
    (tree / "grün und blau").write_text("ü")
    with open(tree / "sparse", "wb") as file:
        file.truncate(8 << 20)
        file.seek(1 << 20)
        file.write(b"island")
    for name, seconds in (("old-time", 1), ("late-time", 4_300_000_000)):
        (tree / name).write_text(name)
        os.utime(tree / name, (seconds, seconds))
    for name, attribute, value in (
        ("a/c", "user.note", b"hello"),
        ("a/c", "trusted.note", b"\x00\xff"),
        (
            "bin/busybox",
            "security.capability",
            bytes.fromhex("0100000200040000000000000000000000000000"),
        ),
    ):
        if (tree / name).exists():
            os.setxattr(tree / name, attribute, value)


def fill_change(tree: Path) -> None:
    for name in ("a", "op/x", "turns"):
        (tree / name).mkdir(parents=True)
    (tree / "dangling").mkdir()
    for name in (
        *("a/.wh.b", "a/.wh.f2", "a/.wh.link2", "op/x/.wh.k", ".wh.gone"),
        *("op/.wh..wh..opq", "dangling/.wh..wh..opq"),
    ):
        (tree / name).touch()
    (tree / "op/new").write_text("new")
    (tree / "a/added").write_text("added")
    shutil.rmtree(tree / "turns")
    (tree / "turns").write_text("a file now")
    (tree / "to-directory").mkdir()
    (tree / "to-directory/real").write_text("real")


def _make_nasty(directory: Path) -> None:
    xattrs = ("--xattrs", "--xattrs-include=*")
    layers = [
        make_layer(directory, "layer-1", fill_base, "--format=pax", "--sparse", *xattrs),
        make_layer(directory, "layer-2", fill_change, "--format=gnu"),
    ]
    # A layer that leaves its parents out, below a link of the base's.
    loose = directory / "loose"
    (loose / "lib").mkdir(parents=True)
    (loose / "lib/through-link").write_text("through")
    run("tar", "-cf", directory / "layer-3.tar", "-C", loose, "lib/through-link")
    layers.append(directory / "layer-3.tar")
    shutil.rmtree(loose)
    run("umoci", "init", "--layout", directory / "oci")
    run("umoci", "new", "--image", f"{directory}/oci:nasty")
    for layer in layers:
        run("umoci", "raw", "add-layer", "--image", f"{directory}/oci:nasty", layer)
        layer.unlink()
    run(
        "umoci", "config", "--image", f"{directory}/oci:nasty",
        "--config.user", "12:34", "--config.workingdir", "/a", "--config.env", "SPACE=a b  c",
        "--config.exposedports", "80/tcp", "--config.exposedports", "53/udp",
        "--config.volume", "/data", "--config.stopsignal", "SIGUSR1",
        "--config.entrypoint", "/bin/busybox", "--config.cmd", "echo", "--config.cmd", "hi there",
        "--config.label", "name=a value",
    )  # fmt: skip
    archive_forms(directory, "nasty")


def _make_debian(directory: Path) -> None:
    root = directory / "root.tar"
    run("mmdebstrap", "--variant=minbase", "bookworm", root)
    (directory / "Dockerfile").write_text(
        "FROM scratch\nADD root.tar /\nENV LANG=C.UTF-8\n"
        "RUN rm -rf /usr/share/doc /var/cache/apt && echo changed > /etc/motd\n"
        "RUN mkdir -p /srv/app && ln /bin/ls /srv/app/ls && rm /usr/share/info -rf; "
        "mkdir /usr/share/doc && touch /usr/share/doc/again\n"
        'CMD ["/bin/bash"]\n'
    )
    config = directory / "containers.conf"
    config.write_text(_BUILDAH_CONFIG)
    store = directory / "store"
    buildah = (
        "buildah", "--root", store / "root", "--runroot", store / "run", "--storage-driver", "vfs",
    )  # fmt: skip
    try:
        run(
            *buildah, "bud", "--isolation", "chroot", "--layers", "-q", "-t", "debian",
            "-f", directory / "Dockerfile", directory,
            CONTAINERS_CONF=str(config),
        )  # fmt: skip
        target = f"oci:{directory}/oci:debian"
        run(*buildah, "push", "-q", "debian", target, CONTAINERS_CONF=str(config))
    finally:
        shutil.rmtree(store, ignore_errors=True)
    root.unlink()
    archive_forms(directory, "debian")


@pytest.fixture(scope="session")
def nasty_corpus() -> Path:
    """Everything odd that a layer may hold, packed by umoci and skopeo."""
    need("umoci", "skopeo", "tar")
    return cached("nasty", _make_nasty)


@pytest.fixture(scope="session")
def debian_corpus() -> Path:
    """A real Debian, three layers, built by buildah."""
    need("umoci", "skopeo", "buildah", "mmdebstrap")
    return cached("debian", _make_debian)
