"""An application is killed while it follows its containers; the next one finds all of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.types import ContainerStatus

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.config import EngineConfig

CHECKOUT = Path(__file__).resolve().parents[3]
COUNT = 3000

_APPLICATION = """
import asyncio, os, signal, sys
from pathlib import Path
from engine.api import Engine
from engine.config import EngineConfig
from engine.types import ContainerRequest

COMMANDS = {
    "endless": "n=0; trap 'exit 3' TERM; while :; do n=$((n+1)); echo $n; done",
    "ends": "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); echo $n; done; exit 5",
}

async def follow(engine, name, seen):
    async for batch in engine.follow_logs(name, is_following=True):
        seen[name] = seen.get(name, 0) + len(batch)
        if len(seen) == len(COMMANDS):
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    seen = {}
    async with Engine.open(EngineConfig(root=Path(sys.argv[1]), run=Path(sys.argv[2]))) as engine:
        for name, command in COMMANDS.items():
            await engine.create_container(
                ContainerRequest(image="starter", name=name, command=("sh", "-c", command))
            )
        for name in COMMANDS:
            await engine.start_container(name)
        await asyncio.gather(*(follow(engine, name, seen) for name in COMMANDS))

asyncio.run(main())
"""


async def numbers(engine: Engine, name: str) -> list[int]:
    lines = [line async for batch in engine.follow_logs(name) for line in batch]
    # What the monitor reads at once may end in the middle of a line.
    text = b"".join(line.text + (b"" if line.is_partial else b"\n") for line in lines)
    return [int(line) for line in text.splitlines()]


@pytest.mark.root
async def test_containers_logs_and_exit_codes_are_whole_after_it(
    engine: Engine, config: EngineConfig, starter_image
) -> None:
    killed = await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-c", _APPLICATION, str(config.root), str(config.run)),
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert {summary.name for summary in await engine.list_containers()} == {"endless", "ends"}

    status = await engine.wait_container("ends")
    assert (status.exit_code, status.error) == (5, "")
    assert await numbers(engine, "ends") == list(range(1, COUNT + 1))

    summary = (await engine.inspect_container("endless")).summary
    assert summary.status is ContainerStatus.RUNNING
    assert (await engine.stop_container("endless")).exit_code == 3
    found = await numbers(engine, "endless")
    # The log keeps the newest files; nothing is missing between its first line and its last.
    assert found == list(range(found[0], found[0] + len(found)))
