"""Containers straight over the runtime: a busybox root, a spec, a supervisor; no store."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.cgroups.limits import CgroupSpec
from engine.linux.seccomp_compiler import compile_filter
from engine.runtime.id_mapping import find_mapping
from engine.runtime.isolation import (
    DEFAULT_CAPABILITIES,
    DEVICE_RULES,
    READ_ONLY_PATHS,
    default_environment,
    default_sysctls,
    masked_paths,
)
from engine.runtime.spec import (
    SPEC_VERSION,
    ContainerSpec,
    LogSpec,
    ProcessSpec,
    RootfsSpec,
    StateRecord,
)
from engine.runtime.state_file import read_state
from engine.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUSYBOX = "/bin/busybox"


@dataclass(frozen=True)
class Place:
    """Where one test's containers live."""

    root: Path
    layer: Path

    def spec(self, name: str, *command: str, environment: tuple[str, ...] = ()) -> ContainerSpec:
        directory = self.root / "containers" / name
        for part in ("upper", "work", "rootfs"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        is_rootless = os.geteuid() != 0
        return ContainerSpec(
            version=SPEC_VERSION,
            container_id=f"lamella-test-{os.getpid()}-{name}",
            name=name,
            image="busybox",
            container_directory=str(directory),
            run_directory=str(self.root / "run" / name),
            events_path=str(self.root / "events.jsonl"),
            hostname=name,
            is_rootless=is_rootless,
            rootfs=RootfsSpec(
                kind="overlay",
                lowers=(str(self.layer), str(self.root / "stubs")),
                upper=str(directory / "upper"),
                work=str(directory / "work"),
                mount_point=str(directory / "rootfs"),
                uses_user_xattrs=is_rootless,
                is_read_only=False,
            ),
            process=ProcessSpec(
                arguments=command,
                environment=default_environment(hostname=name, user_environment=environment),
                working_directory="/",
                user="",
                capabilities=tuple(DEFAULT_CAPABILITIES),
                has_no_new_privileges=False,
                umask=0o022,
                seccomp_filter=base64.b64encode(compile_filter(DEFAULT_CAPABILITIES)).decode(),
            ),
            cgroup=CgroupSpec(
                name=f"lamella-test-{os.getpid()}-{name}",
                device_rules=DEVICE_RULES,
            ),
            log=LogSpec(path=str(directory / "log"), file_bytes=64 << 20, file_count=3),
            file_mounts=(),
            masked_paths=masked_paths(),
            read_only_paths=READ_ONLY_PATHS,
            sysctls=default_sysctls(is_rootless=is_rootless),
            shared_memory_bytes=64 << 20,
            stop_signal=15,
            stop_timeout_seconds=10.0,
        )

    def state(self, spec: ContainerSpec) -> StateRecord:
        return read_state(spec.container_directory)

    def log(self, spec: ContainerSpec) -> str:
        lines = Path(spec.log.path).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if not os.path.exists(BUSYBOX):
        pytest.skip("needs busybox-static (make test-tools)")
    layer = tmp_path / "layer"
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev"):
        (layer / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, layer / "bin" / "busybox")
    for name in (
        "sh",
        "cat",
        "sleep",
        "echo",
        "true",
        "id",
        "ls",
        "grep",
        "mkdir",
        "touch",
        "mount",
    ):
        (layer / "bin" / name).symlink_to("busybox")
    (layer / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home:\n"
    )
    (layer / "etc" / "group").write_text("root:x:0:\nann:x:1000:\nstaff:x:50:ann\n")
    (tmp_path / "stubs" / "proc").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    return Place(root=tmp_path, layer=layer)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    mapping = None if os.geteuid() == 0 else find_mapping()
    async with Supervisor.open(mapping) as opened:
        yield opened


def altered(spec: ContainerSpec, **process: object) -> ContainerSpec:
    """The same spec with other fields of its process."""
    return replace(spec, process=replace(spec.process, **process))
