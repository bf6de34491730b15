"""Container operations over real directories, locks and states, with monitors made of memory."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.containers.services import CgroupPlan, ContainerImage, ContainerServices
from engine.containers.states import LOCK_FILE
from engine.errors import (
    ContainerNotFoundError,
    ContainerStateError,
    NameInUseError,
    StartError,
)
from engine.network.attaching import HeldNetwork
from engine.runtime.spec import RootfsSpec, StateRecord
from engine.runtime.state_file import (
    append_container_event,
    read_boot_id,
    read_state,
    write_state,
)
from engine.store.locks import LockFile
from engine.store.staging import StagingArea
from engine.store.volume_records import VolumeRecord
from engine.types import ImageConfig, ImageId


class MemoryTable:
    def __init__(self):
        self.records = {}
        self.volumes = set()

    async def insert(self, record, *, new_volumes=()):
        self._check_name(record.name)
        self.volumes |= {volume.name for volume in new_volumes}
        self.records[record.container_id] = record

    async def find(self, reference):
        for record in self.records.values():
            if reference in {record.name, record.container_id}:
                return record
        raise ContainerNotFoundError(reference)

    async def get(self, container_id):
        return self.records.get(container_id)

    async def list(self):
        return tuple(self.records.values())

    async def rename(self, container_id, name):
        self._check_name(name)
        self.records[container_id] = dataclasses.replace(self.records[container_id], name=name)

    async def replace(self, record):
        name = self.records[record.container_id].name
        self.records[record.container_id] = dataclasses.replace(record, name=name)

    async def delete(self, container_id):
        return self.records.pop(container_id, None) is not None

    async def delete_with_volumes(self, container_id, volume_names):
        await self.delete(container_id)
        gone = self.volumes.intersection(volume_names)
        self.volumes -= gone
        return tuple(gone)

    def _check_name(self, name):
        for record in self.records.values():
            if record.name == name:
                raise NameInUseError(name, record.container_id)


class MemoryMonitors:
    """Does what monitors do with locks, states and events, without processes."""

    def __init__(self, config):
        self.config = config
        self.specs = {}
        self.locks = {}
        self.start_error = None
        self.update_error = None
        self.ignores_signals = False

    async def start(self, spec, *, reservation=-1):
        state = read_state(spec.container_directory)
        if self.start_error is not None:
            error = self.start_error
            write_state(
                spec.container_directory,
                dataclasses.replace(
                    state,
                    exit_code=error.exit_code,
                    error=error.message,
                    boot_id=read_boot_id(),
                    awaits_restart=False,
                ),
                is_durable=False,
            )
            raise error
        Path(spec.run_directory).mkdir(parents=True, exist_ok=True)
        lock = LockFile(Path(spec.run_directory) / LOCK_FILE)
        lock.acquire_now()
        self.locks[spec.container_id] = lock
        self.specs[spec.container_id] = spec
        return self._change(
            spec.container_id,
            "start",
            status="running",
            started_at_ns=time.time_ns(),
            monitor_process_id=os.getpid(),
            boot_id=read_boot_id(),
            restart_count=state.restart_count if state.awaits_restart else 0,
            awaits_restart=False,
            is_stopped_by_person=False,
            error="",
        )

    async def call(self, run_directory, container_id, call):
        if container_id not in self.locks:
            raise ContainerStateError(
                "not running", container_id=container_id, status="exited", operation="call"
            )
        if call.call == "pause":
            return self._change(container_id, "pause", status="paused")
        if call.call == "unpause":
            return self._change(container_id, "unpause", status="running")
        if call.call in {"stop", "signal"}:
            self._tell(container_id, "kill", signal=str(call.signal))
            if self.ignores_signals and call.call == "signal" and call.signal != 9:
                return read_state(str(self.config.container_directory(container_id)))
            return self.end(container_id, 128 + call.signal, is_stopped=call.call == "stop")
        if call.call == "update":
            if self.update_error is not None:
                raise self.update_error
            spec = self.specs[container_id]
            self.specs[container_id] = dataclasses.replace(
                spec, cgroup=call.cgroup, restart=call.restart
            )
        if call.call == "rename":
            spec = self.specs[container_id]
            self.specs[container_id] = dataclasses.replace(spec, name=call.name)
        return read_state(str(self.config.container_directory(container_id)))

    def end(self, container_id, exit_code, *, is_stopped=False):
        state = self._write(
            container_id,
            status="exited",
            exit_code=exit_code,
            finished_at_ns=time.time_ns(),
            is_stopped_by_person=is_stopped,
        )
        self.kill(container_id)
        self._tell(container_id, "die", exitCode=str(exit_code))
        if is_stopped:
            self._tell(container_id, "stop")
        return state

    def kill(self, container_id):
        """End as SIGKILL ends a monitor: the lock is free and nothing is written."""
        self.locks.pop(container_id).release()

    def _change(self, container_id, action, **fields):
        state = self._write(container_id, **fields)
        self._tell(container_id, action)
        return state

    def _write(self, container_id, **fields):
        directory = str(self.config.container_directory(container_id))
        state = dataclasses.replace(read_state(directory), **fields)
        write_state(directory, state, is_durable=False)
        return state

    def _tell(self, container_id, action, **attributes):
        append_container_event(
            str(self.config.events_path),
            action,
            container_id=container_id,
            name=self.specs[container_id].name,
            attributes=attributes,
        )


class PlainRootfs:
    async def prepare(self, record, directory):
        (directory / "upper").mkdir()

    def describe(self, record):
        return RootfsSpec(
            kind="overlay",
            lowers=("/nowhere",),
            upper="/upper",
            work="/work",
            mount_point="/rootfs",
            uses_user_xattrs=False,
            is_read_only=record.is_read_only,
        )


class MemoryVolumes:
    """Makes no files; `discarded` has the names whose files were to be removed."""

    def __init__(self):
        self.discarded = []

    @contextlib.asynccontextmanager
    async def prepare(self, wanted, *, layer_paths, is_any_live):
        yield tuple(
            VolumeRecord(
                name=volume.name, created_at=0, is_anonymous=volume.is_anonymous, labels=()
            )
            for volume in wanted
        )

    @contextlib.asynccontextmanager
    async def keep(self, names):
        yield

    async def discard(self, name):
        self.discarded.append(name)


class MemoryNetworks:
    """There are none."""

    async def known(self):
        return ()


class NoHostNetworks:
    """Gives containers nothing; `forgotten` has those whose rules were to be removed."""

    def __init__(self):
        self.forgotten = []

    @contextlib.asynccontextmanager
    async def hold(self, wanted):
        yield HeldNetwork()

    async def publish(self, wanted, spec):
        raise AssertionError("there is no server that could want to know")

    def forget(self, container_id):
        self.forgotten.append(container_id)


class World:
    """One store with the services of one engine."""

    def __init__(self, tmp_path):
        self.config = EngineConfig(root=tmp_path / "root", run=tmp_path / "run")
        self.config.root.mkdir()
        self.config.run.mkdir()
        self.table = MemoryTable()
        self.monitors = MemoryMonitors(self.config)
        self.volumes = MemoryVolumes()
        self.removal_error = None
        self.services = ContainerServices(
            config=self.config,
            table=self.table,
            runtime=self.monitors,
            rootfs=PlainRootfs(),
            volumes=self.volumes,
            networks=MemoryNetworks(),
            attacher=NoHostNetworks(),
            hold_image=self.hold_image,
            staging=StagingArea(self.config.staging_directory, remove_tree=self.remove_claim),
            remove_tree=self.remove_tree,
            cgroups=CgroupPlan(mode="none", parent="", missing_limits={"memory": "no controller"}),
            snapshotter="overlay",
            is_rootless=False,
            has_seccomp=False,
        )

    @contextlib.asynccontextmanager
    async def hold_image(self, reference):
        yield ContainerImage(
            image_id=ImageId("sha256:" + "1" * 64),
            name="web:latest",
            config=ImageConfig(command=("serve",)),
            layers=("sha256:" + "2" * 64,),
        )

    async def remove_claim(self, path):
        shutil.rmtree(path, ignore_errors=True)

    async def remove_tree(self, path):
        if self.removal_error is not None:
            raise self.removal_error
        if path.exists():
            shutil.rmtree(path)

    def state(self, record) -> StateRecord:
        return read_state(str(self.config.container_directory(record.container_id)))

    def events(self):
        if not self.config.events_path.exists():
            return []
        lines = self.config.events_path.read_text().splitlines()
        return [json.loads(line)["action"] for line in lines]

    def last_event(self):
        return json.loads(self.config.events_path.read_text().splitlines()[-1])

    def leftovers(self):
        """Names of every directory of a container, trash or staging."""
        places = (
            self.config.root / "containers",
            self.config.run / "containers",
            self.config.staging_directory,
        )
        return sorted(
            entry.name
            for place in places
            if place.is_dir()
            for entry in place.iterdir()
            if entry.name != ".gate"
        )


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for container_id in tuple(world.monitors.locks):
        world.monitors.kill(container_id)
    world.services.close()


@pytest.fixture
def cannot_start():
    return StartError("exec: no such file", exit_code=127)
