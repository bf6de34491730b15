"""What an image's config says, in the engine's own records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.errors import ImageForPlatformNotFoundError
from engine.oci.documents import (
    ConfigSection,
    HistoryDocument,
    ImageDocument,
    Platform,
    decode_config,
    parse_time,
)
from engine.oci.platforms import parse_platform, platform_rank
from engine.types import ChainId, HealthCheck, ImageConfig, ImageSummary, LayerSummary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.store.image_lists import ImageListRecord
    from engine.store.image_records import ImageLayerRecord

_NANOSECONDS = 1_000_000_000
_DEFAULT_HEALTH_SECONDS = 30.0
_DEFAULT_HEALTH_RETRIES = 3
_DEFAULT_START_INTERVAL_SECONDS = 5.0


def require_platform(config: bytes, reference: str, wanted: str) -> None:
    """See that an image is for what a person asked for, if anything.

    Raises:
        InvalidInputError: What was asked for is no platform.
        ImageForPlatformNotFoundError: The image is for another one.
    """
    if not wanted:
        return
    platform = parse_platform(wanted)
    own = decode_config(config, reference).platform
    # Very old images do not say it.
    if own.architecture and platform_rank(own, platform) is None:
        raise ImageForPlatformNotFoundError(reference, platform=str(platform))


def container_config(document: ImageDocument) -> ImageConfig:
    """What the image says about its containers."""
    section = document.config or ConfigSection()
    return ImageConfig(
        user=section.user or "",
        environment=section.env or (),
        entrypoint=_words(section.entrypoint),
        command=_words(section.cmd),
        working_directory=section.working_dir or "",
        labels=tuple((name, value or "") for name, value in (section.labels or {}).items()),
        exposed_ports=tuple(sorted(section.exposed_ports or ())),
        volumes=tuple(sorted(section.volumes or ())),
        stop_signal=section.stop_signal or "",
        health_check=_health_check(section),
    )


class _LabelsOfSection(msgspec.Struct, frozen=True):
    labels: dict[str, str | None] | None = msgspec.field(default=None, name="Labels")


class _ListedConfig(msgspec.Struct, frozen=True):
    config: _LabelsOfSection | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None


class ListedConfig(NamedTuple):
    """What a list of images shows of a config."""

    labels: tuple[tuple[str, str], ...] = ()
    platform: str = ""


def listed_config(config: bytes) -> ListedConfig:
    """Read that only, which costs a tenth of reading all of a document."""
    listed = msgspec.json.decode(config, type=_ListedConfig)
    labels = listed.config.labels if listed.config is not None else None
    platform = Platform(
        os=listed.os or "", architecture=listed.architecture or "", variant=listed.variant or ""
    )
    return ListedConfig(
        tuple((name, value or "") for name, value in (labels or {}).items()), str(platform)
    )


def summary_of(image: ImageListRecord, listed: ListedConfig) -> ImageSummary:
    """A row of the image list."""
    return ImageSummary(
        image_id=image.image_id,
        names=image.names,
        created_at=image.created_at,
        added_at=image.added_at,
        size_bytes=image.size_bytes,
        layer_count=image.layer_count,
        container_count=image.container_count,
        digest=image.manifest_digest,
        labels=listed.labels,
        is_intermediate=image.is_intermediate,
        platform=listed.platform,
        kept_bytes=image.kept_bytes,
    )


def _words(command: tuple[str, ...] | str | None) -> tuple[str, ...]:
    # Very old builders wrote a text where a list belongs.
    return ("/bin/sh", "-c", command) if isinstance(command, str) else command or ()


def _health_check(section: ConfigSection) -> HealthCheck | None:
    check = section.healthcheck
    if check is None or not check.test or check.test == ("NONE",):
        return None
    return HealthCheck(
        command=check.test,
        interval_seconds=check.interval / _NANOSECONDS or _DEFAULT_HEALTH_SECONDS,
        timeout_seconds=check.timeout / _NANOSECONDS or _DEFAULT_HEALTH_SECONDS,
        start_period_seconds=check.start_period / _NANOSECONDS,
        start_interval_seconds=(
            check.start_interval / _NANOSECONDS or _DEFAULT_START_INTERVAL_SECONDS
        ),
        retries=check.retries or _DEFAULT_HEALTH_RETRIES,
    )


def history_steps(
    document: ImageDocument,
    layers: Sequence[ImageLayerRecord],
    image_counts: Mapping[ChainId, int],
) -> tuple[LayerSummary, ...]:
    """The image's steps, oldest first, each with the layer it made, if any.

    A history that is missing, or that speaks of another number of layers than there are (squashed
    images have such), is not believed: then every layer is a step of its own.
    """
    history = document.history or ()
    if sum(not step.empty_layer for step in history) != len(layers):
        history = tuple(HistoryDocument(created=document.created) for _ in layers)
    remaining = iter(layers)
    steps: list[LayerSummary] = []
    for position, step in enumerate(history):
        part = None if step.empty_layer else next(remaining)
        layer = part.layer if part is not None else None
        steps.append(
            LayerSummary(
                position=position,
                created_by=step.created_by or "",
                created_at=parse_time(step.created),
                comment=step.comment or "",
                is_empty=layer is None,
                diff_id=layer.diff_id if layer else None,
                chain_id=layer.chain_id if layer else None,
                size_bytes=layer.size_bytes if layer else 0,
                entry_count=layer.entry_count if layer else 0,
                shared_image_count=image_counts.get(layer.chain_id, 0) if layer else 0,
            )
        )
    return tuple(steps)


def indented(config: bytes) -> str:
    """A config document as people read it."""
    return msgspec.json.format(config, indent=2).decode(errors="replace")
