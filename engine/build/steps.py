"""What a stage does, with every variable replaced: the steps that make files, and the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from engine.build.instructions import Instruction
    from engine.build.mounts import RunMount


@dataclass(frozen=True, slots=True, kw_only=True)
class HeredocFile:
    """A file that the Dockerfile itself holds."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOrigin:
    """Where a step comes from.

    Attributes:
        instruction: As it was parsed.
        history: Its number in the stage's history.
        is_trigger: It is an ONBUILD of the base, which has no lines here.
    """

    instruction: Instruction
    history: int
    is_trigger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """RUN.

    Attributes:
        arguments: The whole command line.
        environment: `NAME=value`: variables and arguments of the build.
        passed_environment: Besides, what neither key nor history has: proxies.
        scripts: Files that it runs, in `/dev/pipes`.
        network: `default`, `none` or `host`.
    """

    origin: StepOrigin
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    passed_environment: tuple[str, ...]
    user: str
    working_directory: str
    mounts: tuple[RunMount, ...]
    scripts: tuple[HeredocFile, ...]
    network: str
    is_privileged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep:
    """COPY and ADD.

    Attributes:
        source_stage: `--from`: a stage, named context or image; empty for the context.
        sources: Paths and patterns, or addresses of an ADD.
        files: What stands in the Dockerfile itself.
        destination: Absolute; a slash at its end says that it is a directory.
        owner: `--chown`; empty for 0:0.
        mode: `--chmod`; empty for what the sources have.
        unpacks: Of ADD; None unpacks archives of the context.
        checksum: Of what an address gives; empty for any.
    """

    origin: StepOrigin
    is_add: bool
    source_stage: str
    sources: tuple[str, ...]
    files: tuple[HeredocFile, ...]
    destination: str
    owner: str
    mode: str
    is_link: bool
    keeps_parents: bool
    excludes: tuple[str, ...]
    unpacks: bool | None = None
    checksum: str = ""
    keeps_git_directory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirStep:
    """WORKDIR: a directory that is made if it is missing.

    Attributes:
        user: Who owns what is made.
    """

    origin: StepOrigin
    path: str
    user: str


StageStep: TypeAlias = RunStep | CopyStep | WorkdirStep


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One line of the history.

    Attributes:
        makes_layer: A step belongs to it, which may have made a layer.
    """

    created_by: str
    makes_layer: bool
