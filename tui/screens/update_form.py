"""The form that changes limits and restart policy of a container that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from engine.types import ContainerUpdate, ResourceLimits, RestartPolicy
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, safe_text
from tui.screens.run_form import (
    FieldError,
    parse_memory,
    parse_process_limit,
    parse_processors,
)

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.types import ContainerDetails

_MEGABYTE = 1 << 20
_POLICIES = ("no", "always", "unless-stopped", "on-failure")
_FIELDS = (
    ("memory", "Memory", "no limit; 512m, 1g"),
    ("processors", "Processors", "no limit; 0.5, 2"),
    ("pids", "Processes", "no limit; 200"),
    ("restart", "Restart", "no, always, unless-stopped, on-failure:5"),
)


def parse_restart(text: str) -> RestartPolicy:
    """Read `always` or `on-failure:5`; empty is `no`."""
    name, _, count = (text or "no").partition(":")
    is_count_fine = not count or (name == "on-failure" and count.isascii() and count.isdigit())
    if name not in _POLICIES or not is_count_fine:
        raise FieldError(
            "restart", "Restart: no, always, unless-stopped, on-failure or on-failure:5"
        )
    return RestartPolicy(name=name, maximum_retry_count=int(count or 0))


class UpdateScreen(Dialog[ContainerUpdate]):
    """Shows what a container has, and answers with what was changed."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Change", show=False, id="update.submit", priority=True),
        Binding("down", "app.focus_next", show=False, id="update.next"),
        Binding("up", "app.focus_previous", show=False, id="update.previous"),
    ]

    def __init__(self, details: ContainerDetails) -> None:
        super().__init__(f"Change {clean(details.summary.name, limit=64)}")
        limits = details.limits
        memory, processors, pids = limits.memory_bytes, limits.cpu_count, limits.pids
        self._before = {
            "memory": "" if memory is None else _size(memory),
            "processors": "" if processors is None else f"{processors:g}",
            "pids": "" if pids is None else str(pids),
            "restart": str(details.restart_policy),
        }

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter change   tab next field   esc cancel "):
            for name, label, placeholder in _FIELDS:
                with Horizontal(classes="form-row"):
                    yield Static(label, classes="form-label")
                    field = Input(
                        self._before[name],
                        placeholder=placeholder,
                        id=f"field-{name}",
                        compact=True,
                    )
                    field.cursor_blink = False
                    yield field
            yield Static("An empty field takes its limit away.", markup=False)
            yield Static("", classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin in the first field."""
        self.query_one("#field-memory").focus()

    def on_input_submitted(self) -> None:
        """Change from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Answer with what was changed if every field makes sense."""
        try:
            update = self._update()
        except FieldError as error:
            self.query_one(".problem", Static).update(safe_text(str(error)))
            self.query_one(f"#field-{error.field}").focus()
            return
        self.dismiss(None if update == ContainerUpdate() else update)

    def _changed(self, name: str) -> str | None:
        value = self.query_one(f"#field-{name}", Input).value.strip()
        return None if value == self._before[name] else value

    def _update(self) -> ContainerUpdate:
        memory, processors = self._changed("memory"), self._changed("processors")
        pids, restart = self._changed("pids"), self._changed("restart")
        return ContainerUpdate(
            limits=ResourceLimits(
                memory_bytes=None if memory is None else parse_memory(memory) or 0,
                cpu_count=None if processors is None else parse_processors(processors) or 0,
                pids=None if pids is None else parse_process_limit(pids) or 0,
            ),
            restart_policy=None if restart is None else parse_restart(restart),
        )


def _size(size_bytes: int) -> str:
    """As the form takes it: in whole megabytes where that is exact."""
    return f"{size_bytes // _MEGABYTE}m" if size_bytes % _MEGABYTE == 0 else str(size_bytes)
