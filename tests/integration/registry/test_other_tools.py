"""Images between us and each other tool, through registries of every kind of guard."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.types import TransferStatus
from tests.integration.images.corpus import need, run
from tests.integration.images.daemons import docker_daemon
from tests.integration.images.loading import describe
from tests.integration.images.stacks import odd_corpus
from tests.integration.images.test_saving_archives import MADE
from tests.integration.registry.test_pulling import differences, merged
from tests.registries import PASSWORD, USER, TokenServer, run_registry
from tests.workers import STORE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.registries import Certificates

__all__ = ["odd_corpus"]
pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
GUARDS = ("plain", "tls", "password", "password and tls", "token", "token and tls")


@contextlib.contextmanager
def guarded(guard: str, directory: Path, certificates: Certificates) -> Iterator[str]:
    """A registry behind a guard; gives its address."""
    with contextlib.ExitStack() as stack:
        tokens = None
        if guard.startswith("token"):
            tokens = stack.enter_context(TokenServer(certificates).running())
        running = run_registry(
            directory,
            certificates=certificates if guard.endswith("tls") else None,
            has_passwords=guard.startswith("password"),
            tokens=tokens,
        )
        yield stack.enter_context(running).address


class Tool:
    """Another tool with a store of its own; it knows the passwords that we wrote down."""

    def __init__(self, name: str, top: Path, passwords: Path) -> None:
        self.name = name
        self._top = top
        self._passwords = passwords

    def _run(self, *words: str | Path) -> str:
        store = ("--root", self._top / "root", "--runroot", self._top / "run")
        if self.name != "skopeo":
            words = (*store, "--storage-driver", "vfs", *words)
        return run(self.name, *words, REGISTRY_AUTH_FILE=str(self._passwords))

    def push(self, archive: Path, image: str, name: str) -> None:
        match self.name:
            case "skopeo":
                self._run(
                    "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
                    f"docker-archive:{archive}", f"docker://{name}",
                )  # fmt: skip
                return
            case "podman":
                self._run("load", "-q", "-i", archive)
            case _:
                self._run("pull", "-q", f"docker-archive:{archive}")
        self._run("push", "-q", "--tls-verify=false", image, f"docker://{name}")

    def pull(self, name: str) -> tuple[str, dict[str, tuple[object, ...]]]:
        """The id of an image of a registry and its file tree, as this tool has them."""
        if self.name == "skopeo":
            layout = f"oci:{self._top}/layout:it"
            self._run(
                "copy", "-q", "--insecure-policy", "--src-tls-verify=false",
                f"docker://{name}", layout,
            )  # fmt: skip
            run("umoci", "unpack", "--image", layout[4:], self._top / "bundle")
            said = json.loads(self._run("inspect", "--raw", layout))
            return said["config"]["digest"], describe(self._top / "bundle/rootfs")
        self._run("pull", "-q", "--tls-verify=false", f"docker://{name}")
        if self.name == "podman":
            (inspected,) = json.loads(self._run("image", "inspect", name))
            place = self._run("image", "mount", name).strip()
            return f"sha256:{inspected['Id']}", describe(Path(place))
        inspected = json.loads(self._run("inspect", "--type", "image", name))
        place = self._run("mount", self._run("from", "--pull-never", name).strip()).strip()
        return f"sha256:{inspected['FromImageID']}", describe(Path(place))


def plain(tree: dict) -> dict:
    """Without attributes: in the name space `user` they are lost in a vfs store."""
    return {path: (*what[:4], *what[5:]) for path, what in tree.items()}


@pytest.fixture
def passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a login is kept, and in which other tools look."""
    for variable, name in (("DOCKER_CONFIG", "docker"), ("XDG_CONFIG_HOME", "config")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    kept = tmp_path / "docker/config.json"
    kept.write_text("{}")
    return kept


@pytest.fixture
def short_place() -> Iterator[Path]:
    """Podman takes no longer path, and a socket neither."""
    directory = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("tool", ["skopeo", "podman", "buildah"])
@pytest.mark.parametrize("guard", GUARDS)
async def test_what_they_push_we_pull_and_what_we_push_they_pull(
    guard, tool, passwords, engine, store_paths, tmp_path, short_place, odd_corpus, certificates
):
    need(tool, "umoci")
    expected = describe(odd_corpus / "bundle/rootfs")
    (loaded,) = await engine.load_images(odd_corpus / "oci.tar")
    with guarded(guard, tmp_path / "guarded", certificates) as address:
        if guard.startswith(("password", "token")):
            await engine.log_in(address, username=USER, password=PASSWORD)
        other = Tool(tool, short_place, passwords)

        other.push(odd_corpus / "docker.tar", "example/odd:1", f"{address}/theirs:1")
        await engine.remove_image(loaded.image_id, is_forced=True)
        pulled = await engine.pull_image(f"{address}/theirs:1")
        tree = await merged(engine, store_paths, pulled.name, tmp_path / "container")
        assert differences(expected, describe(tree)) == {}
        told: list[TransferStatus] = []
        await engine.pull_image(pulled.name, progress=lambda one: told.append(one.status))
        assert set(told) == {TransferStatus.EXISTS}

        await engine.remove_image(pulled.name)
        (loaded,) = await engine.load_images(odd_corpus / "oci.tar")
        await engine.tag_image(loaded.image_id, f"{address}/ours:1")
        await engine.push_image(f"{address}/ours:1")
        image_id, seen = other.pull(f"{address}/ours:1")
        assert image_id == loaded.image_id
        assert differences(plain(expected), plain(seen)) == {}


async def test_docker_pulls_what_we_push_and_we_what_it_pushes(
    passwords, engine, store_paths, tmp_path, short_place, odd_corpus, certificates
):
    need("docker", "dockerd")
    expected = describe(odd_corpus / "bundle/rootfs")
    exported = tmp_path / "exported"
    exported.mkdir()
    with docker_daemon(short_place / "d") as docker:
        for guard in GUARDS:
            with guarded(guard, tmp_path / guard, certificates) as address:
                if guard.startswith(("password", "token")):
                    await engine.log_in(address, username=USER, password=PASSWORD)
                ours, theirs = f"{address}/ours:1", f"{address}/theirs:1"
                (loaded,) = await engine.load_images(odd_corpus / "docker.tar")
                await engine.tag_image(loaded.image_id, ours)
                await engine.push_image(ours)
                await engine.remove_image(loaded.image_id, is_forced=True)
                run(*docker, "pull", "-q", ours)
                said = run(*docker, "inspect", "-f", "{{.Id}}", ours).strip()
                assert said == loaded.image_id, guard
                if guard == GUARDS[0]:
                    container = run(*docker, "create", ours, "x").strip()
                    run(*docker, "export", "-o", tmp_path / "exported.tar", container)
                    run(*docker, "rm", container)
                run(*docker, "tag", ours, theirs)
                run(*docker, "push", "-q", theirs)
                run(*docker, "rmi", "-f", ours, theirs)
                pulled = await engine.pull_image(theirs)
                assert (pulled.image_id, pulled.is_new) == (loaded.image_id, True), guard
                tree = await merged(engine, store_paths, theirs, tmp_path / f"{guard} tree")
                assert differences(expected, describe(tree)) == {}, guard
                await engine.remove_image(theirs)
    run("tar", "--numeric-owner", "--same-owner", "-xpf", tmp_path / "exported.tar", "-C", exported)
    assert differences(_without_made(expected), _without_made(describe(exported))) == {}


def _without_made(tree: dict) -> dict:
    """Without what Docker makes in every container, and attributes, which it exports few of."""
    return {path: what[:4] for path, what in tree.items() if path.split("/")[0] not in MADE}
