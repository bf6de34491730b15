"""COPY, ADD and WORKDIR: what they are made of, and the layers that they make."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from engine.build.add_sources import is_address, refuse_repositories
from engine.build.context_opening import open_named_context
from engine.build.context_tree import ContextTree
from engine.build.copy_jobs import CopiedLayer, CopyArguments, CopyRoot
from engine.build.keys import MOST_LISTED_FILES, ListedFile, StepInputs
from engine.build.run_mounts import BoundTree
from engine.build.selection import Selection, SourceQuery, inline_source
from engine.build.solver import StepResult
from engine.build.tree_sources import ContextSources, Downloads, LayerSources, document_in_memory
from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.operations import carry_through
from engine.types import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.build.context_opening import OpenContext
    from engine.build.layers import LayerDraft, LayerStack, LayerWorkshop
    from engine.build.mounts import RunMount
    from engine.build.solver import StepContext
    from engine.build.steps import CopyStep, WorkdirStep
    from engine.snapshots.base import JobRunner
    from engine.types import NamedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """Where the files of a step come from.

    Attributes:
        files: To select from.
        stack: Layers, if it is an image or a stage.
        root: A descriptor of a directory, else.
    """

    files: ContextSources | LayerSources
    stack: LayerStack
    root: int


class FileSteps:
    """Prepares the steps of one build that copy and make files."""

    def __init__(
        self,
        context: OpenContext,
        *,
        workshop: LayerWorkshop,
        runner: JobRunner,
        named_contexts: Sequence[NamedContext],
        epoch_seconds: int | None,
    ) -> None:
        self._context = context
        self._named_contexts = {
            one.name.lower(): one.source for one in named_contexts if os.path.isabs(one.source)
        }
        self._directories: dict[str, ContextSources] = {}
        if context.tree is not None:
            self._directories[""] = ContextSources(context.tree)
        self._layers: dict[tuple[str, ...], LayerSources] = {}
        self._opened: list[int] = []
        self._downloads = Downloads(workshop.staging / "downloads")
        self.workshop = workshop
        self.runner = runner
        self.epoch_seconds = epoch_seconds

    def close(self) -> None:
        """Close named contexts, and what was fetched."""
        self._downloads.close()
        while self._opened:
            os.close(self._opened.pop())

    async def prepare_workdir(self, step: WorkdirStep, context: StepContext) -> PreparedFiles:
        """Find out what a WORKDIR is made of: nothing but its words."""
        inputs = StepInputs(
            kind="WORKDIR", arguments=(step.path,), user=step.user, options=self._options()
        )
        arguments = CopyArguments(
            label=f"WORKDIR {step.path}",
            lower_paths=(),
            destination_hex=os.fsencode(step.path).hex(),
            owner=step.user,
            makes_directory=True,
            latest_seconds=self.epoch_seconds,
        )
        return PreparedFiles(
            self, inputs, context, arguments, Selection(sources=[], warnings=[]), source=None
        )

    async def prepare_copy(self, step: CopyStep, context: StepContext) -> PreparedFiles:
        """Find the files that a COPY or ADD means, and read them for their digests.

        Raises:
            EngineError: One is not there, or cannot be read.
        """
        source = None
        selection = Selection(sources=[], warnings=[])
        if step.is_add:
            refuse_repositories(step.sources)
        addresses = [text for text in step.sources if step.is_add and is_address(text)]
        if len(addresses) < len(step.sources):
            if step.checksum:
                raise InvalidInputError(
                    "checksum can't be specified for non-HTTP(S) sources",
                    hint="`--checksum` is for an ADD of one address",
                )
            source = await self._source(step.source_stage, context)
        if addresses:
            for text in step.sources:
                part = await self._select_part(step, text, source)
                selection.sources += part.sources
                selection.warnings += part.warnings
        elif source is not None:
            selection = await self._select(step, step.sources, source)
        selection.sources += [inline_source(file.name, file.content) for file in step.files]
        inputs = StepInputs(
            kind="ADD" if step.is_add else "COPY",
            arguments=(step.destination,),
            options=tuple(
                sorted(
                    (
                        *self._options(),
                        ("--chown", step.owner),
                        ("--chmod", step.mode),
                        ("--link", str(step.is_link)),
                        ("from", "stage" if step.source_stage else "context"),
                    )
                )
            ),
            files=await asyncio.to_thread(selection.digest),
        )
        arguments = CopyArguments(
            label=f"{inputs.kind} {' '.join(step.sources)} {step.destination}",
            lower_paths=(),
            destination_hex=os.fsencode(step.destination).hex(),
            owner=step.owner,
            mode=step.mode,
            is_link=step.is_link,
            latest_seconds=self.epoch_seconds,
        )
        return PreparedFiles(self, inputs, context, arguments, selection, source=source)

    async def _select_part(self, step: CopyStep, text: str, source: CopySource | None) -> Selection:
        """One source of an ADD that fetches something."""
        if source is not None and not is_address(text):
            return await self._select(step, (text,), source)
        fetched = await self._downloads.fetch(
            text, checksum=step.checksum, unpacks=step.unpacks is True
        )
        return Selection(sources=[fetched], warnings=[])

    async def _select(
        self, step: CopyStep, paths: tuple[str, ...], source: CopySource
    ) -> Selection:
        query = SourceQuery(
            sources=paths, exclusions=step.excludes, keeps_parents=step.keeps_parents
        )
        if isinstance(source.files, ContextSources):
            unpacks = step.is_add and step.unpacks is not False
            return await source.files.select(query, marks_archives=unpacks)
        return await source.files.select(query)

    @property
    def downloads_root(self) -> int:
        """Descriptor of what was fetched; negative if nothing was."""
        return self._downloads.root

    def _options(self) -> tuple[tuple[str, str], ...]:
        epoch = "none" if self.epoch_seconds is None else str(self.epoch_seconds)
        return (("epoch", epoch),)

    async def bound_tree(self, mount: RunMount, context: StepContext) -> BoundTree:
        """What a bind mount of a RUN has.

        Raises:
            EngineError: It is not there.
        """
        source = await self._source(mount.source_stage, context)
        query = SourceQuery(sources=(mount.source or ".",))
        selection = await source.files.select(query)
        digest = await asyncio.to_thread(selection.digest)
        if source.stack:
            lowers = tuple(layer.diff for layer in reversed(source.stack))
        else:
            lowers = (os.readlink(f"/proc/self/fd/{source.root}"),)
        return BoundTree(lowers=lowers, digest=digest)

    async def _source(self, source_stage: str, context: StepContext) -> CopySource:
        name = source_stage.lower()
        if not name or name in self._named_contexts:
            if name not in self._directories:
                self._directories[name] = await self._open_named(name, source_stage)
            files = self._directories[name]
            return CopySource(files=files, stack=(), root=files.root)
        stack = context.stacks[source_stage]
        for layer in stack:
            # The index of a layer is there when the layer is.
            await layer.chain_id()
        key = tuple(layer.known_chain_id for layer in stack)
        if key not in self._layers:
            self._layers[key] = LayerSources(
                [str(layer.directory) for layer in stack],
                label=f"--from={source_stage}",
                runner=self.runner,
            )
        return CopySource(files=self._layers[key], stack=stack, root=-1)

    async def _open_named(self, name: str, shown: str) -> ContextSources:
        if not name:
            raise InvalidInputError(
                "there is no context to copy from",
                hint="Name a directory instead of giving the Dockerfile alone",
            )

        def open_one() -> ContextTree:
            root, rules = open_named_context(self._named_contexts[name])
            self._opened.append(root)
            return ContextTree(root, rules, label=f"context {shown}")

        return ContextSources(await carry_through(asyncio.to_thread(open_one)))


class PreparedFiles:
    """COPY, ADD or WORKDIR."""

    def __init__(
        self,
        steps: FileSteps,
        inputs: StepInputs,
        context: StepContext,
        arguments: CopyArguments,
        selection: Selection,
        *,
        source: CopySource | None,
    ) -> None:
        self._steps = steps
        self.inputs = inputs
        self._context = context
        self._arguments = arguments
        self._selection = selection
        self._source = source

    async def listed_inputs(self) -> StepInputs:
        """As PreparedStep."""
        listing = await asyncio.to_thread(_listing, self._selection)
        return msgspec.structs.replace(self.inputs, listing=listing)

    def skip(self) -> None:
        """As PreparedStep: nothing waits for it."""

    def warm_up(self) -> None:
        """As PreparedStep: the process that seals does the work."""

    async def run(self, draft: LayerDraft) -> StepResult:
        """As PreparedStep."""
        source = self._source
        async with contextlib.AsyncExitStack() as stack:
            directory = os.open(draft.layer_directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, directory)
            document = await stack.enter_async_context(document_in_memory(self._selection))
            descriptors = [directory, document]
            async with self._steps.workshop.places.reading():
                roots: tuple[CopyRoot, ...] = ()
                downloads = self._steps.downloads_root
                if source is not None and source.stack:
                    roots = (CopyRoot(layer_paths=tuple(layer.diff for layer in source.stack)),)
                elif source is not None or downloads >= 0:
                    roots = (CopyRoot(),)
                    descriptors.append(downloads if source is None else source.root)
                if downloads >= 0:
                    roots += (CopyRoot(),)
                    descriptors.append(downloads)
                arguments = msgspec.structs.replace(
                    self._arguments,
                    lower_paths=tuple(layer.diff for layer in reversed(self._context.stack)),
                    roots=roots,
                )
                answer = await self._steps.workshop.run_job(
                    "copy-files", msgspec.json.encode(arguments), descriptors=tuple(descriptors)
                )
        copied = msgspec.json.decode(answer, type=CopiedLayer)
        return StepResult(
            is_sealed=True,
            sealed=copied.layer,
            warnings=(*self._selection.warnings, *copied.warnings),
        )


def _listing(selection: Selection) -> tuple[ListedFile, ...]:
    if selection.file_count > MOST_LISTED_FILES:
        return ()
    return tuple(
        ListedFile(
            path=os.fsdecode(file.path),
            kind=file.kind.value,
            mode=file.mode,
            content=file.content_digest.hex()
            if file.kind is FileKind.FILE
            else os.fsdecode(file.link),
        )
        for file in selection.files()
    )
