"""The images that a build stands on, copies from and takes layers of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from engine.build.cache_sources import CacheSources
from engine.build.graph import SCRATCH, SourceKind
from engine.build.images import BaseImage, read_base, scratch_base
from engine.build.layers import BuildLayer
from engine.build.parser import parse_trigger
from engine.errors import EngineError, ImageNotFoundError, InvalidInputError
from engine.types import BuildWarning

if TYPE_CHECKING:
    from engine.build.builder import BuildServices
    from engine.build.graph import BuildGraph
    from engine.build.layers import LayerStack
    from engine.images.building import BuildHold
    from engine.types import BuildRequest

_IMAGE_SCHEME = "docker-image://"


class BaseFinder:
    """Finds the images of one build; what it finds is kept for as long as the build lasts."""

    def __init__(self, services: BuildServices, request: BuildRequest, hold: BuildHold) -> None:
        """Find them for one build."""
        self._services = services
        self._request = request
        self._hold = hold

    async def find_bases(self, graph: BuildGraph, *, pulls: bool) -> dict[int, BaseImage]:
        """The image below each stage that stands on one, by the stage; triggers join the graph.

        Args:
            graph: Of the Dockerfile.
            pulls: A registry may be asked for what is not here.

        Raises:
            EngineError: One cannot be had.
            InvalidInputError: A stage stands on a named directory.
        """
        bases: dict[int, BaseImage] = {}
        images: dict[str, BaseImage] = {}
        while missing := [
            node
            for node in graph.nodes.values()
            if node.base.kind is not SourceKind.STAGE and node.number not in bases
        ]:
            for node in missing:
                name = self._image_name(node.base.name, node.base.kind)
                if name not in images:
                    images[name] = await self._find_base(name, pulls=pulls)
                bases[node.number] = images[name]
                config = images[name].document.config
                triggers = tuple(
                    parse_trigger(text, name=f"ONBUILD of {name}")
                    for text in (config.on_build if config else None) or ()
                )
                if triggers:
                    graph.set_triggers(node.number, triggers)
        return bases

    async def copied_images(self, graph: BuildGraph) -> dict[str, LayerStack]:
        """The layers of the images that `--from` names, by that name.

        Raises:
            EngineError: One cannot be had.
        """
        found: dict[str, LayerStack] = {}
        for node in graph.nodes.values():
            for source in node.sources.values():
                is_image = source.kind is SourceKind.IMAGE or self._names_image(source.name)
                if not is_image or source.name in found:
                    continue
                name = self._image_name(source.name, source.kind)
                base = await self._find_base(name, pulls=True)
                found[source.name] = self.stacks((base,))[base.name]
        return found

    async def cache_sources(self) -> tuple[CacheSources, list[BuildWarning]]:
        """What `--cache-from` names; whatever cannot be had is a warning."""
        images: list[BaseImage] = []
        warnings: list[BuildWarning] = []
        for name in self._request.cache_sources if self._request.uses_cache else ():
            try:
                image = await self._find_base(name, pulls=True, asks_registry=False)
            except EngineError as error:
                text = f"no layer of {name} can be taken: {error.message}"
                warnings.append(BuildWarning(rule="", text=text))
            else:
                images.append(image)
        return CacheSources(self._services.images.config, images), warnings

    def stacks(self, bases: tuple[BaseImage, ...]) -> dict[str, LayerStack]:
        """The layers of images, by their names."""
        return {
            base.name: tuple(
                BuildLayer.of_store(self._services.images.config, part.layer)
                for part in (base.record.layers if base.record else ())
            )
            for base in bases
        }

    async def _find_base(self, name: str, *, pulls: bool, asks_registry: bool = True) -> BaseImage:
        """An image, from its registry if it is not here.

        Args:
            name: As people write it.
            pulls: It may be asked for at all.
            asks_registry: It is asked even if the image is here, when the request says so.
        """
        if name == SCRATCH:
            return scratch_base()
        images = self._services.images
        record = None
        if not (self._request.pulls and pulls and asks_registry):
            record = await images.find(self._hold, name)
        if record is None and pulls:
            await self._services.pull(name)
            record = await images.find(self._hold, name)
        if record is None:
            raise ImageNotFoundError(name)
        return await asyncio.to_thread(read_base, name, record, images.blobs)

    def _image_name(self, name: str, kind: SourceKind) -> str:
        if kind is not SourceKind.CONTEXT:
            return name
        source = next(one.source for one in self._request.named_contexts if one.name == name)
        if source.startswith(_IMAGE_SCHEME):
            return source.removeprefix(_IMAGE_SCHEME)
        raise InvalidInputError(
            f"{name} is a directory, and a stage cannot stand on one",
            hint=f"--build-context {name}=docker-image://IMAGE names an image",
        )

    def _names_image(self, name: str) -> bool:
        return any(
            one.name == name and one.source.startswith(_IMAGE_SCHEME)
            for one in self._request.named_contexts
        )
