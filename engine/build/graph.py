"""The stages of a Dockerfile that a target needs, and what each of them needs.

A stage refers only to what stands before it, so the order of the file is one in which everything
can be built. Rules and texts are BuildKit's (frontend/dockerfile/dockerfile2llb/convert.go).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from engine.build.expansion import Expander
from engine.build.instructions import CopyInstruction, OnbuildInstruction, RunInstruction
from engine.build.spans import Source
from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.oci.platforms import host_platform, parse_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.build.instructions import BuildInstruction, Dockerfile, Stage
    from engine.build.spans import Position
    from engine.errors import DockerfileError

SCRATCH = "scratch"


class SourceKind(StrEnum):
    """Where files come from."""

    SCRATCH = "scratch"
    STAGE = "stage"
    IMAGE = "image"
    CONTEXT = "context"
    """One that the request names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReference:
    """What a FROM or `--from` leads to.

    Attributes:
        name: Of the image or the context, as it was written.
        stage: Its number, if it is one.
    """

    kind: SourceKind
    name: str = ""
    stage: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNode:
    """A stage that is needed.

    Attributes:
        stage: As it was parsed.
        base: What it stands on.
        triggers: Instructions of the base's ONBUILD, which come first.
        sources: What `--from` texts of its instructions lead to.
    """

    stage: Stage
    base: SourceReference
    triggers: tuple[BuildInstruction, ...]
    sources: Mapping[str, SourceReference]

    @property
    def number(self) -> int:
        """In the Dockerfile, from 0."""
        return self.stage.index

    @property
    def instructions(self) -> tuple[BuildInstruction, ...]:
        """All, in the order in which they have their effect."""
        return (*self.triggers, *self.stage.instructions)

    @property
    def needs(self) -> frozenset[int]:
        """Numbers of the stages that must be there."""
        references = (self.base, *self.sources.values())
        return frozenset(one.stage for one in references if one.kind is SourceKind.STAGE)


class BuildGraph:
    """Which stages a target needs. Grows when a base turns out to have triggers.

    Attributes:
        global_arguments: What stages may import with a bare ARG.
        used_arguments: Names of the request's arguments that FROM or a global ARG has asked for.
        nodes: By number, in the order of the file.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        *,
        target: str,
        build_arguments: Mapping[str, str],
        named_contexts: Iterable[str] = (),
    ) -> None:
        """Find out what the target needs.

        Raises:
            InvalidInputError: There is no such target.
            DockerfileError: A stage refers to what it cannot have.
        """
        self._dockerfile = dockerfile
        self._source = Source(dockerfile.name, list(dockerfile.lines))
        self._named_contexts = {name.lower(): name for name in named_contexts}
        self._numbers: dict[str, list[int]] = {}
        for stage in dockerfile.stages:
            if stage.name:
                self._numbers.setdefault(stage.name, []).append(stage.index)
        self.used_arguments: set[str] = set()
        self.target = self._find_target(target)
        self.global_arguments = self._read_global_arguments(target, build_arguments)
        self.nodes: dict[int, StageNode] = {}
        self._require((self.target,))

    def _find_target(self, target: str) -> int:
        count = len(self._dockerfile.stages)
        if not target:
            return count - 1
        if numbers := self._numbers.get(target.lower()):
            return numbers[-1]
        if target.isascii() and target.isdigit() and int(target) < count:
            return int(target)
        known = ", ".join(self._numbers) or "none has a name"
        raise InvalidInputError(
            f'target stage "{target}" could not be found', hint=f"Its stages: {known}"
        )

    def _read_global_arguments(
        self, target: str, build_arguments: Mapping[str, str]
    ) -> dict[str, str]:
        host = host_platform()
        values: dict[str, str] = {}
        for prefix in ("BUILD", "TARGET"):
            values[f"{prefix}PLATFORM"] = str(host)
            values[f"{prefix}OS"] = host.os
            values[f"{prefix}ARCH"] = host.architecture
            values[f"{prefix}VARIANT"] = host.variant
        values["TARGETSTAGE"] = target or "default"
        for instruction in self._dockerfile.arguments:
            for definition in instruction.definitions:
                expander = Expander(self._source, values, escape=self._dockerfile.escape)
                name = expander.text(definition.name)
                if name in build_arguments:
                    values[name] = build_arguments[name]
                    self.used_arguments.add(name)
                elif definition.value is not None:
                    values[name] = expander.text(definition.value)
        return values

    # --- stages -------------------------------------------------------------------------------

    def set_triggers(self, number: int, triggers: tuple[BuildInstruction, ...]) -> None:
        """Let the instructions that a stage's base has for its children come first in it.

        Raises:
            DockerfileError: One refers to what it cannot have.
        """
        self.nodes[number] = self._node(number, triggers)
        self._require(self.nodes[number].needs)

    def _require(self, numbers: Iterable[int]) -> None:
        pending = [number for number in numbers if number not in self.nodes]
        while pending:
            number = pending.pop()
            if number in self.nodes:
                continue
            node = self.nodes[number] = self._node(number, ())
            pending += node.needs
        self.nodes = dict(sorted(self.nodes.items()))

    def _node(self, number: int, triggers: tuple[BuildInstruction, ...]) -> StageNode:
        stage = self._dockerfile.stages[number]
        base = self._find_base(stage)
        if base.kind is SourceKind.STAGE:
            # An image's are set when it is known; those of a stage are in the file.
            below = self._dockerfile.stages[base.stage].instructions
            triggers = tuple(one.trigger for one in below if isinstance(one, OnbuildInstruction))
        sources: dict[str, SourceReference] = {}
        for instruction in (*triggers, *stage.instructions):
            for text, position in _references(instruction):
                if text not in sources:
                    sources[text] = self._refer(text, position, number)
        return StageNode(stage=stage, base=base, triggers=triggers, sources=sources)

    def _find_base(self, stage: Stage) -> SourceReference:
        expander = Expander(self._source, self.global_arguments, escape=self._dockerfile.escape)
        word = stage.base.image
        name = expander.text(word)
        if not name:
            raise self._source.error(
                word.span.start,
                f"base name ({word.text}) should not be blank",
                expected="an image, a stage or scratch",
            )
        if stage.base.platform is not None:
            self._check_platform(expander.text(stage.base.platform), stage.base.platform.span.start)
        if name.lower() in self._named_contexts:
            context = self._named_contexts[name.lower()]
            return SourceReference(kind=SourceKind.CONTEXT, name=context)
        if name == SCRATCH:
            return SourceReference(kind=SourceKind.SCRATCH, name=name)
        earlier = [one for one in self._numbers.get(name.lower(), ()) if one < stage.index]
        if earlier:
            return SourceReference(kind=SourceKind.STAGE, name=name, stage=earlier[-1])
        return SourceReference(kind=SourceKind.IMAGE, name=name)

    def _check_platform(self, text: str, position: Position) -> None:
        host = host_platform()
        try:
            wanted = parse_platform(text)
        except InvalidInputError as error:
            raise self._source.error(
                position, error.message, expected=f"--platform={host}"
            ) from None
        if (wanted.os, wanted.architecture) != (host.os, host.architecture):
            raise self._source.error(
                position,
                f"{wanted} is not the platform of this host, and programs of it cannot run here",
                expected=f"--platform={host}, or none",
            )

    def _refer(self, text: str, position: Position, current: int) -> SourceReference:
        """What a `--from` means in a stage."""
        if text.lower() in self._named_contexts:
            context = self._named_contexts[text.lower()]
            return SourceReference(kind=SourceKind.CONTEXT, name=context)
        if text == SCRATCH:
            return SourceReference(kind=SourceKind.SCRATCH, name=text)
        if text.isascii() and text.isdigit():
            if int(text) < current:
                return SourceReference(kind=SourceKind.STAGE, name=text, stage=int(text))
            raise self._not_before(text, position, current)
        numbers = self._numbers.get(text.lower())
        if not numbers:
            return SourceReference(kind=SourceKind.IMAGE, name=text)
        earlier = [number for number in numbers if number < current]
        if not earlier:
            raise self._not_before(text, position, current)
        return SourceReference(kind=SourceKind.STAGE, name=text, stage=earlier[-1])

    def _not_before(self, text: str, position: Position, current: int) -> DockerfileError:
        name = self._dockerfile.stages[current].name or str(current)
        return self._source.error(
            position,
            f'cannot copy from stage "{text}", it needs to be defined before current stage '
            f'"{name}"',
            expected="a stage further up, or an image",
        )


def _references(instruction: BuildInstruction) -> list[tuple[str, Position]]:
    """What an instruction takes files from besides its own stage and the context."""
    if isinstance(instruction, OnbuildInstruction):
        return []
    if isinstance(instruction, CopyInstruction) and instruction.source_stage is not None:
        word = instruction.source_stage
        return [(word.text, word.span.start)]
    if isinstance(instruction, RunInstruction):
        return [
            (flag.source_stage, flag.word.span.start)
            for flag in instruction.mounts
            if flag.source_stage
        ]
    return []
