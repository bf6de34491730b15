"""A container's log is rotated by its monitor, with nobody else there."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime.id_mapping import find_mapping
from engine.runtime.supervisor import Supervisor
from tests.processes import ended

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Place

FILE_BYTES = 64 << 10
LINES = 60_000
WRITES = f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done"


async def test_the_log_rotates_with_no_application_open(place: Place) -> None:
    spec = place.spec("web", "/bin/sh", "-c", WRITES)
    spec = replace(spec, log=replace(spec.log, file_bytes=FILE_BYTES, file_count=3))
    async with Supervisor.open(None if os.geteuid() == 0 else find_mapping()) as supervisor:
        state = await supervisor.start(spec)
    closed_ns = time.time_ns()
    await ended(state.monitor_process_id)
    assert place.state(spec).finished_at_ns > closed_ns
    files = sorted(Path(spec.log.path).parent.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    # What one read from the pipe brings goes into one file.
    assert all(file.stat().st_size < FILE_BYTES + (1 << 20) for file in files)
    assert sum(file.stat().st_size for file in files[1:]) >= 2 * FILE_BYTES
    # A read may end within a line, and so may a file; the oldest may begin within one.
    text = "".join(file.read_text() for file in reversed(files))
    numbers = [int(line.rpartition(" ")[2]) for line in text.splitlines()[1:]]
    assert numbers == list(range(numbers[0], LINES + 1))
    assert numbers[0] > 1
