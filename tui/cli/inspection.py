"""`inspect` and `info`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engine.errors import EngineError, NotFoundError
from tui.cli import output
from tui.cli.command import Command
from tui.cli.dispatch import report
from tui.cli.documents import Document, indented, line
from tui.cli.images import wants_json
from tui.cli.inspect_documents import container_document, image_document
from tui.cli.options import Option, UsageError
from tui.cli.table import VERSION
from tui.cli.templates import Template

if TYPE_CHECKING:
    from engine.api import EngineApi
    from tui.cli.options import Arguments


class _NothingFoundError(NotFoundError):
    def __init__(self, reference: str) -> None:
        super().__init__(
            f"No such image or container: {reference}",
            hint="`lamella ps -a` and `lamella images` list what is here",
        )


async def inspect(engine: EngineApi, arguments: Arguments) -> int:
    """Print what is known of images and containers, as one JSON list or as a template has it."""
    kind = arguments.text("type") or ""
    if kind not in ("", "image", "container"):
        raise UsageError(f"unknown type: {kind}, image or container", command="inspect")
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


async def _inspect_one(engine: EngineApi, reference: str, kind: str) -> Document:
    if kind != "image":
        try:
            return container_document(await engine.inspect_container(reference))
        except NotFoundError:
            if kind == "container":
                raise
    try:
        return image_document(await engine.inspect_image(reference))
    except NotFoundError:
        if kind == "image":
            raise
        raise _NothingFoundError(reference) from None


async def info(engine: EngineApi, arguments: Arguments) -> int:
    """Print what the host gives, and for what it does not give what to do."""
    host = engine.host
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
        "Show everything about images or containers, as JSON.",
        inspect,
        (
            Option("type", "", "image|container", "Look for these only"),
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
