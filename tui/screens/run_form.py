"""The form that runs a container, and what makes a request of its fields."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Checkbox, Input, Static, TextArea

from engine.errors import InvalidInputError
from engine.types import AttachmentRequest, ContainerRequest, NetworkOptions, ResourceLimits
from tui.cli.network_options import published_ports
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, safe_text

if TYPE_CHECKING:
    from textual.app import ComposeResult


class FieldError(ValueError):
    """A field holds something that makes no sense; the text says what is expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")  # Docker's rule for container names
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)\s*([bkmg]?)(?:i?b)?$", re.IGNORECASE)
_MEMORY_FACTORS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_MINIMUM_MEMORY_BYTES = 6 * 1024 * 1024  # Docker refuses less as well


def parse_memory(text: str) -> int | None:
    """Read `512m`, `1g`, `1073741824`; empty is no limit."""
    if not text:
        return None
    match = _MEMORY.match(text)
    if match is None:
        raise FieldError("memory", "Memory: a number with k, m or g, such as 512m")
    value = int(float(match.group(1)) * _MEMORY_FACTORS[match.group(2).lower()])
    if value < _MINIMUM_MEMORY_BYTES:
        raise FieldError("memory", "Memory: at least 6m")
    return value


def parse_processors(text: str) -> float | None:
    """Read `1.5`; empty is no limit."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 4096:
        raise FieldError("processors", "Processors: a number from 0.01, such as 1.5")
    return value


def parse_process_limit(text: str) -> int | None:
    """Read a whole number; `none` is no limit, empty the engine's usual one."""
    if not text:
        return None
    if text.lower() in {"none", "-1"}:
        return -1
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise FieldError("pids", "Processes: a whole number from 1, such as 200, or none")
    return int(text)


def parse_command(text: str) -> tuple[str, ...]:
    """Split a command as a shell does, without running one."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise FieldError("command", f"Command: {str(error).lower()}") from None


def parse_environment(text: str) -> tuple[str, ...]:
    """Read one NAME=value a line."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    for line in lines:
        if "=" not in line or line.startswith("="):
            raise FieldError("environment", f"Environment: {line!r} is not NAME=value")
    return lines


_SHARED_MODES = ("host", "none")
_JOIN = "container:"


def parse_network(text: str, ports: str) -> NetworkOptions:
    """Read names of networks, or one of the modes that are none; and what `-p` takes.

    `all` among the ports publishes each that the image exposes.
    """
    words = tuple(text.replace(",", " ").split())
    modes = [word for word in words if word in _SHARED_MODES or word.startswith(_JOIN)]
    if _JOIN in modes:
        raise FieldError("network", "Network: container: and whose? container:web-1")
    if modes and len(words) > 1:
        raise FieldError("network", f"Network: with {modes[0]} there is no other network")
    port_words = ports.replace(",", " ").split()
    try:
        published = tuple(
            port for word in port_words if word != "all" for port in published_ports(word)
        )
    except InvalidInputError as error:
        raise FieldError("ports", f"Ports: {error.message}. {error.hint}") from None
    if modes and port_words:
        whose = "the host's" if modes == ["host"] else "not its own"
        whose = "none" if modes == ["none"] else whose
        raise FieldError("ports", f"Ports: with {modes[0]} its ports are {whose}; leave it empty")
    return NetworkOptions(
        mode=modes[0] if modes else "",
        attachments=() if modes else tuple(AttachmentRequest(network=word) for word in words),
        published_ports=published,
        publishes_all="all" in port_words,
    )


_FIELDS = (
    ("image", "Image", "name:tag or id"),
    ("name", "Name", "drawn when empty"),
    ("command", "Command", "the image's own when empty"),
    ("ports", "Ports", "8080:80, 127.0.0.1:53:53/udp; 80 draws one; all"),
    ("network", "Network", "bridge; your own, host, none, container:NAME"),
    ("memory", "Memory", "no limit; 512m, 1g"),
    ("processors", "Processors", "no limit; 0.5, 2"),
    ("pids", "Processes", "2048 when empty; 200, or none"),
    ("hostname", "Hostname", "the container's id when empty"),
    ("user", "User", "the image's own when empty"),
    ("directory", "Directory", "the image's own when empty"),
)


class Tick(Checkbox, inherit_bindings=False):
    """A checkbox whose state can be read without colour: `[x]` or `[ ]`.

    Only space changes it: in a form enter is for all of it.
    """

    BINDINGS = [Binding("space", "toggle_button", show=False, id="form.tick")]

    @property
    def _button(self) -> Content:
        return Content("[x]" if self.value else "[ ]")


class RunScreen(Dialog[ContainerRequest]):
    """Asks for everything that a new container needs; only the image is required."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Run", show=False, id="form.run", priority=True),
        Binding("enter", "submit", "Run", show=False, id="form.run_from_tick"),
        Binding("down", "app.focus_next", show=False, id="form.next"),
        Binding("up", "app.focus_previous", show=False, id="form.previous"),
    ]

    def __init__(self, image: str) -> None:
        super().__init__("Run a container")
        self._image = image

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter run   tab next field   space tick   esc cancel "):
            for name, label, placeholder in _FIELDS:
                with Horizontal(classes="form-row"):
                    yield Static(label, classes="form-label")
                    field = Input(
                        clean(self._image, limit=300) if name == "image" else "",
                        placeholder=placeholder,
                        id=f"field-{name}",
                        compact=True,
                    )
                    field.cursor_blink = False
                    yield field
                if name == "command":
                    with Horizontal(classes="form-row"):
                        yield Static("Terminal", classes="form-label")
                        yield Tick("open one to type in (-it)", id="with-terminal", compact=True)
            with Horizontal(classes="form-block"):
                yield Static("Environment\nNAME=value", classes="form-label")
                area = TextArea(id="environment", tab_behavior="focus", compact=True)
                area.cursor_blink = False
                yield area
            with Horizontal(classes="form-row"):
                yield Static("Options", classes="form-label")
                yield Tick("read-only root", id="read-only", compact=True)
                yield Tick("remove when it ends", id="remove", compact=True)
            yield Static("", classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin in the name: the image is filled in."""
        self.query_one("#field-name" if self._image else "#field-image").focus()

    def on_input_submitted(self) -> None:
        """Run from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Answer with the request if every field makes sense."""
        try:
            request = self._request()
        except FieldError as error:
            self.query_one(".problem", Static).update(safe_text(str(error)))
            target = "#environment" if error.field == "environment" else f"#field-{error.field}"
            self.query_one(target).focus()
            return
        self.dismiss(request)

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value.strip()

    def _request(self) -> ContainerRequest:
        image, name = self._value("image"), self._value("name")
        if not image:
            raise FieldError("image", "Image: which image should it be made of?")
        if name and not _NAME.match(name):
            raise FieldError("name", "Name: letters, digits, _ . - and at least two of them")
        has_terminal = self.query_one("#with-terminal", Checkbox).value
        return ContainerRequest(
            image=image,
            name=name or None,
            command=parse_command(self._value("command")),
            environment=parse_environment(self.query_one("#environment", TextArea).text),
            working_directory=self._value("directory") or None,
            user=self._value("user") or None,
            hostname=self._value("hostname") or None,
            limits=ResourceLimits(
                memory_bytes=parse_memory(self._value("memory")),
                cpu_count=parse_processors(self._value("processors")),
                pids=parse_process_limit(self._value("pids")),
            ),
            is_read_only=self.query_one("#read-only", Checkbox).value,
            is_removed_on_exit=self.query_one("#remove", Checkbox).value,
            has_terminal=has_terminal,
            is_stdin_open=has_terminal,
            network=parse_network(self._value("network"), self._value("ports")),
        )
