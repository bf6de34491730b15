"""Commit: from a container to an image; the container is as it was before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.containers.commit_freeze import frozen_for_commit
from engine.containers.lifecycle import current_state, exclusively
from engine.containers.state_table import Operation, check
from engine.containers.states import status_of
from engine.errors import InvalidReferenceError
from engine.oci.documents import ConfigSection, Empty, HealthCheckDocument
from engine.oci.reference import parse_reference
from engine.operations import Progress, carry_through
from engine.snapshots.base import UPPER_NAME
from engine.types import CommittedImage, ContainerStatus

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.containers.record import ContainerRecord
    from engine.containers.services import ContainerServices
    from engine.images.commits import CommitMaker, ImageCommit
    from engine.operations import ProgressListener
    from engine.snapshots.writable_jobs import CompareArguments
    from engine.types import CommitRequest, HealthCheck, ImageId

_NANOSECONDS = 1_000_000_000


class ImageMaker(Protocol):
    """The images, as who makes one of a container needs them."""

    async def image_config(self, image_id: ImageId, container_name: str) -> ConfigSection:
        """What the image of a container says about its containers."""

    def committing(
        self, commit: ImageCommit, *, progress: ProgressListener
    ) -> AbstractAsyncContextManager[CommitMaker]:
        """Hold what a commit needs, for a block."""


class WritableLayers(Protocol):
    """The writable layers, as who compares them needs them."""

    def comparison(self, record: ContainerRecord) -> CompareArguments:
        """What a job needs to compare a container's writable layer with its image."""


async def commit_container(
    services: ContainerServices,
    images: ImageMaker,
    layers: WritableLayers,
    record: ContainerRecord,
    request: CommitRequest,
    *,
    progress: ProgressListener,
) -> CommittedImage:
    """Make an image of a container. Cancelling leaves no image, and a container that goes on.

    Raises:
        ContainerStateError: The container is dead or being removed.
        InvalidInputError: The name or one of the changes makes no sense.
    """
    # Loaded with the first commit, as what makes images is.
    from engine.images.commits import ImageCommit
    from engine.images.instructions import apply_changes

    name = _checked_name(request.name)
    apply_changes(ConfigSection(), request.changes)
    async with exclusively(services, record) as fresh:
        status = status_of(await current_state(services, fresh))
        check(Operation.COMMIT, status, container_id=fresh.container_id, name=fresh.name)
        image = await images.image_config(fresh.image_id, fresh.name)
        entrypoint, command = split_arguments(fresh, image)
        commit = ImageCommit(
            container_name=fresh.name,
            image_id=fresh.image_id,
            config=_config_of(fresh, image, entrypoint, command),
            created_by=" ".join(command),
            author=request.author,
            message=request.message,
            changes=request.changes,
            name=name,
            upper=services.config.container_directory(fresh.container_id) / UPPER_NAME,
            comparison=layers.comparison(fresh),
        )
        warnings: tuple[str, ...] = ()
        async with images.committing(commit, progress=progress) as maker:
            if request.is_pausing and status is ContainerStatus.RUNNING:
                progress(Progress(step="Pausing the container"))
                async with frozen_for_commit(services, fresh) as warnings:
                    layer = await maker.pack()
            else:
                layer = await maker.pack()
            made = await carry_through(maker.publish(layer))
        services.tell(
            "commit",
            fresh,
            comment=request.message,
            imageID=made.image_id,
            imageRef=made.name or "",
        )
        return CommittedImage(
            image_id=made.image_id,
            name=made.name,
            size_bytes=made.size_bytes,
            entry_count=made.entry_count,
            warnings=(*warnings, *made.warnings),
        )


def _checked_name(name: str | None) -> str | None:
    if not name:
        return None
    parsed = parse_reference(name)
    if parsed.digest is not None:
        raise InvalidReferenceError(name, "a name that is given cannot have a digest")
    return parsed.familiar_name


# --- the config -------------------------------------------------------------------------------


def split_arguments(
    record: ContainerRecord, image: ConfigSection
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The entrypoint and the command of a container.

    A record of an earlier version does not say where the one ends; then it is the image's
    entrypoint if the arguments begin with it.
    """
    count = record.entrypoint_count
    known = image.entrypoint if isinstance(image.entrypoint, tuple) else ()
    if not count and known and record.arguments[: len(known)] == known:
        count = len(known)
    return record.arguments[:count], record.arguments[count:]


def _config_of(
    record: ContainerRecord,
    image: ConfigSection,
    entrypoint: tuple[str, ...],
    command: tuple[str, ...],
) -> ConfigSection:
    """What Docker calls the container's config: the image's, as `run` has changed it."""
    volumes = dict(image.volumes or {})
    volumes |= {
        mount.target: Empty()
        for mount in record.mounts
        if mount.kind == "volume" and mount.is_anonymous
    }
    variables = {*(image.env or ())}
    return ConfigSection(
        user=record.user or None,
        exposed_ports=image.exposed_ports,
        env=tuple(
            entry
            for entry in record.environment
            if entry in variables or not _is_own_variable(entry, record)
        ),
        entrypoint=entrypoint or None,
        cmd=command or None,
        volumes=volumes or None,
        working_dir=None if record.working_directory == "/" else record.working_directory,
        labels=dict(record.labels) or None,
        stop_signal=record.stop_signal if _has_stop_signal(record, image) else None,
        healthcheck=_health_check(record.health) or image.healthcheck,
    )


def _is_own_variable(entry: str, record: ContainerRecord) -> bool:
    """Whether the engine adds a variable to every container: no image should say it for others."""
    return entry in (f"HOSTNAME={record.hostname}", "TERM=xterm")


def _has_stop_signal(record: ContainerRecord, image: ConfigSection) -> bool:
    return bool(image.stop_signal) or record.stop_signal != "SIGTERM"


def _health_check(check: HealthCheck | None) -> HealthCheckDocument | None:
    if check is None or not check.command:
        return None
    return HealthCheckDocument(
        test=check.command,
        interval=int(check.interval_seconds * _NANOSECONDS),
        timeout=int(check.timeout_seconds * _NANOSECONDS),
        start_period=int(check.start_period_seconds * _NANOSECONDS),
        start_interval=int(check.start_interval_seconds * _NANOSECONDS),
        retries=check.retries,
    )
