"""The builds of the fake engine: stages and steps as written, with a cache and a log of each."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.build.progress import BuildState
from engine.errors import BuildNotFoundError, BuildStepError, InvalidInputError
from engine.events import EventSubject
from engine.oci.reference import parse_reference
from engine.types import (
    BuildCacheEntry,
    BuildCacheFilter,
    BuildProgress,
    BuildRequest,
    BuildStage,
    BuildStatus,
    BuildStep,
    BuildStepState,
    BuiltImage,
    CacheOutcome,
    CacheReason,
    CacheReasonKind,
    CacheVerdict,
    ChainId,
    FileContent,
    FileTree,
    ImageId,
    OutputStream,
    PrunedBuildCache,
    ignore_build,
)
from tests.fake_archives import FakeArchives
from tests.fake_world import file_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.types import BuildEvent, BuildListener

STEPS = frozenset(("FROM", "RUN", "COPY", "ADD", "WORKDIR"))
STEP_BYTES = 1_000


@dataclass
class FakePlan:
    stages: list[BuildStage] = field(default_factory=list)
    steps: list[BuildStep] = field(default_factory=list)


class FakeBuilds(FakeArchives):
    """A Dockerfile is lines here; `RUN echo` and `RUN exit` do what they say.

    A gate named `step` holds each step up, one named `build` the whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.builds: dict[str, BuildState] = {}
        self._cut_images: set[str] = set()
        self.cached_steps: dict[str, BuildCacheEntry] = {}
        self.context_changes: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
        self.watched_since: float | None = None

    async def build_image(
        self, request: BuildRequest, *, listener: BuildListener = ignore_build
    ) -> BuiltImage:
        names = tuple(parse_reference(name).familiar_name for name in request.names)
        plan = _plan(_dockerfile_of(request), request)
        build = BuildState(
            build_id=self._new_hexadecimal()[:32],
            names=names,
            dockerfile=request.dockerfile or "Dockerfile",
            target=request.target,
            listener=listener,
        )
        self.builds[build.build_id] = build
        try:
            build.plan(stages=tuple(plan.stages), steps=tuple(plan.steps))
            await self._note("build", " ".join(names))
            keys: dict[int, str] = {}
            for step in plan.steps:
                await self._do(build, request, step, keys)
        except BuildStepError as error:
            failed = self.add_image("") if request.keeps_failed_step else None
            build.end(
                BuildStatus.FAILED, error=error.message, hint=error.hint, failed_image_id=failed
            )
            error.failed_image_id = failed or ""
            raise
        except asyncio.CancelledError:
            build.end(BuildStatus.CANCELLED)
            raise
        steps = build.progress.steps
        image_id = self.add_image(
            "", steps=tuple((step.text, step.size_bytes) for step in steps), labels=request.labels
        )
        for name in names:
            await self.tag_image(image_id, name)
        self._emit(EventSubject.IMAGE, "build", image_id, next(iter(names), ""))
        build.end(BuildStatus.DONE, image_id=image_id)
        return BuiltImage(
            build_id=build.build_id,
            image_id=image_id,
            names=names,
            size_bytes=self.images[image_id].summary.size_bytes,
            step_count=len(steps),
            cached_count=sum(step.state is BuildStepState.CACHED for step in steps),
        )

    async def _do(
        self, build: BuildState, request: BuildRequest, step: BuildStep, keys: dict[int, str]
    ) -> None:
        position = step.position
        if "step" in self.gates:
            await self.gates["step"].wait()
        if step.instruction == "FROM":
            base = step.text.split()[1]
            known = {one.name: one for one in build.progress.stages}
            if base in known:
                keys[position] = keys[known[base].steps[-1]]
            elif base != "scratch":
                self._find_image(base)
            keys.setdefault(position, hashlib.sha256(base.encode()).hexdigest())
            build.begin(position)
            build.finish(position, is_empty=True)
            return
        key = hashlib.sha256(f"{keys[position - 1]} {step.text}".encode()).hexdigest()
        keys[position] = key
        chain_id = ChainId(f"sha256:{key}")
        if request.uses_cache and key in self.cached_steps:
            entry = self.cached_steps[key]
            used = replace(entry, used_at=self._tick(), use_count=entry.use_count + 1)
            self.cached_steps[key] = used
            build.finish(
                position,
                state=BuildStepState.CACHED,
                cache=CacheVerdict(outcome=CacheOutcome.HIT),
                chain_id=chain_id,
                size_bytes=STEP_BYTES,
                entry_count=1,
            )
            return
        build.begin(position, cache=_verdict(request, step))
        self._run(build, request, step)
        build.finish(position, chain_id=chain_id, size_bytes=STEP_BYTES, entry_count=1)
        self.cached_steps[key] = BuildCacheEntry(
            entry_id=key, text=step.text, created_at=self._tick(), used_at=self._tick(),
            use_count=0, size_bytes=STEP_BYTES, is_shared=False,
        )  # fmt: skip

    def _run(self, build: BuildState, request: BuildRequest, step: BuildStep) -> None:
        if step.instruction != "RUN":
            return
        words = shlex.split(step.text)[1:]
        if words[0] == "echo":
            text = " ".join(words[1:]) + "\n"
            build.write(step.position, OutputStream.STDOUT, text.encode())
        if words[0] == "exit" and (code := int(words[1])):
            message = f'process "/bin/sh -c {" ".join(words)}" did not complete successfully'
            build.fail(step.position, error=f"{message}: exit code: {code}", exit_code=code)
            raise BuildStepError(
                f"{message}: exit code: {code}",
                step_text=step.text,
                dockerfile=request.dockerfile or "Dockerfile",
                line=step.line,
                step_exit_code=code,
            )

    async def plan_build(self, request: BuildRequest) -> BuildProgress:
        plan = _plan(_dockerfile_of(request), request)
        build = BuildState(
            build_id="", names=request.names, dockerfile=request.dockerfile or "Dockerfile",
            target=request.target, listener=ignore_build,
        )  # fmt: skip
        build.plan(stages=tuple(plan.stages), steps=tuple(plan.steps))
        return build.progress

    async def list_builds(self, name: str = "") -> tuple[BuildProgress, ...]:
        found = [build.progress for build in reversed(self.builds.values())]
        return tuple(one for one in found if not name or name in one.names)

    async def follow_build(self, build_id: str) -> AsyncIterator[tuple[BuildEvent, ...]]:
        async for events in self._build(build_id).follow():
            yield events

    async def read_step_log(self, build_id: str, position: int) -> bytes:
        self._finished_step(build_id, position, is_finished=False)
        return self._build(build_id).log(position).read()

    async def list_step_files(self, build_id: str, position: int) -> FileTree:
        step = self._finished_step(build_id, position)
        entries = (file_entry(f"made/by-step-{step.number}", size_bytes=step.size_bytes),)
        return FileTree(title=step.text, entries=entries, size_bytes=step.size_bytes)

    async def read_step_file(self, build_id: str, position: int, path: str) -> FileContent:
        tree = await self.list_step_files(build_id, position)
        return self._read(tree, path, tree.title)

    async def make_step_image(self, build_id: str, position: int) -> ImageId:
        step = self._finished_step(build_id, position)
        return self.add_image("", steps=((step.text, step.size_bytes),))

    async def record_intermediate_images(self) -> None:
        for build in tuple(self.builds.values()):
            steps = [step for step in build.progress.steps if step.instruction != "FROM"]
            for count in range(1, len(steps)):
                key = f"{build.build_id} {count}"
                if build.progress.status is BuildStatus.DONE and key not in self._cut_images:
                    self._cut_images.add(key)
                    image_id = self.add_image(
                        "", steps=tuple((step.text, step.size_bytes) for step in steps[:count])
                    )
                    image = self.images[image_id]
                    summary = replace(image.summary, is_intermediate=True)
                    self.images[image_id] = replace(image, summary=summary)

    async def watch_context(
        self, request: BuildRequest, *, since: float | None = None
    ) -> AsyncIterator[tuple[str, ...]]:
        self.watched_since = since
        if not isinstance(request.context, Path):
            raise InvalidInputError("only a directory can be watched")
        while True:
            yield await self.context_changes.get()

    async def list_build_cache(self) -> tuple[BuildCacheEntry, ...]:
        return tuple(sorted(self.cached_steps.values(), key=lambda one: -one.used_at))

    async def prune_build_cache(self, wanted: BuildCacheFilter) -> PrunedBuildCache:
        await self._note("prune", "build cache")
        left = sum(entry.size_bytes for entry in self.cached_steps.values())
        removed = []
        for entry in sorted(self.cached_steps.values(), key=lambda one: one.used_at):
            if wanted.kept_bytes is not None and left <= wanted.kept_bytes:
                break
            if wanted.used_before is not None and entry.used_at >= wanted.used_before:
                continue
            if entry.is_shared and not wanted.includes_shared:
                continue
            removed.append(self.cached_steps.pop(entry.entry_id))
            left -= entry.size_bytes
        return PrunedBuildCache(
            entry_ids=tuple(entry.entry_id for entry in removed),
            freed_bytes=sum(entry.size_bytes for entry in removed if not entry.is_shared),
        )

    def _build(self, build_id: str) -> BuildState:
        if build_id not in self.builds:
            raise BuildNotFoundError(build_id)
        return self.builds[build_id]

    def _finished_step(
        self, build_id: str, position: int, *, is_finished: bool = True
    ) -> BuildStep:
        steps = self._build(build_id).progress.steps
        if not 0 <= position < len(steps):
            raise BuildNotFoundError(f"{build_id} (step {position})")
        step = steps[position]
        if is_finished and step.state not in {BuildStepState.DONE, BuildStepState.CACHED}:
            raise BuildNotFoundError(f"{build_id} (step {position})")
        return step


def _dockerfile_of(request: BuildRequest) -> str:
    if request.dockerfile_content is not None:
        return request.dockerfile_content.decode()
    if not isinstance(request.context, Path):
        raise InvalidInputError("there is no context to take a Dockerfile from")
    path = request.context / (request.dockerfile or "Dockerfile")
    try:
        return path.read_text()
    except FileNotFoundError:
        raise InvalidInputError(f"failed to read dockerfile: no such file: {path}") from None


def _plan(dockerfile: str, request: BuildRequest) -> FakePlan:
    plan = FakePlan()
    for number, line in enumerate(dockerfile.splitlines(), 1):
        words = line.split()
        instruction = words[0].upper() if words else ""
        if instruction == "FROM":
            known = {stage.name: stage.position for stage in plan.stages if stage.name}
            base = words[1]
            plan.stages.append(
                BuildStage(
                    position=len(plan.stages),
                    number=len(plan.stages),
                    name=words[3] if len(words) > 3 else "",
                    base=base,
                    depends_on=(known[base],) if base in known else (),
                    steps=(),
                )
            )
        if instruction not in STEPS:
            continue
        if not plan.stages:
            raise InvalidInputError(f"no build stage in current context: line {number}")
        stage = plan.stages[-1]
        position = len(plan.steps)
        froms = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
        others = tuple(
            one.position for one in plan.stages if one.name in froms and one is not stage
        )
        stage = replace(stage, depends_on=(*stage.depends_on, *others))
        waits = tuple(plan.stages[other].steps[-1] for other in others)
        plan.stages[-1] = replace(stage, steps=(*stage.steps, position))
        plan.steps.append(
            BuildStep(
                position=position, stage=stage.position, number=len(stage.steps) + 1, count=0,
                instruction=instruction, text=line.strip(), line=number, end_line=number,
                depends_on=(*((position - 1,) if stage.steps else ()), *waits),
            )
        )  # fmt: skip
    plan.steps = [replace(step, count=len(plan.stages[step.stage].steps)) for step in plan.steps]
    if not plan.stages:
        raise InvalidInputError("file with no instructions")
    return plan


def _verdict(request: BuildRequest, step: BuildStep) -> CacheVerdict:
    if not request.uses_cache:
        kind, text = CacheReasonKind.NOT_WANTED, "the build was told not to use the cache"
        reason = CacheReason(kind=kind, subject="", text=text)
        return CacheVerdict(outcome=CacheOutcome.UNUSED, reasons=(reason,), reason_count=1)
    reason = CacheReason(
        kind=CacheReasonKind.FIRST_BUILD, subject="", text=f"no earlier build had {step.text}"
    )
    return CacheVerdict(outcome=CacheOutcome.MISS, reasons=(reason,), reason_count=1)
