"""The events of the store: those of the last day, and live as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.content import Content

from engine.errors import EngineError
from engine.late_dataclasses import dataclass
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, PromptScreen
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

    from engine.events import Event
    from tui.bridge import Bridge

MAXIMUM_EVENTS = 10_000
_LOOK_BACK_SECONDS = 86_400
_KEYS = " / filter   esc close "
_NOTHING = "Nothing happened in the last day; what happens appears here"
_NOT_FOUND = "No event contains this; / asks for another text"
_STYLES = {
    "create": "accent",
    "start": "good",
    "unpause": "good",
    "health_status: healthy": "good",
    "pause": "warn",
    "kill": "warn",
    "stop": "warn",
    "restart": "warn",
    "oom": "bad",
    "health_status: unhealthy": "bad",
    "destroy": "dim",
    "delete": "dim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event, numbered as it came."""

    number: int
    event: Event


class EventList(RowList[EventRow], inherit_bindings=False):
    """Events, the newest first; the oldest give way when there are too many."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._count = 0

    def add(self, events: Iterable[Event]) -> None:
        """Put newer events on top; the cursor stays on its event."""
        added: list[EventRow] = []
        for event in events:
            self._count += 1
            added.append(EventRow(number=self._count, event=event))
        if added:
            self.set_rows((*reversed(added), *self._all)[:MAXIMUM_EVENTS])

    def row_key(self, row: EventRow) -> str:
        """The number."""
        return str(row.number)

    def row_filter_text(self, row: EventRow) -> str:
        """Look in everything that is known of it."""
        event = row.event
        return f"{event.subject} {event.action} {event.name} {event.subject_id} {_facts(event)}"

    def row_cells(self, row: EventRow, width: int) -> list[Cell]:
        """Draw time, subject, action, name and facts."""
        event = row.event
        style = _STYLES.get(event.action, "")
        if event.action == "die":
            style = "dim" if event.attribute("exitCode") == "0" else "bad"
        name = event.name or event.subject_id.removeprefix("sha256:")[:12]
        name_width = max(12, min(32, width - 50))
        return [
            Cell(_when(event.time_ns) + "  ", "dim"),
            Cell(fit(event.subject.value, 10)),
            Cell(fit(clean(event.action, limit=60), 16) + " ", style),
            Cell(fit(clean(name, limit=128), name_width) + " ", "strong"),
            Cell(clean(_facts(event), limit=300), "dim"),
        ]


def _when(time_ns: int) -> str:
    seconds = time_ns // 1_000_000_000
    is_of_today = time.time() - seconds < _LOOK_BACK_SECONDS / 2
    return time.strftime("%H:%M:%S" if is_of_today else "%d. %H:%M", time.localtime(seconds))


def _facts(event: Event) -> str:
    return " ".join(f"{key}={value}" for key, value in event.attributes)


class EventsScreen(Dialog[None]):
    """Shows what happened, and goes on while it is open."""

    BINDINGS = [
        Binding("q", "cancel", show=False, id="dialog.done"),
        Binding("slash", "filter", show=False, id="dialog.filter"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__("Events")
        self._bridge = bridge
        self.list = EventList(id="events")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        box = self.frame(keys=_KEYS)
        box.add_class("-events")
        with box:
            yield self.list

    def on_mount(self) -> None:
        """Follow until the screen is closed, which ends the worker."""
        self.list.set_empty_text(_NOTHING)
        self.list.focus()
        self.run_worker(self._follow(), group="follow", exit_on_error=False)

    async def _follow(self) -> None:
        since_ns = time.time_ns() - _LOOK_BACK_SECONDS * 1_000_000_000
        batches = self._bridge.stream(lambda engine: engine.follow_events(since_ns=since_ns))
        try:
            async for parts in batches:
                self.list.add(event for part in parts for event in part)
        except EngineError as error:
            hint = clean(error.hint, limit=200)
            self.list.set_empty_text(f"{clean(error.message, limit=200)}\n\n{hint}")

    def action_filter(self) -> None:
        """Ask for a text that events must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.list.set_filter(text)
                shown = f" only {clean(text, limit=40)}  " if text else ""
                box = self.query_one(".dialog-box")
                box.border_subtitle = Content(f"{shown}{_KEYS}").markup
                self.list.set_empty_text(_NOT_FOUND if text else _NOTHING)

        prompt = PromptScreen("Filter", "Only events that contain:", value=self.list.filter_text)
        self.app.push_screen(prompt, answered)
