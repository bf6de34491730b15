"""Archives that somebody writes to while they are loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import ArchiveError
from tests.integration.images.loading import Store, ThreadRunner
from tests.integration.images.test_bad_archives import LAYER, _docker_archive, _docker_members

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class LateRunner(ThreadRunner):
    """Lets something happen between the documents and the layers."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    async def run_job(self, job: str, arguments: bytes, **options) -> bytes:  # type: ignore[override]
        self._act()
        return await super().run_job(job, arguments, **options)


def overwrite(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old)
    with path.open("r+b") as file:
        file.write(content.replace(old, new))


CHANGES: dict[str, Callable[[Path], None]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size - len(LAYER) - 1024),
    "emptied": lambda path: os.truncate(path, 0),
    "another content": lambda path: overwrite(path, b"content", b"CONTENT"),
    "zeros": lambda path: overwrite(path, LAYER, bytes(len(LAYER))),
    "another tar": lambda path: overwrite(path, LAYER[:512], os.urandom(512)),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_layer_that_changes_while_it_is_loaded_is_refused(
    tmp_path: Path, change: str
) -> None:
    archive = _docker_archive(tmp_path / "a.tar", _docker_members())
    store = Store(tmp_path / "store")
    store.runner = LateRunner(lambda: CHANGES[change](archive))
    with pytest.raises(ArchiveError):
        await store.load(archive)
    assert store.catalog.images == {}
    assert store.left_in_staging() == []


async def test_an_archive_that_is_replaced_or_removed_is_loaded_as_it_was(tmp_path: Path) -> None:
    for number, act in enumerate((os.unlink, lambda path: os.replace(tmp_path / "other", path))):
        (tmp_path / "other").write_bytes(b"something else")
        archive = _docker_archive(tmp_path / f"{number}.tar", _docker_members())
        store = Store(tmp_path / f"store-{number}")
        store.runner = LateRunner(lambda act=act, archive=archive: act(archive))
        assert (await store.load(archive)).images


async def test_documents_that_grow_behind_the_archive_count_for_nothing(tmp_path: Path) -> None:
    archive = _docker_archive(tmp_path / "a.tar", _docker_members())

    def append() -> None:
        with archive.open("ab") as file:
            file.write(LAYER * 100)

    store = Store(tmp_path / "store")
    store.runner = LateRunner(append)
    assert (await store.load(archive)).images
