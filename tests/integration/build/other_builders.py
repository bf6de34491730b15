"""Other builders: what they make of the same Dockerfile, kept between runs of the suite."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.integration.build import image_contents
from tests.integration.build.image_contents import ImageContents, read_archives
from tests.integration.images.corpus import cached, need, run
from tests.integration.images.daemons import docker_daemon
from tests.workers import STORE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dockerfile_cases import Case
    from tests.integration.build.base_images import BaseImages

Outcomes = dict[str, ImageContents | str]
"""What came of each case: an image, or what the builder says."""

_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""
_MOST_SECONDS = 300
_AT_ONCE = 3
_OLD_CLIENT = "/usr/bin/docker"
"""Debian's: it speaks to BuildKit itself, where later ones need a plugin for that."""


class Builder(Protocol):
    """Builds images, and writes all of them into one archive."""

    def build(self, case: Case, context: Path, name: str) -> str | None:
        """Keep an image by a name, or return the error."""
        ...

    def save(self, names: list[str], archive: Path) -> None: ...


class Buildah:
    """`buildah bud --layers --format docker` over a store of its own."""

    def __init__(self, directory: Path, bases: BaseImages) -> None:
        self._configuration = directory / "containers.conf"
        self._configuration.write_text(_CONFIGURATION)
        places = ("--root", f"{directory}/g", "--runroot", f"{directory}/r")
        self._store = (*places, "--storage-driver", "overlay")
        archive = directory / "bases.tar"
        bases.write(archive)
        for number, name in enumerate(bases.names):
            self._run("buildah", "pull", "-q", f"docker-archive:{archive}:@{number}")
            there = self._run("buildah", "images", "--format", "{{.Name}}:{{.Tag}}")
            assert name in there.stdout
        archive.unlink()

    def build(self, case: Case, context: Path, name: str) -> str | None:
        options = [f"--build-arg={argument}" for argument in case.build_arguments]
        if case.target:
            options.append(f"--target={case.target}")
        done = self._run(
            "buildah", "bud", "--layers", "--format", "docker", "--isolation", "oci",
            "--network", "host", "--pull-never", *options, "-t", name, str(context), check=False,
        )  # fmt: skip
        return done.stderr + done.stdout if done.returncode else None

    def save(self, names: list[str], archive: Path) -> None:
        self._run("podman", "save", "-q", "-m", "-o", str(archive), *names)

    def _run(
        self, command: str, *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return _run((command, *self._store, *words), check=check, conf=str(self._configuration))


class BuildKit:
    """Docker's BuildKit in a daemon of its own."""

    def __init__(self, command: tuple[str, ...], directory: Path, bases: BaseImages) -> None:
        self._command = (_OLD_CLIENT, *command[1:])
        archive = directory / "bases.tar"
        bases.write(archive)
        run(*self._command, "load", "-q", "-i", archive)
        archive.unlink()

    def build(self, case: Case, context: Path, name: str) -> str | None:
        options = [f"--build-arg={argument}" for argument in case.build_arguments]
        if case.target:
            options.append(f"--target={case.target}")
        command = ("build", "--progress=plain", "--network=host", *options, "-t", name)
        done = _run((*self._command, *command, str(context)), check=False)
        return done.stderr + done.stdout if done.returncode else None

    def save(self, names: list[str], archive: Path) -> None:
        run(*self._command, "save", "-o", archive, *names)


@contextlib.contextmanager
def open_buildah(bases: BaseImages) -> Iterator[Buildah]:
    need("buildah", "podman", "runc")
    directory = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        yield Buildah(directory, bases)
    finally:
        _unmount_below(directory)
        shutil.rmtree(directory)


def _unmount_below(directory: Path) -> None:
    """Take away what buildah and podman leave mounted: several that begin at once each mount it."""
    while points := [
        point
        for point in (
            line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()
        )
        if point.startswith(f"{directory}/")
    ]:
        for point in reversed(points):
            subprocess.run(["umount", point], check=True)


@contextlib.contextmanager
def open_buildkit(bases: BaseImages) -> Iterator[BuildKit]:
    need("dockerd")
    if not Path(_OLD_CLIENT).exists():
        pytest.skip(f"{_OLD_CLIENT} is not installed (`make test-tools` installs it)")
    directory = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        with docker_daemon(directory / "d", storage="overlay2") as command:
            yield BuildKit(command, directory, bases)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


_OPEN = {"buildah": open_buildah, "docker": open_buildkit}
_PROGRAMS = {"buildah": "buildah", "docker": "dockerd"}


def outcomes(builder: str, cases: list[Case], bases: BaseImages) -> Outcomes:
    """What a builder makes of cases; it is started if there is one that it has not made yet."""
    known = cached("outcomes", lambda _directory: None)
    made_with = _run((_PROGRAMS[builder], "--version"), check=True).stdout + bases.recipe()
    files = {case.name: known / f"{_key(builder, case, made_with)}.json" for case in cases}
    missing = [case for case in cases if not files[case.name].exists()]
    if missing:
        for name, outcome in _make(builder, missing, bases).items():
            is_image = isinstance(outcome, ImageContents)
            text = outcome.to_json() if is_image else json.dumps(outcome)
            fresh = files[name].with_suffix(f".{os.getpid()}")
            fresh.write_text(text)
            fresh.rename(files[name])
    return {name: _read(file) for name, file in files.items()}


def _read(file: Path) -> ImageContents | str:
    text = file.read_text()
    return ImageContents.from_json(text) if text.startswith("{") else str(json.loads(text))


def _key(builder: str, case: Case, made_with: str) -> str:
    recipe = hashlib.sha256(made_with.encode())
    for file in (__file__, image_contents.__file__):
        recipe.update(Path(file).read_bytes())
    recipe.update(case.dockerfile)
    recipe.update(repr((case.build_arguments, case.target, case.context)).encode())
    return f"{builder}-{case.name}-{recipe.hexdigest()[:16]}"


def _make(builder: str, cases: list[Case], bases: BaseImages) -> Outcomes:
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=STORE_PREFIX)))
        opened: Builder = stack.enter_context(_OPEN[builder](bases))

        def build(case: Case) -> str | None:
            context = top / case.name
            case.write_context(context)
            return opened.build(case, context, _name(case))

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            errors = dict(
                zip([case.name for case in cases], threads.map(build, cases), strict=True)
            )
        archive = top / "images.tar"
        images: dict[str, ImageContents] = {}
        if not all(errors.values()):
            opened.save([_name(case) for case in cases if errors[case.name] is None], archive)
            images = read_archives(archive)
        return {case.name: errors[case.name] or images[_name(case)] for case in cases}


def _name(case: Case) -> str:
    return f"localhost/{case.name}:latest"


def _run(
    command: tuple[str, ...], *, check: bool, conf: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1", "CONTAINERS_CONF": conf}
    for name in ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy"):
        # Builders hand them on to what they run.
        environment.pop(name, None)
        environment.pop(name.upper(), None)
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_MOST_SECONDS,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done
