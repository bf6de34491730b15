"""Lamella's engine: images, layers and containers without a daemon.

The public names are loaded when they are first used: the launcher and its children import this
package too, and must stay small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deferred import deferred_names

if TYPE_CHECKING:
    from engine.api import Engine, EngineApi, open_engine
    from engine.config import EngineConfig
    from engine.errors import EngineError
    from engine.events import Event, EventsDropped
else:
    __getattr__ = deferred_names(
        __name__,
        {
            "engine.api": ("Engine", "EngineApi", "open_engine"),
            "engine.config": ("EngineConfig",),
            "engine.errors": ("EngineError",),
            "engine.events": ("Event", "EventsDropped"),
        },
    )

__all__ = [
    "Engine",
    "EngineApi",
    "EngineConfig",
    "EngineError",
    "Event",
    "EventsDropped",
    "open_engine",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
