"""Containers that live on without an application, and what their monitors wrote down."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from engine.api import Engine
from engine.config import EngineConfig
from engine.containers.states import read_container_state, write_container_state
from engine.errors import ContainerNotFoundError
from engine.events import EventBus
from engine.store.event_log import EventTail
from engine.types import ContainerRequest
from tests.integration.images.loading import HOST
from tests.processes import ended
from tests.unit.snapshots.tars import END, directory, entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from engine.runtime.spec import StateRecord
    from engine.types import LoadedImage
    from tests.conftest import StorePaths

IMAGE = "starter:latest"


@dataclass(frozen=True)
class Told:
    """One event of a container."""

    time_ns: int
    action: str
    attributes: dict[str, str]


class Store:
    """A store whose containers are watched without an engine."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    def engine(self) -> contextlib.AbstractAsyncContextManager[Engine]:
        return Engine.open(self.config)

    async def start(self, engine: Engine, *command: str, name: str = "web", **fields) -> str:
        created = await engine.create_container(
            ContainerRequest(image=fields.pop("image", IMAGE), name=name, command=command, **fields)
        )
        await engine.start_container(name)
        return created.container_id

    def state(self, container_id: str) -> StateRecord:
        return read_container_state(self.config, container_id)

    def events(self, container_id: str, *actions: str) -> list[Told]:
        documents = [json.loads(line) for line in self.config.events_path.read_text().splitlines()]
        return [
            Told(document["time_ns"], document["action"], document["attributes"])
            for document in documents
            if document["subject_id"] == container_id
            and (not actions or document["action"] in actions)
        ]

    def actions(self, container_id: str, *actions: str) -> list[str]:
        return [event.action for event in self.events(container_id, *actions)]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so, looking at every event of the store; no engine is needed."""
        bus = EventBus()
        async with EventTail(self.config.events_path, bus):
            with bus.subscribe() as events:
                if is_so():
                    return
                async for _event in events:
                    if is_so():
                        return

    async def until_told(self, container_id: str, action: str, count: int = 1) -> None:
        await self.until(lambda: len(self.events(container_id, action)) >= count)

    async def kill(self, process_id: int) -> None:
        """Kill a process that is not our child, and wait for its end."""
        os.kill(process_id, signal.SIGKILL)
        await ended(process_id)

    async def until_monitor_has_ended(self, container_id: str) -> None:
        if process_id := self.state(container_id).monitor_process_id:
            await ended(process_id)

    def restart_host(self, container_id: str) -> None:
        """Let a container's last start be of another run of the kernel."""
        state = replace(self.state(container_id), boot_id="another", started_at_ns=1)
        write_container_state(self.config, container_id, state)


@pytest.fixture
async def store(store_paths: StorePaths, starter_image: LoadedImage) -> AsyncIterator[Store]:
    """A store with the starter image, and no engine; containers are removed at the end."""
    config = EngineConfig(root=store_paths.root, run=store_paths.run)
    yield Store(config)
    async with Engine.open(config) as engine:
        for summary in await engine.list_containers():
            with contextlib.suppress(ContainerNotFoundError):
                await engine.remove_container(summary.container_id, is_forced=True)


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., Path]:
    """Writes the archive of an image `checked:1` with busybox as /bin/sh, and a config."""
    busybox = shutil.which("busybox")
    if busybox is None or b"statically linked" not in subprocess.check_output(
        ("file", "-L", busybox)
    ):
        pytest.skip("no static busybox (`make test-tools` installs it)")
    with open(busybox, "rb") as program:
        content = program.read()

    def make(config: dict[str, object]) -> Path:
        layer = directory(b"bin", owner=0)
        for name in (b"sh", b"sleep", b"test", b"touch", b"cat"):
            layer += entry(b"bin/" + name, content, mode=0o755, owner=0)
        layer += END
        diff_id = f"sha256:{sha256(layer).hexdigest()}"
        document = {
            "architecture": HOST,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "config": config,
        }
        item = {"Config": "config.json", "RepoTags": ["checked:1"], "Layers": ["layer.tar"]}
        path = tmp_path / "checked.tar"
        path.write_bytes(
            entry(b"manifest.json", json.dumps([item]).encode())
            + entry(b"config.json", json.dumps(document).encode())
            + entry(b"layer.tar", layer)
            + END
        )
        return path

    return make
