"""Where a benchmark works: temporary stores, archives made here, and the peers' set-up."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/bench:latest"
LINES_IMAGE = "localhost/bench-lines:latest"
LINES_BYTES = 10_000_000
_SECCOMP_PROFILE = Path("/usr/share/containers/seccomp.json")
_SECCOMP_ARCHITECTURES = {
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
# Buildah and Podman find nothing in their caches on a base that does not say when it was made.
_HISTORY = {"created": "2020-01-01T00:00:00Z", "created_by": "bench"}
_LIMITS = '["nofile=20000:20000", "nproc=1000:1000"]'


class PeerMissingError(Exception):
    """A row, or a peer of it, cannot be measured here; the text says why."""


async def run(
    *words: str | Path,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
    expected: int | None = 0,
) -> bytes:
    """Run a program and return what it wrote to stdout.

    Raises:
        PeerMissingError: It failed; the last line of its stderr says how.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
    )
    output, errors = await process.communicate()
    if expected is not None and process.returncode != expected:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        raise PeerMissingError(f"{words[0]} {words[1] if words[1:] else ''} failed: {lines[-1]}")
    return output


@dataclass(frozen=True)
class Place:
    """One temporary directory for everything."""

    top: Path

    @property
    def lamella_options(self) -> tuple[str, ...]:
        return ("--root", str(self.top / "root"), "--run", str(self.top / "run"))

    @property
    def lamella(self) -> tuple[str, ...]:
        """The command, as it is installed, or from this checkout."""
        script = Path(sys.executable).parent / "lamella"
        if script.exists():
            return (str(script), *self.lamella_options)
        return (sys.executable, "-m", "tui", *self.lamella_options)

    @cached_property
    def small_archive(self) -> Path:
        """A docker-archive of busybox alone, one layer."""
        return _write_archive(self.top / "small.tar", [_busybox_layer(b"")], IMAGE)

    @cached_property
    def lines_archive(self) -> Path:
        """The same with a file `/lines`, of lines of 80 bytes."""
        lines = (b"x" * 79 + b"\n") * (LINES_BYTES // 80)
        return _write_archive(self.top / "lines.tar", [_busybox_layer(lines)], LINES_IMAGE)

    @cached_property
    def large_archive(self) -> Path:
        """A docker-archive with about 120 MB of this host's files in one layer."""
        layer = _host_layer(120_000_000)
        return _write_archive(self.top / "large.tar", [layer], "localhost/large:latest")

    @cached_property
    def debian_archive(self) -> Path:
        """A docker-archive of a Debian with Python and gcc: 396 MB in one layer, 11,000 entries.

        Raises:
            PeerMissingError: mmdebstrap is not installed, or finds no packages.
        """
        return _write_archive(
            self.top / "debian.tar", [_debian_root().read_bytes()], "localhost/debian:latest"
        )

    def compressed(self, archive: Path) -> tuple[Path, Path]:
        """The same image with gzip layers, as a docker-archive and as an OCI layout's directory.

        Raises:
            PeerMissingError: skopeo is not installed.
        """
        if shutil.which("skopeo") is None:
            raise PeerMissingError("skopeo is not installed")
        layout = self.top / f"{archive.stem}-layout"
        if not layout.exists():
            subprocess.run(
                ["skopeo", "copy", "-q", "--insecure-policy", f"docker-archive:{archive}",
                 f"oci:{layout}:it"],
                check=True,
            )  # fmt: skip
            index = json.loads((layout / "index.json").read_bytes())
            blobs = layout / "blobs"
            manifest = json.loads(_blob(blobs, index["manifests"][0]).read_bytes())
            _write_members(
                archive.with_suffix(".gz.tar"),
                _blob(blobs, manifest["config"]).read_bytes(),
                [_blob(blobs, layer).read_bytes() for layer in manifest["layers"]],
                f"localhost/{archive.stem}:latest",
            )
        return archive.with_suffix(".gz.tar"), layout

    @cached_property
    def heavy_archive(self) -> Path:
        """A docker-archive with one layer of 2 GB, of one file."""
        piece = os.urandom(1 << 20)
        layer = self.top / "heavy-layer.tar"
        with tarfile.open(layer, "w") as tar, (self.top / "heavy").open("w+b") as file:
            for _number in range(2048):
                file.write(piece)
            file.seek(0)
            tar.addfile(tar.gettarinfo(arcname="heavy", fileobj=file), file)
        with layer.open("rb") as file:
            diff_id = hashlib.file_digest(file, "sha256").hexdigest()
        path = self.top / "heavy.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(layer, "layer.tar")
            config = _config([f"sha256:{diff_id}"])
            _add_documents(tar, config, ["layer.tar"], "localhost/heavy:latest")
        layer.unlink()
        (self.top / "heavy").unlink()
        return path

    @cached_property
    def many_archive(self) -> Path:
        """A docker-archive of 119 layers: busybox, and 118 that replace and add a few files."""
        layers = [_busybox_layer(b"")]
        for number in range(1, 119):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
                for name in ("srv", f"srv/{number}"):
                    directory = tarfile.TarInfo(name)
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(directory)
                for name in ("srv/shared", *(f"srv/{number}/{part}" for part in range(20))):
                    entry = tarfile.TarInfo(name)
                    content = os.urandom(10_000)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
            layers.append(layer.getvalue())
        return _write_archive(self.top / "many.tar", layers, "localhost/many:latest")

    @contextmanager
    def registry(self) -> Iterator[str]:
        """Debian's docker-registry on the loopback; gives its address.

        Raises:
            PeerMissingError: It is not installed, or does not start.
        """
        if shutil.which("docker-registry") is None or shutil.which("skopeo") is None:
            raise PeerMissingError("needs docker-registry and skopeo (make test-tools)")
        config = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.top / "registry")}},
            "http": {"addr": "127.0.0.1:0"},
        }
        path = self.top / "registry.yml"
        path.write_text(json.dumps(config))
        log = self.top / "registry.log"
        with (
            log.open("wb") as target,
            subprocess.Popen(
                ["docker-registry", "serve", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=target,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            ) as process,
        ):
            try:
                yield f"localhost:{_port_said_in(log, process)}"
            finally:
                process.terminate()

    @contextmanager
    def docker(self) -> Iterator[tuple[str, ...]]:
        """A dockerd with a store of its own; gives the words of its client.

        Raises:
            PeerMissingError: It is not installed, or does not start.
        """
        if shutil.which("dockerd") is None or shutil.which("docker") is None:
            raise PeerMissingError("docker is not installed")
        # A socket's path has little room.
        top = self.top / "dockerd"
        top.mkdir()
        words = ("docker", "-H", f"unix://{top}/sock")
        log = top / "log"
        with (
            log.open("wb") as target,
            subprocess.Popen(
                ["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false",
                 "--data-root", top / "data", "--exec-root", top / "exec",
                 "--pidfile", top / "pid", "-H", f"unix://{top}/sock"],
                stdin=subprocess.DEVNULL, stdout=target, stderr=target,
            ) as process,
        ):  # fmt: skip
            try:
                while subprocess.run([*words, "version"], capture_output=True).returncode:
                    if process.poll() is not None:
                        lines = log.read_text().splitlines() or ["no message"]
                        raise PeerMissingError(f"dockerd ended: {lines[-1]}")
                    time.sleep(0.1)
                yield words
            finally:
                process.terminate()

    @cached_property
    def podman(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Podman with a store of its own, and the environment that it needs here."""
        words, environment = self._containers_program("podman")
        runtime = ("--runtime", "runc") if shutil.which("runc") else ()
        return (*words, *runtime), environment

    @cached_property
    def buildah(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Buildah, likewise."""
        words, environment = self._containers_program("buildah")
        runtime = {"BUILDAH_RUNTIME": "runc"} if shutil.which("runc") else {}
        return words, {**environment, **runtime}

    def _containers_program(self, name: str) -> tuple[tuple[str, ...], dict[str, str]]:
        if shutil.which(name) is None:
            raise PeerMissingError(f"{name} is not installed")
        settings = self.top / "containers.conf"
        settings.write_text(
            f"[containers]\ndefault_ulimits = {_LIMITS}\npids_limit = 0\n"
            '[engine]\nevents_logger = "none"\ncgroup_manager = "cgroupfs"\n'
        )
        words = [name, "--root", self.top / name, "--runroot", self.top / f"{name}-run"]
        words += ["--storage-driver", "overlay"]
        return tuple(map(str, words)), {"CONTAINERS_CONF": str(settings)}

    def bundle(self, *command: str, has_seccomp: bool) -> Path:
        """An OCI bundle over busybox for crun and runc, as their own `spec` makes it.

        Args:
            command: What runs.
            has_seccomp: Add the profile that Podman gives to every container, as we have ours.

        Raises:
            PeerMissingError: The profile is not installed.
        """
        name = hashlib.sha256(repr((command, has_seccomp)).encode()).hexdigest()[:8]
        directory = self.top / f"bundle-{name}"
        if not directory.exists():
            binaries = directory / "rootfs" / "bin"
            binaries.mkdir(parents=True)
            for name in ("proc", "dev", "sys"):
                (directory / "rootfs" / name).mkdir()
            shutil.copy(BUSYBOX, binaries / "busybox")
            for name in ("sh", "true", "sleep", "cat"):
                (binaries / name).symlink_to("busybox")
            subprocess.run(["runc", "spec"], cwd=directory, check=True, capture_output=True)
            config = json.loads((directory / "config.json").read_text())
            config["process"].update(args=list(command), terminal=False, rlimits=[])
            if has_seccomp:
                config["linux"]["seccomp"] = _seccomp_of_podman()
            (directory / "config.json").write_text(json.dumps(config))
        return directory


def _seccomp_of_podman() -> dict[str, object]:
    """Podman's profile as it reaches the runtime of a container with default capabilities."""
    if not _SECCOMP_PROFILE.exists():
        raise PeerMissingError(f"{_SECCOMP_PROFILE} is not installed")
    profile = json.loads(_SECCOMP_PROFILE.read_text())
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    rules = []
    for rule in profile["syscalls"]:
        included, excluded = rule.get("includes") or {}, rule.get("excludes") or {}
        if included.get("caps") or architecture in excluded.get("arches", ()):
            continue
        if included.get("arches") and architecture not in included["arches"]:
            continue
        kept = ("names", "action", "args", "errnoRet")
        rules.append({key: rule[key] for key in kept if rule.get(key) is not None})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": _SECCOMP_ARCHITECTURES[architecture],
        "syscalls": rules,
    }


def _host_layer(size_bytes: int) -> bytes:
    """A tar of files of this host, about so large."""
    layer = io.BytesIO()
    room = size_bytes
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("/usr/lib", "/usr/share", "/usr/bin"):
            for path in sorted(Path(directory).rglob("*")):
                if room <= 0:
                    break
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                size = path.stat().st_size
                if size < 8_000_000:
                    tar.add(path, str(path).lstrip("/"))
                    room -= size
    return layer.getvalue()


def _port_said_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    while not (found := re.search(r"listening on [^ ]*:([0-9]+)", log.read_text())):
        if process.poll() is not None:
            raise PeerMissingError("docker-registry ended")
        time.sleep(0.05)
    return int(found[1])


def _busybox_layer(lines: bytes) -> bytes:
    if not BUSYBOX.exists():
        raise PeerMissingError("needs busybox-static (make test-tools)")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "true", "sleep", "cat", "seq"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        if lines:
            entry = tarfile.TarInfo("lines")
            entry.size = len(lines)
            tar.addfile(entry, io.BytesIO(lines))
    return layer.getvalue()


def _debian_root() -> Path:
    """The tar of a Debian, made once and kept: `LAMELLA_BENCH_CACHE` says where."""
    default = Path(tempfile.gettempdir()) / f"lamella-bench-cache-{os.geteuid()}"
    cache = Path(os.environ.get("LAMELLA_BENCH_CACHE") or default)
    ready = cache / "debian.tar"
    if not ready.exists():
        if shutil.which("mmdebstrap") is None:
            raise PeerMissingError("mmdebstrap is not installed (make test-tools)")
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = cache / f"debian-{os.getpid()}.tar"
        words = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,gcc", "bookworm"]
        try:
            if subprocess.run([*words, fresh], check=False).returncode:
                raise PeerMissingError("mmdebstrap failed")
            fresh.rename(ready)
        finally:
            fresh.unlink(missing_ok=True)
    return ready


def _blob(blobs: Path, descriptor: dict[str, str]) -> Path:
    return blobs / descriptor["digest"].replace(":", "/")


def _write_archive(path: Path, layers: list[bytes], name: str) -> Path:
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    _write_members(path, _config(diff_ids), layers, name)
    return path


def _config(diff_ids: list[str]) -> bytes:
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [_HISTORY for _ in diff_ids],
    }
    return json.dumps(config).encode()


def _write_members(path: Path, config: bytes, layers: list[bytes], name: str) -> None:
    members = [f"layer-{number}/layer.tar" for number in range(len(layers))]
    with tarfile.open(path, "w") as tar:
        for member, content in zip(members, layers, strict=True):
            _add_member(tar, member, content)
        _add_documents(tar, config, members, name)


def _add_documents(tar: tarfile.TarFile, config: bytes, members: list[str], name: str) -> None:
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": members}]
    _add_member(tar, config_name, config)
    _add_member(tar, "manifest.json", json.dumps(manifest).encode())


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@contextmanager
def temporary_place() -> Iterator[Place]:
    """Make a place, and take everything in it away again.

    `LAMELLA_BENCH_DIRECTORY` says where, with a short path, as sockets will be in there.
    """
    # As the peers are asked to do, and this host is left as it is: who measures networks says so.
    os.environ["LAMELLA_DEFAULT_NETWORK"] = "none"
    above = os.environ.get("LAMELLA_BENCH_DIRECTORY", "/tmp")
    place = Place(Path(tempfile.mkdtemp(prefix="lamella-bench-", dir=above)))
    try:
        yield place
    finally:
        if "podman" in place.__dict__:
            words, environment = place.podman
            for last in (("rm", "-fa", "-t", "0"), ("rmi", "-fa")):
                subprocess.run(
                    [*words, *last],
                    env={**os.environ, **environment},
                    capture_output=True,
                    check=False,
                )
        for name in ("podman", "buildah"):
            if name in place.__dict__:
                # They leave the directory of their store mounted on itself.
                subprocess.run(
                    ["umount", place.top / name / "overlay"], capture_output=True, check=False
                )
        shutil.rmtree(place.top, ignore_errors=True)
