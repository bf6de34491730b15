"""This engine, as one builder beside others."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from engine.api import open_engine
from engine.errors import EngineError
from engine.types import BuildRequest
from tests.integration.build.image_contents import ImageContents, read_archives

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi
    from tests.dockerfile_cases import Case
    from tests.integration.build.base_images import BaseImages
    from tests.integration.build.other_builders import Outcomes


async def build_all(cases: list[Case], top: Path, bases: BaseImages, *, network: str) -> Outcomes:
    """What this engine makes of cases, in a store that the caller removes."""
    bases.write(top / "bases.tar")
    async with open_engine(root=top / "root", run=top / "run") as engine:
        await engine.load_images(top / "bases.tar")
        errors = {case.name: await _build(engine, case, top, network) for case in cases}
        made = [f"localhost/{name}:latest" for name, error in errors.items() if error is None]
        images: dict[str, ImageContents] = {}
        if made:
            await engine.save_images(made, top / "images.tar")
            images = read_archives(top / "images.tar")
    return {name: error or images[f"localhost/{name}:latest"] for name, error in errors.items()}


async def _build(engine: EngineApi, case: Case, top: Path, network: str) -> str | None:
    """Keep the image by the case's name, or return the error."""
    context = top / "context"
    case.write_context(context)
    pairs = (argument.partition("=") for argument in case.build_arguments)
    request = BuildRequest(
        context=context,
        names=(f"localhost/{case.name}",),
        target=case.target,
        arguments=tuple((name, value) for name, _equals, value in pairs),
        network=network,
    )
    try:
        await engine.build_image(request)
    except EngineError as error:
        return error.message
    finally:
        shutil.rmtree(context)
    return None
