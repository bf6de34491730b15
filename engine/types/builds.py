"""How a build goes, what comes of it, and what is kept for the next one."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from engine.late_dataclasses import dataclass
from engine.types.identity import ChainId, ImageId, OutputStream


class BuildStatus(StrEnum):
    """What becomes of a build."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BuildStepState(StrEnum):
    """What becomes of a step."""

    QUEUED = "queued"
    RUNNING = "running"
    CACHED = "cached"
    """Its layer was here."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Another step had failed before it began."""
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it stays so."""
        return self not in {BuildStepState.QUEUED, BuildStepState.RUNNING}


class CacheOutcome(StrEnum):
    """What the cache had for a step."""

    HIT = "hit"
    MISS = "miss"
    UNUSED = "unused"
    """It was not asked, because the person said so."""


class CacheReasonKind(StrEnum):
    """What makes a step another one than it was before."""

    FIRST_BUILD = "first build"
    """There is no earlier step like it."""
    PARENT = "parent"
    BASE = "base"
    COMMAND = "command"
    ARGUMENT = "argument"
    ENVIRONMENT = "environment"
    USER = "user"
    WORKING_DIRECTORY = "working directory"
    MOUNT = "mount"
    NETWORK = "network"
    PLATFORM = "platform"
    FILE = "file"
    OPTION = "option"
    GONE = "gone"
    """It is the same step, but its layer was removed."""
    NOT_WANTED = "not wanted"
    """The build was told not to use the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReason:
    """One difference from the nearest step of earlier builds."""

    kind: CacheReasonKind
    subject: str
    """The file, argument or variable; empty where there is only one."""
    text: str
    """A sentence without a full stop: `src/a.py has another content`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVerdict:
    """Why a step is run, or is not."""

    outcome: CacheOutcome
    reasons: tuple[CacheReason, ...] = ()
    """Of a miss, the weightiest first, at most `MAXIMUM_REASONS`."""
    reason_count: int = 0
    """How many there are in all."""


MAXIMUM_REASONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStep:
    """An instruction that makes files: FROM, RUN, COPY, ADD, WORKDIR; or `--squash`, at the end."""

    position: int
    """In `BuildProgress.steps`."""
    stage: int
    """In `BuildProgress.stages`."""
    number: int
    """Within its stage, from 1."""
    count: int
    """Steps of its stage."""
    instruction: str
    """`RUN`, in capitals; `SQUASH` for what the request wants besides."""
    text: str
    """The instruction as the Dockerfile has it, in one line."""
    line: int
    """Where it begins in the Dockerfile, from 1; 0 if it is not there."""
    end_line: int
    depends_on: tuple[int, ...] = ()
    """Positions of the steps that must be done before."""
    state: BuildStepState = BuildStepState.QUEUED
    started_at: float | None = None
    ended_at: float | None = None
    cache: CacheVerdict | None = None
    """None while that is not known, and of steps that have no cache."""
    size_bytes: int = 0
    """What it added."""
    entry_count: int = 0
    chain_id: ChainId | None = None
    """Of its layer, as soon as that is here; also of a step that added nothing: the one below."""
    is_empty: bool = False
    """It is done and made no layer."""
    exit_code: int | None = None
    error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """How long it took; None if it did not end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStage:
    """A stage that the target needs."""

    position: int
    """In `BuildProgress.stages`."""
    number: int
    """In the Dockerfile, from 0."""
    name: str
    """Empty if it has none."""
    base: str
    """The image, or the stage, that it stands on."""
    depends_on: tuple[int, ...]
    """Positions of other stages."""
    steps: tuple[int, ...]
    """Positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWarning:
    """What one of Docker's build checks says, or what we cannot do as written."""

    rule: str
    """`StageNameCasing`; empty for a warning of ours."""
    text: str
    line: int = 0
    """In the Dockerfile, from 1; 0 for none."""
    column: int = 0
    source: str = ""
    """The line itself, as far as it is worth showing; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """A build at one moment."""

    build_id: str
    """32 hexadecimal digits."""
    names: tuple[str, ...]
    """Familiar, with tag."""
    dockerfile: str
    target: str
    status: BuildStatus
    started_at: float
    ended_at: float | None = None
    stages: tuple[BuildStage, ...] = ()
    """In the order of the Dockerfile; empty until that is read."""
    steps: tuple[BuildStep, ...] = ()
    warnings: tuple[BuildWarning, ...] = ()
    image_id: ImageId | None = None
    failed_image_id: ImageId | None = None
    """What the failed step has written, as an image."""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildChanged:
    """All of a build anew: what comes first, what follows a plan, and its end."""

    progress: BuildProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStepChanged:
    """One step is otherwise than before."""

    step: BuildStep


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutput:
    """What a step has written, as it came."""

    position: int
    stream: OutputStream
    data: bytes
    time: float


BuildEvent = BuildChanged | BuildStepChanged | BuildOutput


class BuildListener(Protocol):
    """Is told of a build on the engine's loop; must return at once."""

    def __call__(self, event: BuildEvent, /) -> None:
        """Take note."""


def ignore_build(_event: BuildEvent, /) -> None:
    """Listen to nothing: the default of calls that report a build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """What a build made."""

    build_id: str
    image_id: ImageId
    names: tuple[str, ...]
    """Familiar, with tag."""
    size_bytes: int
    """Of all its layers."""
    step_count: int
    cached_count: int
    warnings: tuple[BuildWarning, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCacheEntry:
    """What is kept of one step."""

    entry_id: str
    """64 hexadecimal digits: what the step was made of."""
    text: str
    """The instruction, or `cache mount` and its id."""
    created_at: float
    used_at: float
    use_count: int
    size_bytes: int
    """Of the layer that it leads to."""
    is_shared: bool
    """An image has the layer too: removing the entry frees nothing."""
    is_mount: bool = False
    """It is what `RUN --mount=type=cache` keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCacheFilter:
    """Which entries of the cache a prune means; all conditions together."""

    used_before: float | None = None
    """Only those that were not used since."""
    kept_bytes: int | None = None
    """Stop when no more than this is left, the longest unused first."""
    includes_shared: bool = False
    """Also those that free nothing, and cache mounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedBuildCache:
    """What a prune of the cache removed."""

    entry_ids: tuple[str, ...]
    freed_bytes: int
