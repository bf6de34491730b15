"""How an engine is opened: its launcher first, as both take their time to load."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.config import EngineConfig
from engine.errors import EngineError
from engine.runtime.launcher_process import LauncherProcess

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from engine.api.engine import Engine


def open_engine(
    *, root: Path | None = None, run: Path | None = None, only_looks: bool = False
) -> AbstractAsyncContextManager[Engine]:
    """Open an engine over the store that arguments, environment or defaults name.

    What it needs loads within this call, its launcher beside it; the rest happens on entering.

    Args:
        root: The store's directory.
        run: The directory of what does not outlive the host.
        only_looks: The launcher is started when something needs it, and not ahead.

    Raises:
        InvalidInputError: A path is relative, and the working directory was removed.
        StoreError: The store cannot be used; the hint says what to do.
        FeatureUnavailableError: The host lacks what nothing works without.
    """
    config = EngineConfig.load(root=root, run=run)
    launcher = None
    if not only_looks:
        # Whatever keeps it from starting is told to who needs it: it is tried again then.
        with contextlib.suppress(EngineError):
            launcher = LauncherProcess.spawn()
    from engine.api.engine import Engine

    return Engine.open(config, launcher, only_looks=only_looks)
