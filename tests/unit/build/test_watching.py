"""What changes in a context: from now on, and since a build read it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from engine.build.watching import watch_context
from engine.errors import InvalidInputError
from engine.types import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEADLINE_SECONDS = 30
TICK_SECONDS = 0.01


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "below").mkdir(parents=True)
    (directory / "out").mkdir()
    for name in ("Dockerfile", "file", "below/file", "below/other", "out/file"):
        (directory / name).write_text("before")
    (directory / ".dockerignore").write_text("out\n*.log\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/old").write_text("before")
    return directory


def later_than(context: Path) -> float:
    """A moment after all that was done to a context, as its file system counts."""
    newest = max(path.lstat().st_ctime for path in context.parent.rglob("*"))
    while _clock(context) <= newest + TICK_SECONDS:
        continue
    return time.time()


def _clock(context: Path) -> float:
    probe = context.parent / "clock"
    probe.touch()
    return probe.stat().st_ctime


async def first_change(
    context: Path, *, since: float | None = None, change: Callable[[], object] | None = None
) -> tuple[str, ...]:
    async with contextlib.AsyncExitStack() as stack:
        changes = watch_context(BuildRequest(context=context), since=since)
        stack.push_async_callback(changes.aclose)  # type: ignore[attr-defined]
        coming = asyncio.ensure_future(anext(changes))
        async with asyncio.timeout(DEADLINE_SECONDS):
            # Until it is seen, as nothing tells when the directories are watched; but not so often
            # that it would never be quiet.
            while change is not None and not coming.done():
                change()
                await asyncio.wait((coming,), timeout=1)
            return await coming


def removed_in_secret(directory: Path) -> None:
    (directory / "other").unlink()
    os.utime(directory, (1, 1))


CHANGES = {
    "content": (lambda top: (top / "below/file").write_text("after"), {"below/file"}),
    "mode": (lambda top: (top / "file").chmod(0o700), {"file"}),
    "an old time": (lambda top: os.utime(top / "below/other", (1, 1)), {"below/other"}),
    "new": (lambda top: (top / "below/new").write_text(""), {"below/new"}),
    "renamed": (lambda top: (top / "file").rename(top / "below/moved"), {".", "below/moved"}),
    "removed": (lambda top: (top / "below/other").unlink(), {"below"}),
    "removed beside what is left out": (lambda top: (top / "file").unlink(), {"."}),
    "mode of a directory": (lambda top: (top / "below").chmod(0o700), {"below"}),
    "a directory moved as it was": (
        lambda top: (top.parent / "elsewhere").rename(top / "below/moved"),
        {"below", "below/moved"},
    ),
    "removed, with the time set back": (lambda top: removed_in_secret(top / "below"), {"below"}),
    "a directory": (lambda top: (top / "below/deep").mkdir(), {"below", "below/deep"}),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_has_changed_since_comes_first(context: Path, change: str) -> None:
    since = later_than(context)
    do, expected = CHANGES[change]
    do(context)

    assert set(await first_change(context, since=since)) == expected


async def test_what_is_left_out_has_not_changed(context: Path) -> None:
    since = later_than(context)
    (context / "out/file").write_text("after")
    (context / "some.log").write_text("after")

    seen = await first_change(context, since=since, change=lambda: (context / "file").touch())
    assert seen == ("file",)


async def test_what_is_of_tomorrow_is_not_built_again_and_again(context: Path, monkeypatch) -> None:
    later_than(context)
    ago_ns = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr("engine.build.watching.time.time_ns", lambda: ago_ns)

    seen = await first_change(context, since=0, change=lambda: (context / "file").touch())
    assert seen == ("file",)


async def test_without_a_time_only_what_comes_is_a_change(context: Path) -> None:
    seen = await first_change(context, change=lambda: (context / "below/file").touch())
    assert seen == ("below/file",)


async def test_only_a_directory_can_be_watched() -> None:
    request = BuildRequest(context=None, dockerfile_content=b"FROM scratch")
    with pytest.raises(InvalidInputError, match="only a directory"):
        await anext(watch_context(request))
