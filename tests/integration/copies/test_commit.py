"""Commit in real containers: the new image is what the container was, its layer just the change."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from engine.config import EngineConfig
from engine.errors import EngineError
from engine.snapshots.index import read_index
from engine.snapshots.tar_writer import TarStream
from engine.snapshots.tree_tar import TreePacker, pack_layer
from engine.types import ChangeKind, CommitRequest, ContainerRequest, ContainerStatus, MountRequest
from tests.integration.images.loading import describe

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import Engine
    from engine.types import LoadedImage
    from tests.conftest import StorePaths

CHANGES = """
set -e
mkdir -p /srv/deep/er; echo one > /srv/deep/er/file; ln /srv/deep/er/file /srv/linked
ln -s ../nowhere /srv/dangling; chmod 4750 /srv/linked
rm /etc/passwd; rm -r /var; mkdir /var; echo fresh > /var/new
echo more >> /root/WELCOME; chmod 700 /tmp; : > '/srv/a name
of two lines'
dd if=/dev/zero of=/srv/holes bs=1 count=1 seek=5000000 2>/dev/null
"""


@pytest.fixture(params=["overlay", "copy"])
def snapshotter(request: pytest.FixtureRequest, engine: Engine) -> str:
    """Either kind of writable layer."""
    engine._services.snapshotter = request.param
    return request.param


async def ran(engine: Engine, script: str, **fields: object) -> None:
    """A container `web` that has done what a script says."""
    await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sh", "-c", script), **fields)
    )
    await engine.start_container("web")
    status = await engine.wait_container("web")
    assert status.exit_code == 0


async def exported(engine: Engine, name: str) -> dict[str, tuple[object, ...]]:
    """What a container's root holds, as its export says."""
    with os.fdopen(os.memfd_create("export"), "w+b") as file:
        await engine.export_container(name, file.fileno())
        file.seek(0)
        found: dict[str, tuple[object, ...]] = {}
        with tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isreg() or member.islnk() else None
                found[member.name] = (
                    b"0" if member.islnk() else member.type,
                    member.mode,
                    (member.uid, member.gid),
                    int(member.mtime) if member.isreg() else 0,
                    member.linkname if member.issym() else "",
                    content.read() if content else b"",
                )
    return found


async def test_a_container_of_the_new_image_is_what_the_old_one_was(
    engine: Engine, starter_image: LoadedImage, snapshotter: str
) -> None:
    await ran(engine, CHANGES)
    before = await engine.list_changes("web")
    made = await engine.commit_container("web", CommitRequest(name="mine"))
    assert made.warnings == ()
    await engine.create_container(ContainerRequest(image="mine", name="two"))
    assert await engine.list_changes("two") == ()
    assert await exported(engine, "two") == await exported(engine, "web")
    assert await engine.list_changes("web") == before


async def test_its_top_layer_is_just_the_change(
    engine: Engine, starter_image: LoadedImage, snapshotter: str
) -> None:
    await ran(engine, "echo x > /tmp/new; rm /etc/passwd")
    await engine.commit_container("web", CommitRequest(name="mine"))
    details = await engine.inspect_image("mine")
    tree = await engine.list_layer_files("mine", len(details.layers) - 1)
    marked = {
        entry.path: entry.change
        for entry in tree.entries
        if entry.change is not ChangeKind.UNCHANGED
    }
    assert marked == {"tmp/new": ChangeKind.ADDED, "etc/passwd": ChangeKind.REMOVED}
    assert details.layers[-1].size_bytes == 2


async def test_without_a_change_there_is_no_layer(
    engine: Engine, starter_image: LoadedImage, snapshotter: str
) -> None:
    await ran(engine, "touch /tmp/gone; rm /tmp/gone")
    before = await engine.inspect_image("starter")
    await engine.commit_container("web", CommitRequest(name="mine", message="nothing"))
    after = await engine.inspect_image("mine")
    assert after.layers[-1].is_empty
    assert after.summary.layer_count == before.summary.layer_count


async def test_what_is_mounted_is_not_part_of_it(
    engine: Engine, starter_image: LoadedImage, tmp_path: Path, snapshotter: str
) -> None:
    mounts = (
        MountRequest(kind="volume", source="kept", target="/made/for/volume"),
        MountRequest(kind="bind", source=str(tmp_path), target="/made/bound"),
        MountRequest(kind="tmpfs", source="", target="/scratch"),
    )
    script = "echo x > /made/for/volume/a; echo x > /made/bound/b; echo x > /scratch/c; : > /own"
    await ran(engine, script, mounts=mounts)
    assert [change.path for change in await engine.list_changes("web")] == ["own"]
    await engine.commit_container("web", CommitRequest(name="mine"))
    await engine.create_container(ContainerRequest(image="mine", name="two"))
    added = (await exported(engine, "two")).keys()
    await engine.create_container(ContainerRequest(image="starter", name="plain"))
    assert added - (await exported(engine, "plain")).keys() == {"own"}


async def test_the_config_is_that_of_the_container_with_the_changes(
    engine: Engine, starter_image: LoadedImage
) -> None:
    await engine.create_container(
        ContainerRequest(
            image="starter",
            name="web",
            entrypoint=("sh", "-c"),
            command=("exit 3",),
            environment=("MODE=plain", "KEPT=1"),
            user="0:0",
            working_directory="/srv",
            labels=(("made-by", "hand"),),
            stop_signal="SIGINT",
        )
    )
    changes = ("ENV MODE=fancy", "EXPOSE 80", "LABEL made-by=machine", "VOLUME /data")
    await engine.commit_container("web", CommitRequest(name="mine", changes=changes))
    config = (await engine.inspect_image("mine")).config
    assert (config.entrypoint, config.command) == (("sh", "-c"), ("exit 3",))
    assert {"MODE=fancy", "KEPT=1"} <= set(config.environment)
    assert not any(entry.startswith("HOSTNAME=") for entry in config.environment)
    assert (config.user, config.working_directory) == ("0:0", "/srv")
    assert dict(config.labels)["made-by"] == "machine"
    assert (config.stop_signal, config.exposed_ports) == ("SIGINT", ("80/tcp",))
    assert config.volumes == ("/data",)
    await engine.create_container(ContainerRequest(image="mine", name="two"))
    await engine.start_container("two")
    assert (await engine.wait_container("two")).exit_code == 3


async def test_a_running_container_is_paused_meanwhile_and_goes_on(
    engine: Engine, starter_image: LoadedImage
) -> None:
    await engine.create_container(
        ContainerRequest(image="starter", name="web", command=("sleep", "1000"))
    )
    await engine.start_container("web")
    with engine.subscribe() as events:
        await engine.commit_container("web", CommitRequest(name="mine", message="why"))
        seen = []
        async for event in events:
            seen.append((event.subject.value, event.action))
            if event.action == "commit":
                assert event.attribute("comment") == "why"
                assert event.attribute("imageRef") == "mine:latest"
                break
    features = {feature.name: feature.is_available for feature in engine.host.features}
    if features["pause"]:
        assert [action for subject, action in seen if subject == "container"] == [
            "pause",
            "unpause",
            "commit",
        ]
    assert ("image", "create") in seen
    assert (await engine.inspect_container("web")).summary.status is ContainerStatus.RUNNING
    await engine.commit_container("web", CommitRequest(is_pausing=False))


async def test_an_image_that_was_removed_cannot_be_based_on(
    engine: Engine, starter_image: LoadedImage
) -> None:
    await engine.create_container(ContainerRequest(image="starter", name="web"))
    await engine.remove_image(starter_image.image_id, is_forced=True)
    with pytest.raises(EngineError, match="was removed") as caught:
        await engine.commit_container("web", CommitRequest(name="mine"))
    assert "lamella export web" in caught.value.hint
    assert await engine.list_images() == ()


# --- beside other tools -----------------------------------------------------------------------


def packed(layer: Path) -> bytes:
    """A layer of the store as a tar again."""
    pieces: list[bytes] = []
    stream = TarStream(pieces.append)
    root = os.open(layer / "diff", os.O_PATH)
    try:
        entries = [entry for entry in read_index(str(layer / "index")).entries if entry.path]
        pack_layer(TreePacker(stream), root, entries, on_entry=lambda: None)
    finally:
        os.close(root)
    stream.close()
    return b"".join(pieces)


@pytest.mark.root
async def test_umoci_unpacks_it_as_gnu_tar_unpacks_the_export(
    engine: Engine, starter_image: LoadedImage, store_paths: StorePaths, tmp_path: Path
) -> None:
    for program in ("umoci", "skopeo", "tar"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (`make test-tools`)")

    def run(*words: object) -> None:
        subprocess.run([str(word) for word in words], check=True, capture_output=True)

    await ran(engine, CHANGES)
    await engine.commit_container("web", CommitRequest(name="mine"))
    config = EngineConfig(root=store_paths.root, run=store_paths.run)
    layers = [layer for layer in (await engine.inspect_image("mine")).layers if layer.chain_id]
    layout = tmp_path / "oci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:mine")
    for number, layer in enumerate(layers):
        content = packed(config.layers_directory / layer.chain_id.removeprefix("sha256:"))
        if number == len(layers) - 1:
            # The layer's tar can be made again from what is on disk, bit for bit.
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.diff_id
        (tmp_path / "layer.tar").write_bytes(content)
        run("umoci", "raw", "add-layer", "--image", f"{layout}:mine", tmp_path / "layer.tar")
    run("skopeo", "copy", "--insecure-policy", f"oci:{layout}:mine", f"oci:{tmp_path}/again:mine")
    run("umoci", "unpack", "--image", f"{tmp_path}/again:mine", tmp_path / "bundle")

    tree = tmp_path / "tree"
    tree.mkdir()
    with (tmp_path / "export.tar").open("wb") as file:
        await engine.export_container("web", file.fileno())
    run("tar", "--xattrs", "--numeric-owner", "-xpf", tmp_path / "export.tar", "-C", tree)
    assert describe(tmp_path / "bundle/rootfs") == describe(tree)

    # And back: what skopeo has copied is loaded as the same image tree.
    await engine.load_images(tmp_path / "again")
    loaded = next(
        image
        for image in await engine.list_images()
        if "mine:latest" not in image.names and "starter:latest" not in image.names
    )
    await engine.create_container(
        ContainerRequest(image=loaded.image_id, name="three", command=("true",))
    )
    assert await exported(engine, "three") == await exported(engine, "web")
