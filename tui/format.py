"""How figures, times, modes and instructions read on screen. Pure functions."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

from engine.types import ContainerStatus, FileKind

if TYPE_CHECKING:
    from engine.types import ContainerSummary

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(size_bytes: int) -> str:
    """Write a size in decimal units with three significant digits: `80.2 MB`."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == "B":
        return f"{int(value)} B"
    return f"{value:.3g} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Write a length of time by its largest unit: `5 s`, `2 m`, `3 h`, `9 d`."""
    whole = max(0, int(seconds))
    for unit, length in (("y", 31_536_000), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def age(since: float | None, *, now: float) -> str:
    """Write how long ago something was; coarse below a minute, so that it stays as it is."""
    if since is None:
        return "-"
    seconds = now - since
    return "now" if seconds < 60 else duration(seconds)


def percent(value: float | None) -> str:
    """Write a percentage; a dash for what the host does not tell."""
    return "-" if value is None else f"{value:.1f} %"


def optional_size(size_bytes: int | None) -> str:
    """Write a size; a dash for what the host does not tell."""
    return "-" if size_bytes is None else size(size_bytes)


_KIND_LETTERS = {
    FileKind.FILE: "-",
    FileKind.DIRECTORY: "d",
    FileKind.SYMLINK: "l",
    FileKind.HARD_LINK: "-",
    FileKind.CHARACTER_DEVICE: "c",
    FileKind.BLOCK_DEVICE: "b",
    FileKind.FIFO: "p",
    FileKind.WHITEOUT: "-",
}


def mode(kind: FileKind, permissions: int) -> str:
    """Write kind and permissions as `ls -l` does: `drwxr-xr-x`."""
    return _KIND_LETTERS[kind] + stat.filemode(stat.S_IFREG | (permissions & 0o7777))[1:]


_NO_OPERATION = re.compile(r"^/bin/sh -c #\(nop\)\s*")
_SHELL = re.compile(r"^(?:RUN )?(?:\|\d+ (?:\S+=\S* )*)?/bin/sh -c\s+")
_BUILDKIT_NOTE = re.compile(r"\s+# buildkit$")
_BLANKS = re.compile(r"\s+")


def instruction(created_by: str) -> str:
    """Write a history step as its Dockerfile line.

    Docker's builder wraps steps in a shell: `/bin/sh -c #(nop) CMD ["sh"]` is `CMD ["sh"]` and
    `/bin/sh -c apt-get update` is `RUN apt-get update`.
    """
    text = _BUILDKIT_NOTE.sub("", _BLANKS.sub(" ", created_by.strip()))
    if _NO_OPERATION.match(text):
        return _NO_OPERATION.sub("", text)
    if _SHELL.match(text):
        return "RUN " + _SHELL.sub("", text, count=1)
    return text


def status_glyph(status: ContainerStatus, exit_code: int | None) -> str:
    """Give the one-cell sign of a container's state; a word always stands beside it."""
    match status:
        case ContainerStatus.RUNNING:
            return ">"
        case ContainerStatus.PAUSED:
            return "="
        case ContainerStatus.CREATED:
            return "+"
        case ContainerStatus.RESTARTING:
            return "~"
        case ContainerStatus.REMOVING:
            return "-"
        case ContainerStatus.EXITED:
            return "x" if exit_code else "."
        case ContainerStatus.DEAD:
            return "!"


def status_style(status: ContainerStatus, exit_code: int | None, health: str = "") -> str:
    """Name the component style of a container's state."""
    match status:
        case ContainerStatus.RUNNING:
            return {"unhealthy": "bad", "starting": "warn"}.get(health, "good")
        case ContainerStatus.PAUSED | ContainerStatus.RESTARTING | ContainerStatus.REMOVING:
            return "warn"
        case ContainerStatus.CREATED:
            return "accent"
        case ContainerStatus.EXITED:
            return "bad" if exit_code else "dim"
        case ContainerStatus.DEAD:
            return "bad"


def status(container: ContainerSummary, *, now: float) -> str:
    """Write a container's state in words: `Up 2 m (healthy)`, `Paused`, `Exited (0) 3 m`."""
    oom = " OOM" if container.is_out_of_memory_killed else ""
    match container.status:
        case ContainerStatus.RUNNING:
            since = container.started_at
            ago = "" if since is None or now - since < 60 else f" {duration(now - since)}"
            found = {"": "", "starting": " (health: starting)"}
            health = found.get(container.health, f" ({container.health})")
            return f"Up{ago}{health}{oom}"
        case ContainerStatus.EXITED:
            code = "?" if container.exit_code is None else str(container.exit_code)
            ended = container.finished_at
            ago = "" if ended is None or now - ended < 60 else f" {duration(now - ended)}"
            return f"Exited ({code}){oom}{ago}"
        case ContainerStatus.RESTARTING:
            code = "?" if container.exit_code is None else str(container.exit_code)
            return f"Restarting ({code}){oom}"
        case _:
            return container.status.value.capitalize()


def short_status(container: ContainerSummary, *, now: float) -> str:
    """Write the same where there is little room: `Healthy 2 m` says that it is up."""
    words = status(container, now=now)
    if container.status is not ContainerStatus.RUNNING or not container.health:
        return words
    return words.replace("Up", container.health.capitalize(), 1).partition(" (")[0]


def bar(part: int, whole: int, width: int, *, is_ascii: bool = False) -> str:
    """Draw a bar of `width` cells for part of whole; what is not zero is never invisible."""
    if whole <= 0 or part <= 0 or width <= 0:
        return " " * max(width, 0)
    if is_ascii:
        full = max(1, round(width * part / whole))
        return ("#" * min(full, width)).ljust(width)
    eighths = min(width * 8, max(1, round(width * 8 * part / whole)))
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width)


_SPARKS = "▁▂▃▄▅▆▇█"
_ASCII_SPARKS = "_.-=+*#@"


def sparkline(values: tuple[float, ...], *, ceiling: float, is_ascii: bool = False) -> str:
    """Draw one cell a value, between zero and `ceiling`."""
    levels = _ASCII_SPARKS if is_ascii else _SPARKS
    top = ceiling if ceiling > 0 else 1.0
    return "".join(levels[min(7, max(0, int(value / top * 7.999)))] for value in values)
