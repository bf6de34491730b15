"""`lamella fsck`: is everything in the store what its name says, and what can be done if not.

What is looked at is claimed first, so that nothing goes away meanwhile; nobody waits for a check,
and what comes after it has begun is not looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from engine.errors import EngineError, StoreError
from engine.images.image_checks import bring_again, check_image, image_label
from engine.images.layer_checks import LayerVerifier
from engine.late_dataclasses import dataclass
from engine.oci.digests import is_digest
from engine.operations import Progress
from engine.store.staging import holder_of
from engine.types import ProblemKind, StoreCheck, StoreProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from engine.config import EngineConfig
    from engine.images.collector import StoreCollector
    from engine.images.layer_checks import LayerFinding
    from engine.images.repairs import RepairOutcome, StoreRepairs
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.check_records import CheckedImage, CheckRecords, StoreRecords
    from engine.store.claims import ClaimRecords
    from engine.store.image_lock import ImageLock
    from engine.store.image_records import ImageRecords, LayerRecord
    from engine.types import ChainId

_PIECE_BYTES = 1 << 20
_PROGRESS_BYTES = 16 << 20
_REPAIR = "`lamella fsck --repair` "


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """The store at one moment."""

    records: StoreRecords
    orphan_layers: tuple[str, ...]
    orphan_blobs: tuple[str, ...]
    blobs: tuple[str, ...]


class StoreChecker:
    """Checks one store; used once."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        checks: CheckRecords,
        records: ImageRecords,
        claims: ClaimRecords,
        blobs: BlobStore,
        lock: ImageLock,
        collector: StoreCollector,
        runner: JobRunner,
        repairs: StoreRepairs | None,
        staging: Path,
        progress: ProgressListener,
    ) -> None:
        """Check, and repair if `repairs` are given; `staging` is a claim's directory."""
        self._config = config
        self._checks = checks
        self._records = records
        self._claims = claims
        self._blobs = blobs
        self._lock = lock
        self._collector = collector
        self._runner = runner
        self._repairs = repairs
        self._staging = staging
        self._progress = progress
        self._problems: list[StoreProblem] = []
        self._bad_blobs: set[str] = set()
        self._read_bytes = 0

    async def check(self) -> StoreCheck:
        """Look at everything; cancelling ends it, with what was repaired until then."""
        self._progress(Progress(step="Reading the database"))
        snapshot = await self._snapshot()
        images = snapshot.records.images
        for complaint in snapshot.records.complaints:
            self._found(
                ProblemKind.DATABASE,
                str(self._config.database_path),
                f"the database is damaged: {complaint}",
                remedy="save what you need, and begin with another store (`--root`)",
            )
        await self._check_blobs(snapshot)
        for image in images:
            await self._check_image(image)
        await self._check_layers(snapshot)
        self._check_containers(snapshot)
        await self._tell_orphans(snapshot)
        return StoreCheck(
            image_count=len(images),
            layer_count=len(snapshot.records.layers),
            blob_count=len(snapshot.blobs),
            read_bytes=self._read_bytes,
            problems=tuple(self._problems),
        )

    async def _snapshot(self) -> _Snapshot:
        # Alone for a moment: who adds an image has its layers in place before the record.
        async with self._lock.exclusive():
            records = await self._checks.read_all()
            needed = await self._records.blob_digests()
            known = await self._records.layer_chain_ids()
            blobs = await asyncio.to_thread(lambda: frozenset(self._blobs.digests()))
            orphans = await asyncio.to_thread(self._collector.unknown_layers, known)
            await self._claims.claim(
                holder_of(self._staging), {*known, *(digest for digest in blobs & needed)}
            )
        return _Snapshot(
            records=records,
            orphan_layers=tuple(sorted(path.name for path in orphans)),
            orphan_blobs=tuple(sorted(blobs - needed)),
            blobs=tuple(sorted(blobs & needed)),
        )

    # --- blobs --------------------------------------------------------------------------------

    async def _check_blobs(self, snapshot: _Snapshot) -> None:
        total = 0
        for digest in snapshot.blobs:
            total += await asyncio.to_thread(self._blobs.size_bytes, digest)
        done = 0
        for digest in snapshot.blobs:
            try:
                actual, size_bytes = await self._hash(digest, done, total)
            except StoreError:
                self._bad_blobs.add(digest)
                continue
            done += size_bytes
            if actual != digest:
                self._bad_blobs.add(digest)
        self._read_bytes += done
        users = _users_of_blobs(snapshot.records.images)
        documents = {
            digest
            for image in snapshot.records.images
            for digest in (image.record.image_id, image.record.manifest_digest)
        }
        present = set(snapshot.blobs)
        for digest, names in sorted(users.items()):
            if digest in present and digest not in self._bad_blobs:
                continue
            is_missing = digest not in present
            self._bad_blobs.add(digest)
            if digest in documents:
                continue  # told with its image
            await self._settle(
                StoreProblem(
                    kind=ProblemKind.BLOB,
                    subject=digest,
                    text=(
                        "a compressed layer is missing"
                        if is_missing
                        else "a compressed layer is damaged"
                    ),
                    image_names=names,
                    remedy=f"{_REPAIR}drops it: the layer itself stays, and a push packs it again",
                ),
                _dropping(digest),
            )

    async def _hash(self, digest: str, done: int, total: int) -> tuple[str, int]:
        """The digest that a blob has, and its size; the thread ends soon when this is cancelled."""
        loop = asyncio.get_running_loop()
        is_cancelled = threading.Event()

        def tell(size_bytes: int) -> None:
            step = Progress(
                step="Verifying blobs", done=done + size_bytes, total=total, unit="bytes"
            )
            loop.call_soon_threadsafe(self._progress, step)

        def hash_now() -> tuple[str, int]:
            hashed = hashlib.sha256()
            size_bytes = 0
            tell(0)
            try:
                with open(self._blobs.open(digest), "rb", buffering=0) as file:
                    while (piece := file.read(_PIECE_BYTES)) and not is_cancelled.is_set():
                        hashed.update(piece)
                        size_bytes += len(piece)
                        if size_bytes % _PROGRESS_BYTES == 0:
                            tell(size_bytes)
            except OSError as error:
                raise StoreError(f"blob {digest}: {error.strerror}") from error
            return f"sha256:{hashed.hexdigest()}", size_bytes

        try:
            return await asyncio.to_thread(hash_now)
        finally:
            is_cancelled.set()

    # --- images -------------------------------------------------------------------------------

    async def _check_image(self, image: CheckedImage) -> None:
        record = image.record
        label = image_label(image)
        if record.image_id in self._bad_blobs:
            await self._settle(
                StoreProblem(
                    kind=ProblemKind.BLOB,
                    subject=record.image_id,
                    text="the config document is missing or damaged",
                    image_names=(label,),
                    remedy=f"{_REPAIR}writes it again",
                ),
                lambda repairs: repairs.rewrite_config(record),
            )
        if record.manifest_digest in self._bad_blobs:
            await self._settle(
                StoreProblem(
                    kind=ProblemKind.BLOB,
                    subject=record.manifest_digest,
                    text="the manifest is missing or damaged",
                    image_names=(label,),
                    remedy=f"{_REPAIR}makes room for it; then {bring_again(label)}",
                ),
                lambda repairs: repairs.drop_manifest(record, label),
            )
            manifest = None
        else:
            manifest = await asyncio.to_thread(
                self._blobs.read, record.manifest_digest, maximum_bytes=1 << 24
            )
        for text in check_image(record, manifest):
            self._found(
                ProblemKind.IMAGE,
                record.image_id,
                text,
                names=(label,),
                remedy=f"`lamella rmi {label}`, then {bring_again(label)}",
            )

    # --- layers -------------------------------------------------------------------------------

    async def _check_layers(self, snapshot: _Snapshot) -> None:
        layers = snapshot.records.layers
        names = _users_of_layers(snapshot.records.images)
        verifier = LayerVerifier(config=self._config, runner=self._runner, progress=self._progress)
        async for layer, finding in verifier.verify(layers):
            self._read_bytes += finding.read_bytes
            await self._judge(layer, finding, snapshot, names.get(layer.chain_id, ()))

    async def _judge(
        self, layer: LayerRecord, finding: LayerFinding, snapshot: _Snapshot, names: tuple[str, ...]
    ) -> None:
        if not finding.difference_count:
            # Marked by an earlier check, and made again by somebody who was then killed.
            is_marked = layer.chain_id in snapshot.records.damaged_chain_ids
            if is_marked and self._repairs is not None:
                await self._repairs.note_whole(layer)
            return
        await self._settle(
            StoreProblem(
                kind=ProblemKind.LAYER,
                subject=layer.chain_id,
                text=(
                    "the layer is missing"
                    if finding.is_missing
                    else f"the layer is damaged: {finding.difference_count:,} difference"
                    f"{'s' * (finding.difference_count != 1)}"
                ),
                details=finding.differences,
                image_names=names,
                remedy=f"{_REPAIR}makes it again, or says what does",
            ),
            _making_again(layer, snapshot.records, frozenset(self._bad_blobs)),
        )

    # --- the rest -----------------------------------------------------------------------------

    def _check_containers(self, snapshot: _Snapshot) -> None:
        known = {layer.chain_id for layer in snapshot.records.layers}
        for container in snapshot.records.containers:
            if is_digest(container.chain_id) and container.chain_id not in known:
                self._found(
                    ProblemKind.CONTAINER,
                    container.container_id,
                    f"container {container.name} stands on a layer that has no record",
                    remedy=f"`lamella rm {container.name}`: it cannot be started",
                )

    async def _tell_orphans(self, snapshot: _Snapshot) -> None:
        orphans = [
            *((name, "a layer that no image has") for name in snapshot.orphan_layers),
            *((digest, "a blob that no image has") for digest in snapshot.orphan_blobs),
        ]
        if orphans and self._repairs is not None:
            await self._repairs.collect()
        for subject, text in orphans:
            is_repaired = self._repairs is not None
            remedy = "removed" if is_repaired else f"{_REPAIR}removes it"
            self._problems.append(
                StoreProblem(
                    kind=ProblemKind.ORPHAN,
                    subject=subject,
                    text=text,
                    is_repaired=is_repaired,
                    remedy=remedy,
                )
            )

    def _found(
        self,
        kind: ProblemKind,
        subject: str,
        text: str,
        *,
        names: tuple[str, ...] = (),
        remedy: str,
    ) -> None:
        self._problems.append(
            StoreProblem(kind=kind, subject=subject, text=text, image_names=names, remedy=remedy)
        )

    async def _settle(self, problem: StoreProblem, repair: _Repair) -> None:
        """Take note of a problem, and repair it if that was asked for."""
        if self._repairs is not None:
            try:
                outcome = await repair(self._repairs)
                problem = replace(problem, is_repaired=outcome.is_repaired, remedy=outcome.text)
            except EngineError as error:
                problem = replace(problem, remedy=f"could not be repaired: {error.message}")
        self._problems.append(problem)


_Repair: TypeAlias = "Callable[[StoreRepairs], Coroutine[object, object, RepairOutcome]]"


def _dropping(digest: str) -> _Repair:
    return lambda repairs: repairs.drop_layer_blob(digest)


def _making_again(layer: LayerRecord, records: StoreRecords, bad_blobs: frozenset[str]) -> _Repair:
    return lambda repairs: repairs.make_layer_again(layer, records, bad_blobs=bad_blobs)


def _users_of_blobs(images: Sequence[CheckedImage]) -> dict[str, tuple[str, ...]]:
    """Every blob that images need, with what the images are called."""
    users: dict[str, dict[str, None]] = {}
    for image in images:
        record = image.record
        kept = (part.blob_digest for part in record.layers if part.blob_digest is not None)
        for digest in (record.image_id, record.manifest_digest, *kept):
            users.setdefault(digest, {})[image_label(image)] = None
    return {digest: tuple(labels) for digest, labels in users.items()}


def _users_of_layers(images: Sequence[CheckedImage]) -> dict[ChainId, tuple[str, ...]]:
    users: dict[ChainId, dict[str, None]] = {}
    for image in images:
        for part in image.record.layers:
            users.setdefault(part.layer.chain_id, {})[image_label(image)] = None
    return {chain_id: tuple(labels) for chain_id, labels in users.items()}
