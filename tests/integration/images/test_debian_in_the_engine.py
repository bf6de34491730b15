"""A real Debian, packed by other tools, loaded and run by the whole engine."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.types import ContainerRequest, OutputStream
from tests.integration.images.loading import describe

CHECKOUT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

# From inside the container's mount namespace, without what is mounted on top of its root.
_LOOK = """
import ctypes, os, pickle, sys
from pathlib import Path
from tests.integration.images.loading import describe
libc = ctypes.CDLL(None, use_errno=True)
assert libc.setns(os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY), 0x20000) == 0
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
assert libc.mount(b"/", b"/mnt", None, 0x1000, None) == 0
sys.stdout.buffer.write(pickle.dumps(describe(Path("/mnt"))))
"""


async def python(*arguments: str) -> bytes:
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", *arguments),
        capture_output=True,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def run(engine, image: str, *command: str) -> tuple[int, str]:
    created = await engine.create_container(ContainerRequest(image=image, command=command))
    await engine.start_container(created.container_id)
    text = b""
    async for batch in engine.follow_logs(created.container_id, is_following=True):
        for line in batch:
            assert line.stream is OutputStream.STDOUT, line.text
            text += line.text + b"\n"
    status = await engine.wait_container(created.container_id)
    return status.exit_code, text.decode()


async def run_everything(engine, image: str) -> None:
    code, packages = await run(engine, image, "dpkg", "-l")
    assert code == 0
    assert {"bash", "apt", "libc6:amd64"} & {line.split()[1] for line in packages.splitlines()[5:]}
    assert await run(
        engine, image, "bash", "-c", "echo ${BASH_VERSINFO[0]} $((6 * 7)) $(< /etc/motd)"
    ) == (
        0,
        "5 42 changed\n",
    )
    code, version = await run(engine, image, "apt-get", "--version")
    assert (code, version.split()[0]) == (0, "apt")


@pytest.mark.parametrize("form", ["docker.tar", "oci", "zstd"])
async def test_its_programs_run_and_its_root_is_what_umoci_unpacks(
    form: str, engine, debian_corpus: Path
) -> None:
    assert engine.host.snapshotter == "overlay"
    (loaded,) = await engine.load_images(debian_corpus / form)
    assert len((await engine.inspect_image(loaded.image_id)).layers) >= 3
    await run_everything(engine, loaded.image_id)

    created = await engine.create_container(
        ContainerRequest(image=loaded.image_id, command=("sleep", "infinity"))
    )
    await engine.start_container(created.container_id)
    process_id = (await engine.inspect_container(created.container_id)).process_id
    found = pickle.loads(await python(_LOOK, str(process_id)))
    expected = describe(debian_corpus / "bundle/rootfs")
    assert {
        path: (expected.get(path), found.get(path))
        for path in expected.keys() | found.keys()
        if expected.get(path) != found.get(path)
    } == {}


_ON_OVERLAY = """
import asyncio, ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
top = sys.argv[1]
for name in ("lower", "upper", "work", "store"):
    os.mkdir(f"{top}/{name}")
options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
assert libc.mount(b"overlay", f"{top}/store".encode(), b"overlay", 0, options.encode()) == 0
from tests.integration.images.test_debian_in_the_engine import copy_layers
asyncio.run(copy_layers(Path(top), Path(sys.argv[2])))
"""


async def copy_layers(top: Path, corpus: Path) -> None:
    """What the test below does in a mount namespace of its own."""
    config = EngineConfig(root=top / "store/root", run=top / "run")
    async with Engine.open(config) as engine:
        assert engine.host.snapshotter == "copy"
        (loaded,) = await engine.load_images(corpus / "zstd")
        await run_everything(engine, loaded.image_id)
        created = await engine.create_container(
            ContainerRequest(
                image=loaded.image_id, command=("sh", "-c", "rm /etc/motd; echo new > /new")
            )
        )
        found = describe(config.container_directory(created.container_id) / "upper")
        expected = describe(corpus / "bundle/rootfs")
        stubs = found.keys() - expected.keys()
        assert {path for path in expected if expected[path] != found.get(path)} == set()
        assert stubs <= {"etc/hosts", "etc/hostname", "etc/resolv.conf", "dev", "proc", "sys"}
        await engine.start_container(created.container_id)
        await engine.wait_container(created.container_id)
        changes = {
            change.path: str(change.change)
            for change in await engine.list_changes(created.container_id)
        }
        assert changes == {"etc": "modified", "etc/motd": "removed", "new": "added"}
        for summary in await engine.list_containers():
            await engine.remove_container(summary.container_id, is_forced=True)
        await engine.remove_image(loaded.image_id, is_forced=True)
        assert os_listing(config.layers_directory) == []
        assert os_listing(config.root / "containers") == []


def os_listing(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


async def test_a_store_that_is_on_overlayfs_itself_copies_the_layers(
    tmp_path: Path, debian_corpus: Path
) -> None:
    await python(_ON_OVERLAY, str(tmp_path), str(debian_corpus))
