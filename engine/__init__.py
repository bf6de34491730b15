"""Lamella's engine: images, layers and containers without a daemon.

The public names are loaded when they are first used: the launcher and its children import this
package too, and must stay small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Engine, EngineApi, open_engine
    from engine.config import EngineConfig
    from engine.errors import EngineError
    from engine.events import Event, EventsDropped

__all__ = [
    "Engine",
    "EngineApi",
    "EngineConfig",
    "EngineError",
    "Event",
    "EventsDropped",
    "open_engine",
]

_MODULES = {
    "Engine": "engine.api",
    "EngineApi": "engine.api",
    "EngineConfig": "engine.config",
    "EngineError": "engine.errors",
    "Event": "engine.events",
    "EventsDropped": "engine.events",
    "open_engine": "engine.api",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
