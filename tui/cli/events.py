"""`events`: what happened, and what happens, to images, containers, volumes and networks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tui.cli import output
from tui.cli.command import Command
from tui.cli.documents import document
from tui.cli.filters import EVENT_KEYS, Filters, event_filter
from tui.cli.foreground import timestamp
from tui.cli.options import Option
from tui.cli.template_functions import LabelMap
from tui.cli.templates import Template
from tui.cli.values import moment_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.api import EngineApi
    from engine.events import Event
    from tui.cli.documents import Document
    from tui.cli.options import Arguments


async def events(engine: EngineApi, arguments: Arguments) -> int:
    """Print events, until --until or an interrupt."""
    keeps = event_filter(Filters(arguments.texts("filter"), known=EVENT_KEYS, command="events"))
    lay_out = _layout(arguments.text("format"))
    batches = engine.follow_events(
        since_ns=moment_ns("--since", arguments.text("since")),
        until_ns=moment_ns("--until", arguments.text("until")),
    )
    async for batch in batches:
        for event in batch:
            if keeps(event):
                output.write_line(lay_out(event))
    return 0


def _layout(form: str | None) -> Callable[[Event], str]:
    if form is None:
        return _line
    if form == "json":
        return lambda event: json.dumps(event_document(event), separators=(",", ":"))
    template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
    return lambda event: template.render(event_document(event))


def _line(event: Event) -> str:
    facts = ", ".join(f"{key}={value}" for key, value in sorted(_attributes(event).items()))
    when = timestamp(event.time_ns).decode()
    return f"{when} {event.subject} {event.action} {event.subject_id} ({facts})"


def _attributes(event: Event) -> dict[str, str]:
    return {**dict(event.attributes), "name": event.name}


def event_document(event: Event) -> dict[str, Document]:
    """An event by Docker's names, with the engine's record behind them."""
    found: dict[str, Document] = {
        "Type": event.subject.value,
        "Action": event.action,
        "Actor": {"ID": event.subject_id, "Attributes": LabelMap(_attributes(event))},
        "ID": event.subject_id,
        "Status": event.action,
        "From": event.attribute("image") or "",
        "Scope": "local",
        "Time": event.time_ns // 1_000_000_000,
        "TimeNano": event.time_ns,
    }
    record = document(event)
    return {**found, **record} if isinstance(record, dict) else found


COMMANDS = (
    Command(
        "events",
        "",
        "Follow what happens to containers, images, volumes, networks, whoever does it.",
        events,
        (
            Option("since", "", "TIME", "Also what happened since: 10m, 2026-01-31T10:00:00"),
            Option("until", "", "TIME", "End then; a time that is past ends at once"),
            Option("filter", "f", "KEY=VALUE", f"Only these: {', '.join(EVENT_KEYS)}", True),
            Option("format", "", "FORMAT", "json, or a template such as '{{.Action}} {{.ID}}'"),
        ),
        only_looks=True,
    ),
)
