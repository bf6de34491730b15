"""The engine's face: what the application and the command line call.

`engine.api.Engine` is the real one; `tests/fakes.py` has one that answers from memory. Every
coroutine may raise `engine.errors.EngineError`. Where a docstring says nothing else, cancelling
a call leaves either the old state or the new one, never something between.

A `reference` is what a person types: a container's name, id or the beginning of its id; an
image's name with or without tag, its digest, its id or the beginning of its id.
"""

from __future__ import annotations

from typing import Protocol

from engine.interface.archives import ArchiveApi
from engine.interface.builds import BuildApi
from engine.interface.catalogs import CatalogApi
from engine.interface.containers import ContainerApi
from engine.interface.copies import CopyApi
from engine.interface.images import ImageApi
from engine.interface.lifecycle import LifecycleApi
from engine.interface.networks import NetworkApi
from engine.interface.registry import RegistryApi
from engine.interface.sessions import Session, SessionApi
from engine.interface.system import SystemApi
from engine.interface.volumes import VolumeApi

__all__ = [
    "ArchiveApi",
    "BuildApi",
    "CatalogApi",
    "ContainerApi",
    "CopyApi",
    "EngineApi",
    "ImageApi",
    "LifecycleApi",
    "NetworkApi",
    "RegistryApi",
    "Session",
    "SessionApi",
    "SystemApi",
    "VolumeApi",
]


class EngineApi(
    ImageApi,
    RegistryApi,
    CatalogApi,
    ArchiveApi,
    BuildApi,
    ContainerApi,
    SessionApi,
    CopyApi,
    LifecycleApi,
    VolumeApi,
    NetworkApi,
    SystemApi,
    Protocol,
):
    """Everything that can be asked of an engine."""
