"""The engine: `async with open_engine() as engine`.

It lives on one event loop. Containers outlive it: closing ends only its launcher and its tasks.
Any number of engines may be open over one store, in one process or in many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deferred import deferred_names

if TYPE_CHECKING:
    from engine.api.engine import Engine
    from engine.api.opening import open_engine
    from engine.interface import EngineApi, Session
else:
    # The launcher is started by `open_engine` before the engine itself is loaded.
    __getattr__ = deferred_names(
        __name__,
        {
            "engine.api.engine": ("Engine",),
            "engine.api.opening": ("open_engine",),
            "engine.interface": ("EngineApi", "Session"),
        },
    )

__all__ = ["Engine", "EngineApi", "Session", "open_engine"]
