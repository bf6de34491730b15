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
    def huge_archive(self) -> Path:
        """A docker-archive with about 390 MB of this host's files, 11,000 of them, in one layer."""
        layer = _host_layer(390_000_000, entry_count=11_000)
        return _write_archive(self.top / "huge.tar", [layer], "localhost/huge:latest")

    @cached_property
    def many_archive(self) -> Path:
        """A docker-archive of 119 layers: busybox, and 118 that replace and add a few files."""
        layers = [_busybox_layer(b"")]
        for number in range(1, 119):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as tar:
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
        if shutil.which("podman") is None:
            raise PeerMissingError("podman is not installed")
        settings = self.top / "containers.conf"
        settings.write_text(
            f"[containers]\ndefault_ulimits = {_LIMITS}\npids_limit = 0\n"
            '[engine]\nevents_logger = "none"\ncgroup_manager = "cgroupfs"\n'
        )
        words = ["podman", "--root", self.top / "podman", "--runroot", self.top / "podman-run"]
        words += ["--storage-driver", "overlay"]
        if shutil.which("runc"):
            words += ["--runtime", "runc"]
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


def _host_layer(size_bytes: int, *, entry_count: int = 1 << 30) -> bytes:
    """A tar of files of this host: as many as asked for at most, and about so large."""
    layer = io.BytesIO()
    room = size_bytes
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("/usr/lib", "/usr/share", "/usr/bin"):
            for path in sorted(Path(directory).rglob("*")):
                if room <= 0 or not entry_count:
                    break
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                size = path.stat().st_size
                if size < 8_000_000:
                    tar.add(path, str(path).lstrip("/"))
                    room -= size
                    entry_count -= 1
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


def _write_archive(path: Path, layers: list[bytes], name: str) -> Path:
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "bench"} for _ in layers],
    }
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    members = [f"layer-{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": members}]
    with tarfile.open(path, "w") as tar:
        for member, content in (
            (config_name, config_bytes),
            *zip(members, layers, strict=True),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@contextmanager
def temporary_place() -> Iterator[Place]:
    """Make a place, and take everything in it away again."""
    place = Place(Path(tempfile.mkdtemp(prefix="lamella-bench-", dir="/tmp")))
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
            # Podman leaves the directory of its store mounted on itself.
            subprocess.run(
                ["umount", place.top / "podman" / "overlay"], capture_output=True, check=False
            )
        shutil.rmtree(place.top, ignore_errors=True)
