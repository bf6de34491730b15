"""What file systems are told about the directories of a store."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from engine.linux.files import spread_subdirectories
from engine.store.staging import StagingArea

if TYPE_CHECKING:
    from pathlib import Path


def attributes_of(path: Path) -> str:
    """What lsattr(1) says of a directory; empty where its file system keeps no such attributes."""
    said = subprocess.run(["lsattr", "-d", path], capture_output=True, text=True, check=False)
    return said.stdout.split()[0] if said.returncode == 0 else ""


def test_a_directory_of_trees_that_have_nothing_in_common_is_marked_so(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        is_marked = spread_subdirectories(descriptor)
        assert is_marked == ("T" in attributes_of(tmp_path))
        kind = subprocess.check_output(["stat", "-f", "-c", "%T", tmp_path], text=True).strip()
        if kind != "ext2/ext3":
            pytest.skip(f"{kind} knows nothing of it")
        assert is_marked
        # What else was said of the directory stays.
        subprocess.run(["chattr", "+d", tmp_path], check=True)
        assert spread_subdirectories(descriptor)
        assert {"T", "d"} <= set(attributes_of(tmp_path))
    finally:
        os.close(descriptor)


async def test_work_in_staging_lies_far_from_what_was_removed_there(tmp_path: Path) -> None:
    async def remove(path: Path, /) -> None:
        raise AssertionError(f"nothing is in {path}")

    expected = tmp_path / "expected"
    expected.mkdir()
    descriptor = os.open(expected, os.O_RDONLY)
    try:
        is_possible = spread_subdirectories(descriptor)
    finally:
        os.close(descriptor)
    async with StagingArea(tmp_path / "staging", remove_tree=remove).claim("load"):
        assert ("T" in attributes_of(tmp_path / "staging")) == is_possible


def test_a_file_system_that_knows_nothing_of_it_is_no_error() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        assert not spread_subdirectories(descriptor)
    finally:
        os.close(descriptor)
