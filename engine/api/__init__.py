"""The engine: `async with open_engine() as engine`.

It lives on one event loop. Containers outlive it: closing ends only its launcher and its tasks.
Any number of engines may be open over one store, in one process or in many.
"""

from __future__ import annotations

from engine.api.engine import Engine, open_engine
from engine.interface import EngineApi, Session

__all__ = ["Engine", "EngineApi", "Session", "open_engine"]
