"""`inspect` and `info`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import (
    AmbiguousReferenceError,
    EngineError,
    InvalidInputError,
    NotFoundError,
)
from tui.cli import output
from tui.cli.command import Command
from tui.cli.dispatch import report
from tui.cli.documents import Document, document, indented, line
from tui.cli.images import wants_json
from tui.cli.inspect_documents import container_document, image_document
from tui.cli.network_documents import network_document
from tui.cli.options import Option, UsageError
from tui.cli.table import VERSION
from tui.cli.templates import Template

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from engine.api import EngineApi
    from tui.cli.options import Arguments


class _NothingFoundError(NotFoundError):
    def __init__(self, reference: str) -> None:
        super().__init__(
            f"No such object: {reference}",
            hint="`lamella ps -a`, `images`, `network ls` and `volume ls` list what is here",
        )


async def _container(engine: EngineApi, reference: str) -> Document:
    return container_document(await engine.inspect_container(reference))


async def _image(engine: EngineApi, reference: str) -> Document:
    return image_document(await engine.inspect_image(reference))


async def _network(engine: EngineApi, reference: str) -> Document:
    return network_document(await engine.inspect_network(reference))


async def _volume(engine: EngineApi, reference: str) -> Document:
    return document(await engine.inspect_volume(reference))


_KINDS: Mapping[str, Callable[[EngineApi, str], Awaitable[Document]]] = {
    "container": _container,
    "image": _image,
    "network": _network,
    "volume": _volume,
}
"""In the order in which a name is looked for, which is Docker's."""


async def inspect(engine: EngineApi, arguments: Arguments) -> int:
    """Print what is known of things of any kind, as one JSON list or as a template has it."""
    kind = arguments.text("type")
    if kind is not None and kind not in _KINDS:
        raise UsageError(f"unknown type: {kind}, one of {', '.join(_KINDS)}", command="inspect")
    form = arguments.text("format")
    template = None if form is None or form == "json" else Template(form)
    documents: list[Document] = []
    exit_code = 0
    for reference in arguments.operands:
        try:
            found = await _inspect_one(engine, reference, kind)
            if template is not None:
                output.write_line(template.render(found))
            documents.append(found)
        except EngineError as error:
            report(error)
            exit_code = 1
    if template is None:
        output.write_text(indented(documents) if form is None else json.dumps(documents))
    return exit_code


async def _inspect_one(engine: EngineApi, reference: str, kind: str | None) -> Document:
    if kind is not None:
        return await _KINDS[kind](engine, reference)
    for look in _KINDS.values():
        try:
            return await look(engine, reference)
        except AmbiguousReferenceError:
            raise
        except (NotFoundError, InvalidInputError):
            continue  # What cannot be the name of an image may be that of a network.
    raise _NothingFoundError(reference)


async def info(engine: EngineApi, arguments: Arguments) -> int:
    """Print what the host gives, and for what it does not give what to do."""
    host = engine.host
    host = replace(host, features=(*host.features, *await engine.list_network_features()))
    if wants_json(arguments, "info"):
        output.write_line(line(host))
        return 0
    mode = "root" if host.is_root else "rootless"
    output.write_table(
        ("LAMELLA", VERSION),
        (
            ("mode", mode),
            ("kernel", f"{host.kernel_release} {host.architecture}"),
            ("cgroups", host.cgroup_mode),
            ("layers", host.snapshotter),
            ("user namespace", host.user_namespace),
        ),
    )
    output.write_line("")
    output.write_table(
        ("FEATURE", "HERE", "HOW"),
        [
            (feature.name, "yes" if feature.is_available else "no", feature.detail)
            for feature in host.features
        ],
    )
    for feature in host.warnings:
        output.write_line("")
        output.write_line(f"{feature.name}: {feature.remedy or feature.detail}")
    return 0


COMMANDS = (
    Command(
        "inspect",
        "NAME|ID [NAME|ID...]",
        "Show everything about containers, images, networks or volumes, as JSON.",
        inspect,
        (
            Option("type", "", "KIND", "Look for these only: container, image, network, volume"),
            Option("format", "f", "TEMPLATE", "json, or a template such as '{{.State.Status}}'"),
        ),
        (1, None),
        only_looks=True,
    ),
    Command(
        "info",
        "",
        "Show what this host gives, and what is missing with what to do about it.",
        info,
        (Option("format", "", "json", "Print JSON"),),
    ),
)
