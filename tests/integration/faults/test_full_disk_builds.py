"""A disk that is full in the middle of a build: the step is named, and the store stays clean."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.build.cache import BuildCache
from engine.config import EngineConfig
from engine.errors import BuildStepError, EngineError, NoSpaceError
from engine.types import BuildOutput, BuildRequest
from tests.integration.faults.test_full_disk import CHECKOUT, fill
from tests.staging import left_in_staging

if TYPE_CHECKING:
    from pathlib import Path

_ALONE = """
import asyncio, sys
from pathlib import Path
from tests.integration.faults import test_full_disk_builds as builds
builds.mount(sys.argv[1], sys.argv[3])
asyncio.run(getattr(builds, sys.argv[2])(Path(sys.argv[1]), Path(sys.argv[4])))
"""
MEGABYTES = 48
INODES = 4000
WAITS = "echo ready; while [ ! -e /cache/go ]; do sleep 0.02; done"
CACHE = "--mount=type=cache,target=/cache"


def mount(directory: str, options: str) -> None:
    """A small disk, in a mount namespace of this process's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
    assert libc.mount(b"tmpfs", directory.encode(), b"tmpfs", 0, options.encode()) == 0


async def fails(engine: Engine, request: BuildRequest, **options: object) -> EngineError:
    """Build without success, and return what was said."""
    with pytest.raises(EngineError) as failed:
        await asyncio.wait_for(engine.build_image(request, **options), 60)
    return failed.value


async def is_clean(engine: Engine, config: EngineConfig) -> None:
    """Nothing half done is there, and everything that is there is whole."""
    await engine._services.staging.finish()
    assert left_in_staging(config.root) == []
    problems = (await engine.check_store()).problems
    assert problems == (), problems


def of(text: str, context: Path | None = None) -> BuildRequest:
    return BuildRequest(
        dockerfile_content=f"FROM starter\n{text}\n".encode(), context=context, network="none"
    )


async def fill_by_steps(small: Path, context: Path) -> None:
    """What the first test does: each kind of step writes more than there is room for."""
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    (context / "large").write_bytes(os.urandom(MEGABYTES << 20))
    async with Engine.open(config) as engine:
        await engine.make_starter_image()
        room = os.statvfs(small).f_bavail

        failed = await fails(
            engine, of(f"RUN dd if=/dev/urandom of=/f bs=1048576 count={MEGABYTES}")
        )
        assert isinstance(failed, BuildStepError)
        assert failed.step_exit_code == 1
        assert (failed.line, failed.step_text[:6]) == (2, "RUN dd")
        await is_clean(engine, config)

        failed = await fails(engine, of("RUN true\nCOPY large /large", context))
        assert isinstance(failed, BuildStepError)
        assert "no space left" in failed.message
        assert "free disk space" in failed.hint
        assert (failed.line, failed.step_text[:4]) == (3, "COPY")
        await is_clean(engine, config)
        assert os.statvfs(small).f_bavail > room - 512

        built = await engine.build_image(of("RUN echo x > /x\nRUN echo y > /y"))
        again = await engine.build_image(of("RUN echo x > /x\nRUN echo y > /y"))
        assert again.image_id == built.image_id
        await is_clean(engine, config)


async def fill_beside(small: Path, context: Path) -> None:
    """What the second test does: somebody else takes all room while a step runs."""
    del context
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    text = (
        f"RUN {CACHE} echo one > /one\nRUN {CACHE} {WAITS}; echo two > /two; true\nRUN echo 3 > /3"
    )
    filler = small / "filler"
    async with Engine.open(config) as engine:
        await engine.make_starter_image()

        def listen(event: object) -> None:
            if isinstance(event, BuildOutput) and not filler.exists():
                fill(filler)
                (go,) = (config.root / "build-caches").glob("*/data")
                (go / "go").touch()

        failed = await fails(engine, of(text), listener=listen)
        assert isinstance(failed, (BuildStepError, NoSpaceError)), failed
        assert "space" in f"{failed.message} {failed.hint}", failed
        # The first step's layer may still be on its way.
        is_first = isinstance(failed, BuildStepError) and failed.line == 2
        filler.unlink()
        await is_clean(engine, config)
        built = await engine.build_image(of(text))
        assert built.cached_count >= 1 or is_first
        await is_clean(engine, config)


async def use_up_inodes(small: Path, context: Path) -> None:
    """What the third test does: there are blocks, and no inodes."""
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    (context / "many").mkdir()
    for number in range(INODES):
        (context / f"many/{number}").touch()
    async with Engine.open(config) as engine:
        await engine.make_starter_image()
        script = f"i=0; while [ $i -lt {INODES} ]; do : > /f$i || exit 3; i=$((i+1)); done"
        failed = await fails(engine, of(f"RUN {script}"))
        assert isinstance(failed, BuildStepError)
        await is_clean(engine, config)
        failed = await fails(engine, of("COPY many /many", context))
        assert isinstance(failed, BuildStepError)
        assert "no space left" in failed.message
        await is_clean(engine, config)
        await engine.build_image(of("RUN echo x > /x"))
        await is_clean(engine, config)


async def fill_database(small: Path, context: Path) -> None:
    """What the fourth test does: the database cannot grow, while everything else can."""
    del context
    config = EngineConfig(root=small / "root", run=small.parent / "run")
    text = "RUN echo one > /one\nRUN echo two > /two"
    async with Engine.open(config) as engine:
        await engine.make_starter_image()

        def limit(pages: int) -> object:
            return lambda connection: connection.execute(
                f"PRAGMA max_page_count = {pages}"
            ).fetchone()

        await engine._database.write(limit(1))
        # Pages that are free in the file are used up first.
        failed: EngineError | None = None
        for number in range(200):
            try:
                await engine.build_image(of(f"RUN echo {number} {'x' * 3000} > /{number}"))
            except EngineError as error:
                failed = error
                break
        # Of a step, or of the image at the end.
        assert isinstance(failed, (BuildStepError, NoSpaceError)), failed
        assert "no space left" in failed.message
        assert "free disk space" in failed.hint
        await engine._database.write(limit(1 << 30))
        # Documents whose record could not be written go as after a crash.
        await engine._images.sweep()
        await is_clean(engine, config)
        await engine.build_image(of(text))
        assert (await engine.build_image(of(text))).cached_count == 2
        await is_clean(engine, config)


@pytest.mark.root
@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("fill_by_steps", f"size={MEGABYTES}m"),
        ("fill_beside", f"size={MEGABYTES}m"),
        ("use_up_inodes", f"size=200m,nr_inodes={INODES}"),
        ("fill_database", f"size={MEGABYTES}m"),
    ],
)
async def test_a_build_names_its_step_and_leaves_a_clean_store(
    scenario: str, options: str, tmp_path: Path
) -> None:
    small, context = tmp_path / "small", tmp_path / "context"
    small.mkdir()
    context.mkdir()
    done = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _ALONE, str(small), scenario, options, str(context)),
        capture_output=True,
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.usefixtures("starter_image")
@pytest.mark.parametrize("error", [NoSpaceError("lamella.db"), None])
async def test_a_layer_that_cannot_be_recorded_is_taken_back(
    error: EngineError | None, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its place by then; None is a cancellation at the same moment."""
    reached = asyncio.Event()

    async def cannot_record(*_: object, **__: object) -> None:
        reached.set()
        if error is not None:
            raise error
        await asyncio.Event().wait()

    monkeypatch.setattr(BuildCache, "record", cannot_record)
    building = asyncio.create_task(engine.build_image(of("RUN echo one > /one")))
    async with asyncio.timeout(60):
        await reached.wait()
        if error is None:
            building.cancel()
        with pytest.raises((BuildStepError, asyncio.CancelledError)):
            await building
    await is_clean(engine, engine._services.config)
