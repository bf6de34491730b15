"""One check of the store, with everything that it takes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import StoreError
from engine.images.checking import StoreChecker
from engine.images.mending import LayerMender
from engine.images.repairs import StoreRepairs
from engine.operations import carry_through
from engine.store.check_records import CheckRecords
from engine.store.staging import holder_of

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.images.collector import StoreCollector
    from engine.operations import ProgressListener
    from engine.snapshots.base import JobRunner
    from engine.store.blobs import BlobStore
    from engine.store.claims import ClaimRecords
    from engine.store.database import Database
    from engine.store.image_lock import ImageLock
    from engine.store.image_records import ImageRecords
    from engine.store.staging import StagingArea
    from engine.types import StoreCheck


async def check_store(
    *,
    config: EngineConfig,
    database: Database,
    records: ImageRecords,
    claims: ClaimRecords,
    blobs: BlobStore,
    lock: ImageLock,
    collector: StoreCollector,
    runner: JobRunner,
    staging_area: StagingArea,
    uses_user_xattrs: bool,
    repairs: bool,
    progress: ProgressListener,
) -> StoreCheck:
    """As EngineApi.check_store."""
    checks = CheckRecords(database)
    async with staging_area.claim("check") as staging:
        repairer = StoreRepairs(
            config=config,
            checks=checks,
            blobs=blobs,
            lock=lock,
            mender=LayerMender(config=config, checks=checks),
            collector=collector,
            runner=runner,
            staging=staging,
            uses_user_xattrs=uses_user_xattrs,
        )
        checker = StoreChecker(
            config=config,
            checks=checks,
            records=records,
            claims=claims,
            blobs=blobs,
            lock=lock,
            collector=collector,
            runner=runner,
            repairs=repairer if repairs else None,
            staging=staging,
            progress=progress,
        )
        try:
            return await checker.check()
        finally:
            with contextlib.suppress(StoreError):
                await carry_through(claims.release(holder_of(staging)))
