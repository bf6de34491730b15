"""state.json and the event log, as the monitor writes them: standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from engine.runtime.records import decode_record, encode_record
from engine.runtime.spec import StateRecord

if TYPE_CHECKING:
    from engine.runtime.spec import MountSpec, NetworkSpec

_MOST_EVENT_BYTES = 16 << 10
STATE_FILE = "state.json"


def write_state(directory: str, state: StateRecord, *, is_durable: bool) -> None:
    """Replace a container's state.json; only the holder of its lock may.

    A state that a power cut would make false anyway (running, paused) need not be durable: the
    next start finds no monitor and writes what is true.

    Raises:
        OSError: The disk is full, or the container's directory is gone.
    """
    write_state_document(directory, encode_record(state), is_durable=is_durable)


def write_state_document(directory: str, document: bytes, *, is_durable: bool) -> None:
    """The same with the state as JSON."""
    path = f"{directory}/{STATE_FILE}"
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        try:
            rest = document
            while rest:
                # A disk that fills up takes the beginning first, and refuses only then.
                rest = rest[os.write(descriptor, rest) :]
            if is_durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_state(directory: str) -> StateRecord:
    """Read a container's state.json; the state of a new container if there is none yet.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with open(f"{directory}/{STATE_FILE}", "rb") as document:
            return decode_record(StateRecord, document.read())
    except FileNotFoundError:
        return StateRecord()


def read_boot_id() -> str:
    """What tells this run of the kernel from every other (proc_sys_kernel(5), random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as boot:
        return boot.read().strip()


def append_container_event(
    path: str,
    action: str,
    *,
    container_id: str,
    name: str,
    attributes: dict[str, str],
    labels: tuple[tuple[str, str], ...] = (),
) -> None:
    """Append one event to events.jsonl with a single write(2), so that lines never mix.

    The container's labels are attributes too, as Docker has them, unless they are so long that
    readers would refuse the line. A disk that is full loses the event, not the container.
    """
    record = {
        "time_ns": time.time_ns(),
        "subject": "container",
        "action": action,
        "subject_id": container_id,
        "name": name,
        "attributes": {**dict(labels), **attributes},
    }
    line = json.dumps(record, separators=(",", ":"))
    if len(line) > _MOST_EVENT_BYTES:
        line = json.dumps({**record, "attributes": attributes}, separators=(",", ":"))
    _append_line(path, line)


def append_volume_events(
    path: str, action: str, *, container_id: str, mounts: tuple[MountSpec, ...]
) -> None:
    """Append an event for each volume of a container: `mount` at its start, `unmount` at its end.

    As `append_container_event`.
    """
    for mount in mounts:
        if not mount.volume_name:
            continue
        attributes = {"container": container_id, "driver": "local"}
        if action == "mount":
            attributes |= {
                "destination": mount.target,
                "read/write": "false" if mount.is_read_only else "true",
            }
        record = {
            "time_ns": time.time_ns(),
            "subject": "volume",
            "action": action,
            "subject_id": mount.volume_name,
            "name": mount.volume_name,
            "attributes": attributes,
        }
        _append_line(path, json.dumps(record, separators=(",", ":")))


def append_network_events(
    path: str, action: str, *, container_id: str, network: NetworkSpec
) -> None:
    """Append an event for each network of a container: `connect` at its start, then `disconnect`.

    As `append_container_event`.
    """
    for interface in network.interfaces:
        record = {
            "time_ns": time.time_ns(),
            "subject": "network",
            "action": action,
            "subject_id": interface.network_id,
            "name": interface.network_name,
            "attributes": {"container": container_id, "type": "bridge"},
        }
        _append_line(path, json.dumps(record, separators=(",", ":")))


def _append_line(path: str, line: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)
