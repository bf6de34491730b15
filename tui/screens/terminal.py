"""The screen of one open terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import SuspendNotSupported
from textual.screen import ModalScreen

from tui.keymap import Command, Context, bindings_of, commands_of
from tui.sanitise import clean
from tui.terminal.session import TerminalStatus
from tui.widgets.rows import Cell
from tui.widgets.status import KeyLine, OneLine
from tui.widgets.terminal_view import TerminalView

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events
    from textual.app import ComposeResult

    from tui.terminal.session import OpenTerminal

CHROME_ROWS = 2
"""Rows that are not the program's: what it is, and the keys."""
_CLOSING_KEYS = ("enter", "escape", "q", "space")


class TerminalScreen(ModalScreen[None], inherit_bindings=False):
    """Shows a terminal; leaving it answers, and what happens to the program is the caller's."""

    BINDINGS = [b for b in bindings_of(Context.TERMINAL) if b.action.startswith("screen.")]

    def __init__(self, terminal: OpenTerminal, keys_of: Callable[[Command], str]) -> None:
        super().__init__()
        self.terminal = terminal
        self._keys_of = keys_of
        self._is_handed_over = False
        self.header_line = OneLine(id="terminal-header")
        self.view = TerminalView(terminal, id="terminal")
        self.key_line = KeyLine(id="terminal-keys")

    @property
    def wants_mouse(self) -> bool:
        """Whether the program asked for the mouse."""
        return self.view.wants_mouse

    def compose(self) -> ComposeResult:
        """What it is, the screen, the keys."""
        yield self.header_line
        yield self.view
        yield self.key_line

    def on_mount(self) -> None:
        """Give the keys to the program."""
        leave = next(c for c in commands_of(Context.TERMINAL) if c.command_id == "terminal.leave")
        self.view.set_leave_keys(frozenset(self._keys_of(leave).split(",")))
        self.view.focus()
        self._show()

    @on(TerminalView.ModeChanged)
    def _show(self) -> None:
        terminal = self.terminal
        if terminal.status is TerminalStatus.LOST and terminal.error is not None:
            message = f"connection lost: {clean(terminal.error.message, limit=120)}"
            right = Cell(f"{message} ", "bad")
        elif terminal.status is TerminalStatus.ENDED:
            code = terminal.exit_code
            text = "ended" if code is None else f"ended with exit code {code}"
            right = Cell(f"{text} ", "good" if code == 0 else "warn")
        elif self.view.is_selecting:
            right = Cell("selecting ", "key")
        elif self.view.is_scrolled_back:
            lines = terminal.model.screen_line - self.view.top_line
            right = Cell(f"{lines} lines back ", "key")
        else:
            right = Cell(f"{terminal.status.value} ", "dim")
        left = [Cell(f" {terminal.container_name}", "strong"), Cell(f"  {terminal.label}")]
        if terminal.model.title:
            left.append(Cell(f"  {terminal.model.title}", "dim"))
        self.header_line.show_cells(tuple(left), (right,))
        self._show_keys()

    def _show_keys(self) -> None:
        terminal = self.terminal
        if terminal.is_over:
            hint = clean(terminal.error.hint, limit=80) if terminal.error else ""
            cells = [Cell(" enter", "key"), Cell(" close  ", "dim"), Cell(hint, "dim")]
            self.key_line.show_cells(tuple(cells))
            return
        leave, *others = commands_of(Context.TERMINAL)
        if self.view.is_scrolled_back:
            others = [c for c in commands_of(Context.HISTORY) if c.is_in_footer]
        self.key_line.show_commands(tuple(others), (leave,), self._keys_of)

    def on_key(self, event: events.Key) -> None:
        """Close when the program has ended."""
        if self.terminal.is_over and event.key in _CLOSING_KEYS:
            event.stop()
            event.prevent_default()
            self.dismiss()

    def action_leave(self) -> None:
        """Leave the terminal."""
        self.dismiss()

    def action_help(self) -> None:
        """Show the keys."""
        from tui.screens.dialogs import ReadingScreen
        from tui.screens.help import help_content

        contexts = (Context.TERMINAL, Context.HISTORY)
        self.app.push_screen(ReadingScreen("Keys", help_content(contexts, self._keys_of)))

    def action_full_screen(self) -> None:
        """Give the whole terminal to the program."""
        if not self._is_handed_over and not self.terminal.is_over:
            self._is_handed_over = True
            self.run_worker(self._hand_over(), group="hand-over", exit_on_error=False)

    async def _hand_over(self) -> None:
        from tui.terminal.handover import hand_over
        from tui.terminal.relay import RelayReason

        end = None
        try:
            # The batch keeps Textual from drawing: its writer has stopped, and would block.
            with self.app.suspend(), self.app.batch_update():
                end = await hand_over(self.terminal)
        except SuspendNotSupported:
            self.app.notify("This terminal cannot be handed over", severity="warning", markup=False)
        finally:
            self._is_handed_over = False
        if end is not None and end.reason is RelayReason.SIGNALLED:
            self.app.exit(return_code=end.exit_code or 1)
            return
        self.view.action_history_leave()
        self.view.fit()
        self.app.refresh(layout=True)
