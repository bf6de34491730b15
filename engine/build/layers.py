"""The layers of a build: of its base, of the cache, and those that its steps make.

A step writes into a directory in staging, which becomes the layer: it is settled at once, and read
for its diff id by another process while the next step runs on it. When that is known, and the layer
below has its place, it is renamed to its own and recorded, so that a build that is killed has not
worked for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from engine.build.layer_places import LayerPlaces
from engine.errors import SyscallError
from engine.images.catalog import layer_directory
from engine.oci.digests import digest_of
from engine.operations import open_in_thread
from engine.runtime.seal_jobs import NewOwner, SealRequest, SettledLayer
from engine.snapshots.base import DIFF_NAME
from engine.snapshots.packing import SealedLayer
from engine.snapshots.removal import engine_error
from engine.store.image_records import LayerRecord
from engine.types import ChainId, DiffId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.build.layer_processes import BorrowedProcess
    from engine.build.run_step import OwnedPath
    from engine.config import EngineConfig
    from engine.images.mending import LayerMender
    from engine.store.image_lock import ImageLock

_MOST_READ = 64
_LAYER_NAME = "layer"
_WORK_NAME = "work"
_MOUNT_POINT_NAME = "rootfs"


class BuildLayer:
    """One layer, which has its place already or is on its way there.

    Attributes:
        directory: Where it is now; it moves once, while nobody is told where it is.
        size_bytes: What it holds; 0 until that is known.
        entry_count: As above.
    """

    def __init__(self, directory: Path) -> None:
        """For a layer that is being made; `place` says where it ends."""
        self.directory = directory
        self.size_bytes = 0
        self.entry_count = 0
        self.diff_id: DiffId | None = None
        self._chain_id: asyncio.Future[ChainId] = asyncio.get_running_loop().create_future()

    @classmethod
    def of_store(cls, config: EngineConfig, record: LayerRecord) -> BuildLayer:
        """One that has its place."""
        layer = cls(layer_directory(config, record.chain_id))
        layer.size_bytes = record.size_bytes
        layer.entry_count = record.entry_count
        layer.diff_id = record.diff_id
        layer._chain_id.set_result(record.chain_id)
        return layer

    @property
    def diff(self) -> str:
        """Path of its files, for whoever holds the places of layers."""
        return str(self.directory / DIFF_NAME)

    @property
    def is_in_place(self) -> bool:
        """Whether its chain id is known, and it is where that says."""
        return self._chain_id.done()

    @property
    def known_chain_id(self) -> ChainId:
        """The chain id of a layer that is in place."""
        return self._chain_id.result()

    async def chain_id(self) -> ChainId:
        """Its chain id, as soon as it is in place.

        Raises:
            EngineError: It could not be made.
        """
        # Whoever waits may be cancelled; the layer may not.
        return await asyncio.shield(self._chain_id)

    def place(self, chain_id: ChainId) -> None:
        """It is in place and recorded."""
        if not self._chain_id.done():
            self._chain_id.set_result(chain_id)

    def give_up(self, error: BaseException) -> None:
        """It will never be in place; whoever waits for it gets the error."""
        if self._chain_id.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self._chain_id.cancel()
            return
        self._chain_id.set_exception(error)
        # Maybe nobody waits for it.
        self._chain_id.exception()


LayerStack: TypeAlias = tuple[BuildLayer, ...]
"""Bottom first."""


class LayerDraft:
    """Where a step writes."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.directory = directory

    @property
    def layer_directory(self) -> Path:
        """What becomes the layer."""
        return self.directory / _LAYER_NAME

    @property
    def upper(self) -> Path:
        """Its files."""
        return self.layer_directory / DIFF_NAME

    @property
    def work(self) -> Path:
        """Overlay's work directory."""
        return self.directory / _WORK_NAME

    @property
    def mount_point(self) -> Path:
        """Where the root is attached, inside a mount namespace of the step's own."""
        return self.directory / _MOUNT_POINT_NAME


class LayerWorkshop:
    """Makes the layers of one build."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        staging: Path,
        process: BorrowedProcess,
        lock: ImageLock,
        mender: LayerMender,
        epoch_seconds: int | None,
    ) -> None:
        """Make layers in a store.

        Args:
            config: Where it is.
            staging: A claim's directory.
            process: Seals, and does other jobs; it is given back.
            lock: Of the images.
            mender: Puts layers into place.
            epoch_seconds: The latest time in any layer; None leaves times alone.
        """
        self._config = config
        self._staging = staging
        self._process = process
        self._lock = lock
        self._mender = mender
        self.epoch_ns = None if epoch_seconds is None else epoch_seconds * 1_000_000_000
        self._numbers = itertools.count()
        # One is read at a time; each that waits has a socket.
        self._reading = asyncio.Semaphore(_MOST_READ)
        self.places = LayerPlaces()
        self.unrecorded: set[ChainId] = set()

    @property
    def staging(self) -> Path:
        """The build's own directory."""
        return self._staging

    def warm_up(self) -> None:
        """Start the process that seals, which takes longer than most steps."""
        self._process.start()

    async def close(self) -> None:
        """Give the process that seals back; a layer that it reads is given up."""
        await self._process.give_back()

    # --- drafts -------------------------------------------------------------------------------

    async def draft(self, stack: LayerStack) -> LayerDraft:
        """Make a directory to write into, on top of some layers.

        Raises:
            NoSpaceError: The disk is full.
        """
        number = next(self._numbers)
        draft = LayerDraft(number, self._staging / str(number))
        async with self.places.reading():
            lower = stack[-1].diff if stack else ""
            needs_look = await asyncio.to_thread(_make_draft, draft, lower)
            if needs_look:
                await self._process.ask(
                    SealRequest(
                        action="prepare",
                        layer=number,
                        label="the new layer",
                        lower_paths=(stack[-1].diff,),
                    ),
                    draft.layer_directory,
                )
        return draft

    async def settle(
        self,
        draft: LayerDraft,
        stack: LayerStack,
        *,
        label: str,
        started_at_ns: int = 0,
        mounted_on: Sequence[str] = (),
    ) -> bool:
        """Make what was written what a layer may be; False if that is nothing.

        Args:
            draft: Nobody writes to it any more.
            stack: What it stands on.
            label: What errors call it.
            started_at_ns: When writing began.
            mounted_on: Absolute paths where the engine has mounted something.

        Raises:
            EngineError: It cannot be read.
        """
        async with self.places.reading():
            answer = await self._process.ask(
                SealRequest(
                    action="settle",
                    layer=draft.number,
                    label=label,
                    lower_paths=tuple(layer.diff for layer in reversed(stack)),
                    epoch_ns=self.epoch_ns,
                    started_at_ns=started_at_ns,
                    places_hex=tuple(os.fsencode(path).hex() for path in mounted_on),
                ),
                draft.layer_directory,
            )
        if not msgspec.json.decode(answer, type=SettledLayer).is_empty:
            return True
        await self._process.ask(SealRequest(action="drop", layer=draft.number), None)
        await asyncio.to_thread(_remove_draft, draft)
        return False

    async def digest(self, draft: LayerDraft, *, label: str) -> SealedLayer:
        """Read a settled draft: its diff id, and what it holds."""
        async with self._reading:
            answer = await self._process.ask(
                SealRequest(action="digest", layer=draft.number, label=label), None
            )
        return msgspec.json.decode(answer, type=SealedLayer)

    async def put_into_place(
        self, draft: LayerDraft, layer: BuildLayer, parent: BuildLayer | None, sealed: SealedLayer
    ) -> LayerRecord:
        """Rename a layer that was read to its place; it stays in `unrecorded` until `placed`.

        The caller holds the image lock until it is recorded, and the parent is in place.
        """
        parent_chain_id = None if parent is None else await parent.chain_id()
        chain_id = (
            ChainId(sealed.diff_id)
            if parent_chain_id is None
            else ChainId(digest_of(f"{parent_chain_id} {sealed.diff_id}".encode()))
        )
        target = layer_directory(self._config, chain_id)
        replaceable = await self._mender.replaceable((chain_id,))
        async with self.places.moving():
            self.unrecorded.add(chain_id)
            await asyncio.to_thread(
                self._mender.place, layer.directory, target, is_replaced=chain_id in replaceable
            )
            layer.directory = target
        await asyncio.to_thread(_remove_draft, draft)
        layer.size_bytes = sealed.size_bytes
        layer.entry_count = sealed.entry_count
        layer.diff_id = DiffId(sealed.diff_id)
        record = LayerRecord(
            chain_id=chain_id,
            diff_id=DiffId(sealed.diff_id),
            parent_chain_id=parent_chain_id,
            size_bytes=sealed.size_bytes,
            entry_count=sealed.entry_count,
        )
        if replaceable:
            await self._mender.mended((record,))
        return record

    def placed(self, layer: BuildLayer, chain_id: ChainId) -> None:
        """Say that a layer is recorded."""
        self.unrecorded.discard(chain_id)
        layer.place(chain_id)

    # --- the process --------------------------------------------------------------------------

    async def run_job(
        self,
        job: str,
        arguments: bytes,
        *,
        descriptors: tuple[int, ...] = (),
        on_progress: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """As JobRunner, in the process that seals; nobody is told of progress."""
        del on_progress
        request = SealRequest(action="job", layer=-1, job=job, arguments=arguments)
        return await self._process.ask(request, None, descriptors)

    async def give_owners(self, owned: Sequence[OwnedPath]) -> tuple[str, ...]:
        """Give files to whom they belong; returns what cannot be, as sentences.

        Raises:
            SyscallError: One cannot be opened.
        """
        told = []
        for one in owned:
            descriptor = await open_in_thread(functools.partial(_open, one.path))
            try:
                owner = NewOwner(user_id=one.user_id, group_id=one.group_id)
                arguments = msgspec.json.encode(owner)
                given = await self.run_job("give-owner", arguments, descriptors=(descriptor,))
            finally:
                os.close(descriptor)
            if not msgspec.json.decode(given, type=bool):
                told.append(
                    f"{one.what}: this user has no ids {one.user_id}:{one.group_id}, "
                    "so root owns it"
                )
        return tuple(told)


def _make_draft(draft: LayerDraft, lower: str) -> bool:
    """Make the directories; True if their look must be made that of what is below. Blocking."""
    try:
        draft.directory.mkdir(mode=0o700)
        draft.layer_directory.mkdir(mode=0o700)
        draft.mount_point.mkdir(mode=0o700)
        for path in (draft.upper, draft.work):
            path.mkdir(mode=0o755)
            path.chmod(0o755)
        if not lower:
            return False
        status = os.stat(lower)
        look = (status.st_mode & 0o7777, status.st_uid, status.st_gid)
        return look != (0o755, os.geteuid(), os.getegid()) or bool(os.listxattr(lower))
    except OSError as error:
        raise engine_error(error, str(draft.directory)) from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SyscallError("open", error.errno or 0, str(path)) from error


def _remove_draft(draft: LayerDraft) -> None:
    """Remove what a step has left besides its layer, as far as it is empty; blocking.

    Most steps leave nothing else, and a process that removes everything would take longer than
    they do. Whatever stays goes with the claim of the staging area.
    """
    used = draft.work / "work"
    with contextlib.suppress(OSError):
        _remove_volatile_mark(used)
        for path in (
            draft.upper,
            draft.layer_directory,
            used,
            draft.work,
            draft.mount_point,
            draft.directory,
        ):
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()


def _remove_volatile_mark(work: Path) -> None:
    """Remove what says of a work directory that its overlay was never synced (ovl(5), volatile)."""
    mark = work / "incompat" / "volatile"
    with contextlib.suppress(FileNotFoundError):
        # The kernel makes them without permissions, which ordinary users need.
        for directory in (work, mark.parent, mark):
            directory.chmod(0o700)
        (mark / "dirty").unlink()
        mark.rmdir()
        mark.parent.rmdir()
