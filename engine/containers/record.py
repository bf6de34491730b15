"""What is decided about a container when it is made, and kept as a document in the database."""

from __future__ import annotations

import msgspec

from engine.errors import StoreError
from engine.late_dataclasses import dataclass
from engine.types import (
    ContainerId,
    HealthCheck,
    ImageId,
    MountRequest,
    NetworkOptions,
    ProcessOptions,
    ResourceLimits,
    RestartPolicy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container, without what changes while it runs (that is in its state.json).

    Attributes:
        image: The name that it was made from, or a short image id.
        layers: Chain ids, bottom first.
        stop_signal: As it was written, such as `SIGTERM` or `15`.
        warnings: What the host could not give when it was made.
        entrypoint_count: How many of the arguments, from the first on, are the entrypoint.
        network: As it was asked for, with ids in the place of names.
        exposed_ports: The image's and its own: `80/tcp`.
    """

    container_id: ContainerId
    name: str
    image: str
    image_id: ImageId
    layers: tuple[str, ...]
    created_at_ns: int
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    user: str
    hostname: str
    labels: tuple[tuple[str, str], ...]
    limits: ResourceLimits
    is_read_only: bool
    is_removed_on_exit: bool
    stop_signal: str
    stop_timeout_seconds: float
    snapshotter: str
    warnings: tuple[str, ...] = ()
    has_terminal: bool = False
    is_stdin_open: bool = False
    is_stdin_closed_with_session: bool = False
    has_init: bool = False
    restart_policy: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    mounts: tuple[MountRequest, ...] = ()
    options: ProcessOptions = ProcessOptions()
    network: NetworkOptions = NetworkOptions()
    exposed_ports: tuple[str, ...] = ()
    entrypoint_count: int = 0


def encode_container(record: ContainerRecord) -> str:
    """Return the record as a JSON document."""
    return msgspec.json.encode(record).decode()


def decode_container(document: str | bytes) -> ContainerRecord:
    """Read a record.

    Raises:
        StoreError: It is damaged, or of a version that this program does not know.
    """
    try:
        return msgspec.json.decode(document, type=ContainerRecord)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreError(
            f"a container record is damaged: {error}",
            hint="It may come from a newer version of Lamella",
        ) from error
