"""Tabs that are lines of text in columns: inspect, stats, top, changes."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import ChangeKind, ContainerStats
from tui import format as formatting
from tui.keymap import Context, bindings_of
from tui.sanitise import clean, clean_lines
from tui.widgets.network_texts import connectivity_lines, network_lines
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.types import (
        ContainerDetails,
        ImageConfig,
        ImageDetails,
        LayerChange,
        LayerSummary,
        ProcessInfo,
        RemoteImage,
    )

HISTORY_SAMPLES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """One line: its number and its cells, clean."""

    number: int
    cells: tuple[Cell, ...]

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(cell.text for cell in self.cells)


class TextRows(RowList[TextRow], inherit_bindings=False):
    """Lines of text that can be walked, filtered and copied."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def show_lines(self, lines: list[tuple[Cell, ...]]) -> None:
        """Show other lines."""
        self.set_rows(tuple(TextRow(number=n, cells=cells) for n, cells in enumerate(lines)))

    def row_key(self, row: TextRow) -> str:
        """The line's number."""
        return str(row.number)

    def row_filter_text(self, row: TextRow) -> str:
        """The whole line."""
        return row.text

    def row_cells(self, row: TextRow, width: int) -> list[Cell]:
        """The line's cells; what is too long is cut."""
        del width
        return list(row.cells)


def _fact(label: str, value: str, style: str = "") -> tuple[Cell, ...]:
    return (Cell(fit(label, 18), "dim"), Cell(clean(value, limit=2000) or "-", style))


def _facts(label: str, values: tuple[str, ...]) -> list[tuple[Cell, ...]]:
    return [_fact(label if n == 0 else "", value) for n, value in enumerate(values or ("",))]


def _heading(text: str) -> tuple[Cell, ...]:
    return (Cell(text, "accent"),)


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def image_lines(details: ImageDetails, layer: LayerSummary | None) -> list[tuple[Cell, ...]]:
    """Everything about an image and the selected step of its history."""
    summary, config = details.summary, details.config
    lines: list[tuple[Cell, ...]] = []
    if layer is not None:
        lines += [
            _heading("Layer"),
            *_facts("Instruction", clean_lines(formatting.instruction(layer.created_by))),
            _fact("Created", _moment(layer.created_at)),
            _fact("Size", "no files" if layer.is_empty else formatting.size(layer.size_bytes)),
            _fact("Entries", str(layer.entry_count)),
            _fact("Diff id", layer.diff_id or ""),
            _fact("Chain id", layer.chain_id or ""),
        ]
        if layer.comment:
            lines.append(_fact("Comment", layer.comment))
        lines.append(())
    lines += [
        _heading("Image"),
        *_facts("Names", summary.names),
        _fact("Id", summary.image_id),
        _fact("Digest", details.digest),
        _fact("Created", _moment(summary.created_at)),
        _fact("Size", formatting.size(summary.size_bytes)),
        _fact("Platform", f"{details.operating_system}/{details.architecture}"),
        _fact("Author", details.author),
        _fact("Containers", str(summary.container_count)),
        *_config_lines(config, details.config_json),
    ]
    return lines


def remote_image_lines(image: RemoteImage) -> list[tuple[Cell, ...]]:
    """Everything about an image in a registry that its steps do not say."""
    return [
        _fact("Digest", image.digest),
        _fact("Image id", image.image_id),
        _fact("Created", _moment(image.created_at)),
        _fact("Author", image.author),
        *_config_lines(image.config, image.config_json),
    ]


def _config_lines(config: ImageConfig, config_json: str) -> list[tuple[Cell, ...]]:
    return [
        _fact("Entrypoint", " ".join(config.entrypoint)),
        _fact("Command", " ".join(config.command)),
        _fact("User", config.user),
        _fact("Directory", config.working_directory),
        *_facts("Environment", config.environment),
        *_facts("Labels", tuple(f"{name}={value}" for name, value in config.labels)),
        *_facts("Ports", config.exposed_ports),
        *_facts("Volumes", config.volumes),
        _fact("Stop signal", config.stop_signal),
        (),
        _heading("Config"),
        *((Cell(line),) for line in clean_lines(config_json)),
    ]


def container_lines(
    details: ContainerDetails, *, names: Mapping[str, str]
) -> list[tuple[Cell, ...]]:
    """Everything about a container.

    Args:
        details: What the engine says.
        names: Those of containers by id: it may share the network of one.
    """
    summary, limits = details.summary, details.limits
    state_style = formatting.status_style(summary.status, summary.exit_code)
    lines = [
        _heading("Container"),
        _fact("Name", summary.name, "strong"),
        _fact("Id", summary.container_id),
        _fact("State", summary.status.value, state_style),
        _fact("Exit code", "" if summary.exit_code is None else str(summary.exit_code)),
    ]
    if summary.error:
        lines.append(_fact("Error", summary.error, "bad"))
    lines += connectivity_lines(details, names=names)
    if summary.is_out_of_memory_killed:
        lines.append(_fact("Killed", "out of memory", "bad"))
    lines += _restart_lines(details)
    lines += _health_lines(details)
    lines += [
        _fact("Image", summary.image),
        _fact("Created", _moment(summary.created_at)),
        _fact("Started", _moment(summary.started_at)),
        _fact("Finished", _moment(summary.finished_at)),
        _fact("Process", "" if details.process_id is None else str(details.process_id)),
        _fact("Command", " ".join(details.arguments)),
        _fact("Directory", details.working_directory),
        _fact("User", details.user),
        _fact("Hostname", details.hostname),
        *_facts("Environment", details.environment),
        *_facts("Labels", tuple(f"{name}={value}" for name, value in details.labels)),
        *network_lines(details),
        (),
        _heading("Limits"),
        _fact(
            "Memory",
            "none" if limits.memory_bytes is None else formatting.size(limits.memory_bytes),
        ),
        _fact("Processors", "none" if limits.cpu_count is None else f"{limits.cpu_count:g}"),
        _fact("Processes", "none" if limits.pids is None else str(limits.pids)),
        _fact("Read-only", "yes" if details.is_read_only else "no"),
        _fact("Init", "yes" if details.has_init else "no"),
        _fact("Stop signal", details.stop_signal),
        _fact("Stop timeout", f"{details.stop_timeout_seconds:g} s"),
        (),
        _heading("On the host"),
        _fact("Root filesystem", details.snapshotter),
        _fact("Chain id", details.chain_id),
        _fact("Writable layer", details.writable_layer_path),
        _fact("Log", details.log_path),
        _fact("Cgroup", details.cgroup),
    ]
    lines += [(Cell("! ", "warn"), Cell(clean(warning))) for warning in details.warnings]
    return lines


def _restart_lines(details: ContainerDetails) -> list[tuple[Cell, ...]]:
    lines = [_fact("Restart", str(details.restart_policy))]
    if details.summary.restart_count:
        lines.append(_fact("Restarted", f"{details.summary.restart_count} times", "warn"))
    if details.next_start_at is not None:
        lines.append(_fact("Next start", _moment(details.next_start_at), "warn"))
    return lines


_HEALTH_STYLES = {"healthy": "good", "unhealthy": "bad"}


def _health_lines(details: ContainerDetails) -> list[tuple[Cell, ...]]:
    check, health = details.health_check, details.health
    if check is None:
        return []
    lines = []
    if health is not None:
        lines.append(_fact("Health", health.status, _HEALTH_STYLES.get(health.status, "warn")))
        if health.failing_streak:
            lines.append(_fact("Failures", f"{health.failing_streak} in a row", "bad"))
    lines.append(_fact("Health check", " ".join(check.command)))
    lines.append(
        _fact(
            "",
            f"every {check.interval_seconds:g} s, {check.timeout_seconds:g} s at most, "
            f"{check.retries} failures are unhealthy",
        )
    )
    for probe in reversed(health.probes if health is not None else ()):
        output = " ".join(clean_lines(probe.output)).strip()
        style = "bad" if probe.exit_code else "good"
        lines.append(_fact(_moment(probe.finished_at)[-8:], f"{probe.exit_code}  {output}", style))
    return lines


def process_lines(processes: tuple[ProcessInfo, ...]) -> list[tuple[Cell, ...]]:
    """The processes of a container, as `top` has them."""
    header = f"{'PID':>8} {'PARENT':>8} {'USER':<10} {'CPU':>7} {'MEMORY':>9} S COMMAND"
    lines: list[tuple[Cell, ...]] = [(Cell(header, "dim"),)]
    for process in processes:
        figures = (
            f"{process.process_id:>8} {process.parent_process_id:>8} "
            f"{fit(clean(process.user, limit=64), 10)} {process.cpu_percent:>5.1f} % "
            f"{formatting.size(process.resident_bytes):>9} {clean(process.state, limit=8):.1} "
        )
        lines.append((Cell(figures), Cell(clean(process.command, limit=1000), "strong")))
    return lines


_CHANGE_WORDS = {
    ChangeKind.ADDED: ("+ added    ", "good"),
    ChangeKind.MODIFIED: ("~ changed  ", "warn"),
    ChangeKind.REMOVED: ("- removed  ", "bad"),
    ChangeKind.UNCHANGED: ("  unchanged", "dim"),
}


def change_lines(changes: tuple[LayerChange, ...]) -> list[tuple[Cell, ...]]:
    """What the writable layer adds, changes and removes."""
    return [
        (Cell(*_CHANGE_WORDS[change.change]), Cell(" /" + clean(change.path, limit=1000)))
        for change in changes
    ]


class StatsHistory:
    """The last minute of one container's samples."""

    def __init__(self) -> None:
        self._samples: deque[ContainerStats] = deque(maxlen=HISTORY_SAMPLES)
        self._received: deque[float] = deque(maxlen=HISTORY_SAMPLES)
        self._sent: deque[float] = deque(maxlen=HISTORY_SAMPLES)
        """As above: bytes a second since the sample before."""
        self._newest_at = 0.0

    def add(self, sample: ContainerStats, *, now: float) -> None:
        """Take a sample in.

        Args:
            sample: The newest.
            now: Of a clock that goes evenly.
        """
        before = self._samples[-1] if self._samples else sample
        elapsed = now - self._newest_at if self._samples else 0.0
        for rates, count, earlier in (
            (self._received, sample.network_received_bytes, before.network_received_bytes),
            (self._sent, sample.network_sent_bytes, before.network_sent_bytes),
        ):
            # A container that was started anew counts from zero.
            rates.append(max(0, count - earlier) / elapsed if elapsed > 0 else 0.0)
        self._samples.append(sample)
        self._newest_at = now

    def lines(
        self, width: int, *, is_ascii: bool, network_names: tuple[str, ...] = ()
    ) -> list[tuple[Cell, ...]]:
        """Figures with a line of the last minute each."""
        if not self._samples:
            return []
        last = self._samples[-1]
        room = max(8, min(HISTORY_SAMPLES, width - 34))
        samples = tuple(self._samples)[-room:]
        processor = tuple(sample.cpu_percent or 0.0 for sample in samples)
        memory = tuple(float(sample.memory_bytes or 0) for sample in samples)
        ceiling = max(10.0, *processor)
        limit = last.memory_limit_bytes
        of_limit = "" if limit is None else f" / {formatting.size(limit)}"
        top_memory = float(limit) if limit else max(1.0, *memory) * 1.25
        spark = formatting.sparkline(processor, ceiling=ceiling, is_ascii=is_ascii)
        memory_spark = formatting.sparkline(memory, ceiling=top_memory, is_ascii=is_ascii)
        count = last.process_count
        return [
            (
                Cell(fit("Processor", 14), "dim"),
                Cell(fit(formatting.percent(last.cpu_percent), 20), "strong"),
                Cell(spark, "bar"),
            ),
            (
                Cell(fit("Memory", 14), "dim"),
                Cell(fit(formatting.optional_size(last.memory_bytes) + of_limit, 20), "strong"),
                Cell(memory_spark, "bar"),
            ),
            _fact_short("Processes", "-" if count is None else str(count)),
            *self._network_lines(last, room, network_names, is_ascii=is_ascii),
            _fact_short(
                "Disk",
                f"{formatting.optional_size(last.block_read_bytes)} read, "
                f"{formatting.optional_size(last.block_written_bytes)} written",
            ),
        ]

    def _network_lines(
        self, last: ContainerStats, room: int, network_names: tuple[str, ...], *, is_ascii: bool
    ) -> list[tuple[Cell, ...]]:
        """What comes in and what goes out, both against the same ceiling."""
        if network_names == ("none",):
            return [_fact_short("Network", "none")]
        received, sent = tuple(self._received)[-room:], tuple(self._sent)[-room:]
        ceiling = max(1000.0, *received, *sent)
        lines: list[tuple[Cell, ...]] = []
        for label, rates, total in (
            ("Received", received, last.network_received_bytes),
            ("Sent", sent, last.network_sent_bytes),
        ):
            figures = f"{formatting.size(int(rates[-1]))}/s, {formatting.size(total)}"
            spark = formatting.sparkline(rates, ceiling=ceiling, is_ascii=is_ascii)
            lines.append(
                (
                    Cell(fit(label, 14), "dim"),
                    Cell(fit(figures, 20), "strong"),
                    Cell(spark, "bar"),
                )
            )
        if "host" in network_names:
            lines.append(_fact_short("", "these are the whole host's, whose network it has"))
        return lines


def _fact_short(label: str, value: str) -> tuple[Cell, ...]:
    return (Cell(fit(label, 14), "dim"), Cell(value))
