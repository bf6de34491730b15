"""The form that tells a registry who one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from engine.errors import EngineError
from engine.types import LoginResult
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, safe_text

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.bridge import Bridge

_FIELDS = (
    ("registry", "Registry", "docker.io; or HOST:PORT"),
    ("user", "User", ""),
    ("password", "Password", "or a token; it is not shown"),
)


class LoginScreen(Dialog[LoginResult]):
    """Asks for registry, user and password, and stays until the registry takes them."""

    BINDINGS = [
        Binding("down", "app.focus_next", show=False, id="login.next"),
        Binding("up", "app.focus_previous", show=False, id="login.previous"),
    ]

    def __init__(self, bridge: Bridge, *, registry: str = "", reason: str = "") -> None:
        """Ask who one is.

        Args:
            bridge: To the engine that asks the registry.
            registry: Which, if it is known.
            reason: Why it is asked for.
        """
        super().__init__("Log in")
        self._bridge = bridge
        self._registry = registry
        self._reason = reason
        self._is_asking = False

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter log in   tab next field   esc cancel "):
            if self._reason:
                yield Static(safe_text(self._reason), markup=False, classes="form-note")
            for name, label, placeholder in _FIELDS:
                with Horizontal(classes="form-row"):
                    yield Static(label, classes="form-label")
                    field = Input(
                        clean(self._registry, limit=300) if name == "registry" else "",
                        placeholder=placeholder,
                        password=name == "password",
                        id=f"field-{name}",
                        compact=True,
                    )
                    field.cursor_blink = False
                    yield field
            yield Static("", classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin in the first field that is empty."""
        self.query_one("#field-user" if self._registry else "#field-registry").focus()

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value

    def _say(self, text: str) -> None:
        self.query_one(".problem", Static).update(safe_text(text))

    def on_input_submitted(self) -> None:
        """Ask the registry; from a field before an empty one, go to that."""
        for name in ("user", "password"):
            if not self._value(name):
                self.query_one(f"#field-{name}", Input).focus()
                self._say(f"Which {name}?" if name == "user" else "Which password, or token?")
                return
        if not self._is_asking:
            self._is_asking = True
            self._say("Asking the registry ...")
            self.run_worker(self._log_in(), group="login", exit_on_error=False)

    async def _log_in(self) -> None:
        registry, user = self._value("registry").strip(), self._value("user").strip()
        password = self._value("password")
        try:
            result = await self._bridge.call(
                lambda engine: engine.log_in(registry, username=user, password=password)
            )
        except EngineError as error:
            self._say(clean(error.message, limit=400))
            field = self.query_one("#field-password", Input)
            field.value = ""
            field.focus()
        else:
            self.dismiss(result)
        finally:
            self._is_asking = False
