"""What has arrived of a blob, and who may go on with it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from engine.store.downloads import DownloadArea

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture
def area(tmp_path: Path) -> DownloadArea:
    return DownloadArea(tmp_path / "downloads")


async def fetch(area: DownloadArea, *chunks: bytes, size_bytes: int = 10) -> None:
    async with area.claim(DIGEST, size_bytes=size_bytes) as download:
        for chunk in chunks:
            await asyncio.to_thread(download.append, chunk)


async def test_what_has_arrived_is_gone_on_with(area: DownloadArea) -> None:
    await fetch(area, b"12345")
    async with area.claim(DIGEST, size_bytes=10) as download:
        assert (download.arrived_bytes, download.is_whole) == (5, False)
        download.append(b"67890")
        assert download.is_whole


async def test_what_is_longer_than_the_blob_is_begun_again(area: DownloadArea) -> None:
    await fetch(area, b"123456789012345", size_bytes=20)
    async with area.claim(DIGEST, size_bytes=10) as download:
        assert download.arrived_bytes == 0


async def test_the_second_who_wants_a_blob_waits_and_finds_it_whole(area: DownloadArea) -> None:
    has_claimed, may_end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with area.claim(DIGEST, size_bytes=10) as download:
            has_claimed.set()
            await may_end.wait()
            await asyncio.to_thread(download.append, b"1234567890")

    async def second() -> bool:
        await has_claimed.wait()
        asyncio.get_running_loop().call_soon(may_end.set)
        async with area.claim(DIGEST, size_bytes=10) as download:
            return download.is_whole

    _, is_whole = await asyncio.gather(first(), second())
    assert is_whole


async def test_a_second_name_keeps_the_content_when_the_download_is_swept(
    area: DownloadArea, tmp_path: Path
) -> None:
    async with area.claim(DIGEST, size_bytes=5) as download:
        download.append(b"12345")
        download.link_to(tmp_path / "kept")
    assert area.sweep() == 5
    assert (tmp_path / "kept").read_bytes() == b"12345"
    assert os.listdir(tmp_path / "downloads") == []


async def test_a_sweep_passes_over_what_is_claimed_and_what_is_fresh(area: DownloadArea) -> None:
    async with area.claim(DIGEST, size_bytes=10) as download:
        download.append(b"12345")
        assert area.sweep() == 0
        area.discard([DIGEST])
    assert area.sweep(unused_seconds=3600) == 0
    async with area.claim(DIGEST, size_bytes=10) as download:
        assert download.arrived_bytes == 5


async def test_a_discarded_download_is_begun_again_by_who_waited_for_it(
    area: DownloadArea,
) -> None:
    await fetch(area, b"12345")
    area.discard([DIGEST])
    area.discard([DIGEST])
    async with area.claim(DIGEST, size_bytes=10) as download:
        assert download.arrived_bytes == 0
