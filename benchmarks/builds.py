"""Rows about builds: what nothing is known of yet, and the same again from the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.containers import small_engine
from benchmarks.measure import Clock, Result, Timed, compare, interleave
from benchmarks.place import IMAGE, PeerMissingError, Place, run
from engine.types import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from engine.api import EngineApi

_ROUNDS = 7
_CACHED = " cached"
_COPIED_FILES = 10_000
_RANDOM_FILE = "random"
_MOUNTED_ON = ("dev", "etc", "proc", "run", "sys")
"""Of a base without these directories some leave what they mounted in them in the image."""


@dataclass(frozen=True)
class Builder:
    """One of those that are measured.

    Attributes:
        build: Makes an image of a context, under a name.
        save: Writes that image as `docker save` does.
    """

    build: Callable[[Path, str], Awaitable[object]]
    save: Callable[[str, Path], Awaitable[object]]


async def ten_runs(place: Place) -> Result:
    """Build an image with ten `RUN echo`."""

    def write(context: Path, number: int) -> None:
        lines = "".join(f"RUN echo {number} {step}\n" for step in range(10))
        (context / "Dockerfile").write_text(f"FROM {IMAGE}\n{lines}")

    return await _row("ten RUN echo", place, write)


async def copy(place: Place) -> Result:
    """Build an image with a COPY of 10,000 files of 1 KB."""

    def write(context: Path, number: int) -> None:
        (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY files /files\n")
        for directory in range(100):
            parent = context / "files" / str(directory)
            parent.mkdir(parents=True)
            for file in range(_COPIED_FILES // 100):
                start = f"{number} {directory} {file} ".encode()
                (parent / str(file)).write_bytes(start + b"x" * (1024 - len(start)))

    return await _row("COPY of 10,000 files", place, write)


async def write(place: Place) -> Result:
    """Build an image with a RUN that writes 200 MB."""

    def write_context(context: Path, number: int) -> None:
        (context / "Dockerfile").write_text(
            f"FROM {IMAGE}\n"
            f"RUN echo {number} > /number && "
            f"busybox dd if=/dev/urandom of=/{_RANDOM_FILE} bs=1M count=200\n"
        )

    return await _row("RUN that writes 200 MB", place, write_context)


async def stages(place: Place) -> Result:
    """Build an image of two stages, with two RUN, two COPY and a WORKDIR."""

    def write(context: Path, number: int) -> None:
        (context / "Dockerfile").write_text(
            f"FROM {IMAGE} AS made\n"
            f"RUN echo {number} > /first\n"
            "RUN cat /first /first > /second\n"
            f"FROM {IMAGE}\n"
            "WORKDIR /work\n"
            "COPY --from=made /second /work/second\n"
            "COPY file /work/file\n"
        )
        (context / "file").write_text(f"{number}\n")

    return await _row("two stages", place, write)


async def _row(what: str, place: Place, write: Callable[[Path, int], None]) -> Result:
    """Let everybody build the same contexts, each of which is new to all of them."""
    result = Result()
    contexts = [place.top / "contexts" / str(number) for number in range(_ROUNDS + 1)]
    # All at first, so that they are no news to the file system when they are read.
    for number, context in enumerate(contexts):
        context.mkdir(parents=True)
        write(context, number)
    async with small_engine(place) as engine:
        with ExitStack() as stack:
            builders = {"lamella": _own(engine)}
            for name, find in (
                ("buildah bud", _buildah),
                ("podman build", _podman),
                ("BuildKit", lambda place: stack.enter_context(_buildkit(place))),
            ):
                try:
                    builder = await find(place)
                    await builder.build(contexts[0], f"localhost/{_tag(0)}")
                except PeerMissingError as error:
                    result.skipped.append(f"{name}: {error}")
                else:
                    builders[name] = builder
            await _check(builders, place, contexts[0])
            cold = {name: _side(builder, contexts[1:]) for name, builder in builders.items()}
            again = {
                name + _CACHED: _side(builder, contexts[1:]) for name, builder in builders.items()
            }
            samples = await interleave({**cold, **again}, rounds=_ROUNDS, has_warmed_up=True)
    result.figures += compare(f"build: {what}", {name: samples[name] for name in builders})
    result.figures += compare(
        f"build: {what}, cached", {name: samples[name + _CACHED] for name in builders}
    )
    return result


def _side(builder: Builder, contexts: list[Path]) -> Timed:
    numbers = iter(range(len(contexts)))

    async def side() -> float:
        number = next(numbers)
        # What the side before has written is not this one's to wait for.
        await run("sync")
        clock = Clock()
        await builder.build(contexts[number], f"localhost/{_tag(number + 1)}")
        return clock.seconds

    return side


def _tag(number: int) -> str:
    return f"built:{number}"


# --- who builds -----------------------------------------------------------------------------------


def _own(engine: EngineApi) -> Builder:
    return Builder(
        build=lambda context, name: engine.build_image(
            BuildRequest(context=context, names=(name,), network="none")
        ),
        save=lambda name, path: engine.save_images([name], path),
    )


async def _buildah(place: Place) -> Builder:
    words, environment = place.buildah
    await run(*words, "pull", "-q", f"docker-archive:{place.small_archive}",
              environment=environment)  # fmt: skip
    options = ("--layers", "--format", "docker", "--network", "none", "--pull-never")
    return Builder(
        build=lambda context, name: run(
            *words, "bud", *options, "-t", name, context, environment=environment
        ),
        save=lambda name, path: run(
            *words, "push", "-q", name, f"docker-archive:{path}:{name}", environment=environment
        ),
    )


async def _podman(place: Place) -> Builder:
    words, environment = place.podman
    await run(*words, "load", "-q", "-i", place.small_archive, environment=environment)
    options = ("--format", "docker", "--network", "none", "--pull=never")
    return Builder(
        build=lambda context, name: run(
            *words, "build", *options, "-t", name, context, environment=environment
        ),
        save=lambda name, path: run(
            *words, "save", "-q", "-o", path, name, environment=environment
        ),
    )


@contextlib.contextmanager
def _buildkit(place: Place) -> Iterator[Awaitable[Builder]]:
    with place.docker() as words:
        yield _buildkit_of(place, words)


async def _buildkit_of(place: Place, words: tuple[str, ...]) -> Builder:
    await run(*words, "load", "-q", "-i", place.small_archive)
    environment = {"DOCKER_BUILDKIT": "1"}
    client = await _buildkit_client()
    return Builder(
        build=lambda context, name: run(
            client, *words[1:], "build", "-q", "--network", "none", "-t", name, context,
            environment=environment,
        ),
        save=lambda name, path: run(*words, "save", "-o", path, name),
    )  # fmt: skip


async def _buildkit_client() -> Path:
    """A docker that can ask for BuildKit: one from 23.0 on needs a plugin for it.

    Raises:
        PeerMissingError: There is none.
    """
    for directory in os.get_exec_path():
        client = Path(directory) / "docker"
        if not client.is_file():
            continue
        version = (await run(client, "--version")).decode().split()[2]
        with contextlib.suppress(PeerMissingError):
            if int(version.partition(".")[0]) >= 23:
                await run(client, "buildx", "version")
            return client
    raise PeerMissingError("no docker here has BuildKit")


# --- what was built -------------------------------------------------------------------------------


async def _check(builders: dict[str, Builder], place: Place, context: Path) -> None:
    """See that all images have the same files: who leaves something out is not faster.

    Raises:
        PeerMissingError: They have not.
    """
    name, path = f"localhost/{_tag(0)}", place.top / "saved.tar"
    seen: dict[str, dict[str, str]] = {}
    for who, builder in builders.items():
        await builder.build(context, name)
        await builder.save(name, path)
        seen[who] = _files_of(path)
        path.unlink()
    for who, files in seen.items():
        different = dict(set(files.items()) ^ set(seen["lamella"].items()))
        if different:
            raise PeerMissingError(f"{who} has made another image: {sorted(different)[:5]}")


def _files_of(archive: Path) -> dict[str, str]:
    """All files of a docker-archive with what builders decide of them; none is ever removed."""
    files: dict[str, str] = {}
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(_content(outer, "manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_content(outer, layer)) as members:
                for member in members:
                    name = member.name.strip("/")
                    if name.split("/")[0] in _MOUNTED_ON:
                        continue
                    digest = ""
                    if member.isreg() and name != _RANDOM_FILE:
                        digest = hashlib.sha256(_content(members, member).read()).hexdigest()
                    look = (
                        member.type,
                        oct(member.mode & 0o7777),
                        member.uid,
                        member.gid,
                        member.size,
                    )
                    files[name] = f"{look} {member.linkname} {digest}"
    return files


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> tarfile.ExFileObject:
    content = archive.extractfile(member)
    assert isinstance(content, tarfile.ExFileObject)
    return content
