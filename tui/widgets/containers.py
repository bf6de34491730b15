"""The Containers pane: state by sign, colour and word, with processor and memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.cells import cell_len

from engine.types import ContainerId, ContainerStats, ContainerStatus, ContainerSummary
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.short_ports import port_texts, shortest
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_BESIDE_PORTS = 18
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


class ContainerList(RowList[ContainerSummary], inherit_bindings=False):
    """Every container of the store, or only those that run."""

    BINDINGS = [*bindings_of(Context.LISTS), *bindings_of(Context.CONTAINERS)]

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._figures: dict[ContainerId, tuple[str, str]] = {}
        self.shows_all = True
        self._longest_ports = 0

    def set_rows(self, rows: tuple[ContainerSummary, ...]) -> None:
        """Show other containers; ports get a column as soon as one has some."""
        self._longest_ports = max((len(_ports_text(row)) for row in rows), default=0)
        super().set_rows(rows)

    def names(self) -> dict[str, str]:
        """The name of every container by its id, whatever the filter shows."""
        return {row.container_id: row.name for row in self._all}

    def toggle_all(self) -> None:
        """Show all containers, or only those that run."""
        self.shows_all = not self.shows_all
        self._apply()

    def set_samples(self, samples: tuple[ContainerStats, ...]) -> None:
        """Show new figures; only rows whose text changed are drawn again."""
        changed = {}
        for sample in samples:
            figures = (
                formatting.percent(sample.cpu_percent),
                formatting.optional_size(sample.memory_bytes),
            )
            if self._figures.get(sample.container_id) != figures:
                self._figures[sample.container_id] = figures
                changed[sample.container_id] = figures
        if not changed:
            return
        self._strips.clear()
        for index, row in enumerate(self._rows):
            if row.container_id in changed:
                self._refresh_row(index)

    def visible_running(self) -> tuple[ContainerId, ...]:
        """The containers on screen that have something to measure."""
        top = self.scroll_offset.y
        return tuple(
            row.container_id
            for row in self._rows[top : top + max(1, self.size.height)]
            if row.status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
        )

    def _select_rows(self) -> Sequence[ContainerSummary]:
        rows = super()._select_rows()
        return rows if self.shows_all else [row for row in rows if row.status in _ALIVE]

    def row_key(self, row: ContainerSummary) -> str:
        """The id."""
        return row.container_id

    def row_filter_text(self, row: ContainerSummary) -> str:
        """Look in name, image, state, id, networks and ports."""
        facts = (row.name, row.image, row.status.value, row.health, row.container_id)
        return " ".join((*facts, *row.network_names, *port_texts(row.ports)))

    def row_cells(self, row: ContainerSummary, width: int) -> list[Cell]:
        """Draw sign, name, state, ports, processor and memory."""
        style = formatting.status_style(row.status, row.exit_code, row.health)
        # Names come first: memory, then processor, give way to them.
        figures_width = 8 + 8 if width >= 47 else 8 if width >= 36 else 0
        state_width = 15 if width < 60 else 20
        image_width = 22 if width >= 84 else 0
        # In a narrow pane they stand where a name leaves room; an image gives way to them.
        has_column = bool(self._longest_ports) and width >= 70
        if has_column and width < 104:
            image_width = 0
        room = width - 2 - (state_width + 1 + figures_width + image_width)
        ports_width = min(self._longest_ports + 1, room - _NAME_BESIDE_PORTS) if has_column else 0
        name_width = max(6, room - ports_width)
        is_alive = row.status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED)
        if figures_width and not is_alive and not image_width and not ports_width:
            # What does not run has no figures; its state has the room to be said in full.
            state_width, figures_width = state_width + figures_width, 0
        cells = [
            Cell(formatting.status_glyph(row.status, row.exit_code) + " ", style),
            *self._name_cells(row, name_width, has_column=bool(ports_width)),
            Cell(fit(formatting.short_status(row, now=time.time()), state_width) + " ", style),
        ]
        if ports_width:
            cells.append(Cell(fit(_ports_text(row), ports_width - 1) + " ", "accent"))
        if image_width:
            cells.append(Cell(fit(clean(row.image, limit=128), image_width - 1) + " ", "dim"))
        if figures_width:
            processor, memory = self._figures.get(row.container_id, ("", ""))
            cells.append(Cell(fit(processor if is_alive else "", 8, is_right_aligned=True)))
            if figures_width > 8:
                cells.append(Cell(fit(memory if is_alive else "", 8, is_right_aligned=True)))
        return cells

    def _name_cells(
        self, row: ContainerSummary, width: int, *, has_column: bool
    ) -> tuple[Cell, ...]:
        """The name; behind it the ports in their shortest form, where it leaves room for them."""
        name = clean(row.name, limit=128)
        ports = "" if has_column else shortest(row.ports)
        room = width - 2 - cell_len(name)
        if not ports or cell_len(ports) > room:
            return (Cell(fit(name, width - 1) + " ", "strong"),)
        return (
            Cell(name + " ", "strong"),
            Cell(fit(ports, room, is_right_aligned=True) + " ", "accent"),
        )


def _ports_text(row: ContainerSummary) -> str:
    return ", ".join(port_texts(row.ports))
