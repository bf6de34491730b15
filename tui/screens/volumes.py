"""The volumes of the store: who uses them, how large they are; made, read and removed here."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import EngineError
from tui import format as formatting
from tui.keymap import Context, commands_of, display_keys
from tui.messages import EngineOpened, VolumesTouched
from tui.sanitise import clean
from tui.screens.dialogs import (
    Choice,
    ChoiceScreen,
    ConfirmScreen,
    Dialog,
    PromptScreen,
    ReadingScreen,
)
from tui.screens.help import help_content
from tui.widgets.volumes import VolumeList, VolumeRow, volume_label

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from engine.api import EngineApi
    from engine.types import VolumeSummary
    from tui.messages import EngineState
    from tui.screens.tools import ToolScreen

_MOST_NAMES = 8


class VolumesScreen(Dialog[None]):
    """Every volume; what happens to them elsewhere shows at once."""

    def __init__(self, operations: ToolScreen) -> None:
        """Show the volumes.

        Args:
            operations: Runs what changes something, with progress and answers.
        """
        super().__init__("Volumes")
        self._operations = operations
        self._volumes: tuple[VolumeSummary, ...] = ()
        self._sizes: dict[str, int] = {}
        self._wanted_row = ""
        self.list = VolumeList(id="volumes")

    def compose(self) -> ComposeResult:
        """Lay the box out."""
        keys = (
            f"{display_keys(self._operations.keys_of(command)).split(' ')[0]} {command.label}"
            for command in commands_of(Context.VOLUMES)
            if command.is_in_footer
        )
        box = self.frame(keys=f" {'  '.join(keys)}  esc close ")
        box.add_class("-list")
        with box:
            yield self.list

    def on_mount(self) -> None:
        """Read the list."""
        self.list.set_empty_text("Reading the volumes ...")
        self.list.focus()
        self.reload()

    # --- what is shown ------------------------------------------------------------------------

    def follow(self, state: EngineState) -> None:
        """Read the list afresh when it may have changed."""
        if isinstance(state, VolumesTouched | EngineOpened):
            self.reload()

    def reload(self) -> None:
        """Read the list afresh, then measure what has no size yet."""
        self.run_worker(self._load(), group="volumes", exclusive=True, exit_on_error=False)

    async def _load(self) -> None:
        bridge = self._operations.bridge
        try:
            self._volumes = await bridge.call(lambda engine: engine.list_volumes())
        except EngineError as error:
            hint = clean(error.hint, limit=200)
            self.list.set_empty_text(f"{clean(error.message, limit=300)}\n\n{hint}")
            return
        self._show()
        for volume in self._volumes:
            if volume.name in self._sizes:
                continue
            name = volume.name
            try:
                size_bytes = await bridge.call(partial(_measured, name))
            except EngineError:
                continue  # removed meanwhile: its event reads the list again
            self._sizes[name] = size_bytes
            self._show()

    def _show(self) -> None:
        self.list.set_rows(
            tuple(
                VolumeRow(volume=volume, size_bytes=self._sizes.get(volume.name))
                for volume in self._volumes
            )
        )
        if self._wanted_row and self.list.move_to_key(self._wanted_row):
            self._wanted_row = ""
        self._show_about()

    def _show_about(self) -> None:
        if self.list.filter_text:
            self.list.set_empty_text("Nothing passes the filter; / then enter clears it")
        else:
            self.list.set_empty_text(
                "No volumes here yet\n\n"
                "c  makes one                              \n"
                "`lamella run -v NAME:/PATH` makes one, too"
            )
        count = f"{len(self.list.rows)} of " if self.list.filter_text else ""
        total = formatting.size(sum(self._sizes.get(one.name, 0) for one in self._volumes))
        title = f"Volumes  {count}{len(self._volumes)}  {total}"
        if self.list.filter_text:
            title += f"  filter: {clean(self.list.filter_text, limit=40)}"
        self.query_one(".dialog-box").border_title = Content(title).markup

    # --- actions ------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the keys of this screen."""
        contexts = (Context.VOLUMES, Context.LISTS)
        content = help_content(contexts, self._operations.keys_of)
        self.app.push_screen(ReadingScreen("Keys", content))

    def action_filter_volumes(self) -> None:
        """Ask for a text that rows must contain."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.list.set_filter(text)
                self._show_about()

        prompt = PromptScreen("Filter", "Only volumes with:", value=self.list.filter_text)
        self.app.push_screen(prompt, answered)

    def action_refresh_volumes(self) -> None:
        """Read and measure everything afresh."""
        self._sizes.clear()
        self.reload()

    def action_create_volume(self) -> None:
        """Ask for a name and make a volume."""

        def made(name: str) -> None:
            self._wanted_row = name
            self._show()

        create_volume(self._operations, made=made)

    def action_prune_volumes(self) -> None:
        """Choose which of those that nobody uses are to go."""
        prune_volumes(self._operations)

    def action_inspect_volume(self) -> None:
        """Show everything about the volume."""
        row = self.list.current
        if row is None:
            self.app.bell()
            return
        self.app.push_screen(ReadingScreen(volume_label(row.volume), _about(row)))

    def action_remove_volume(self) -> None:
        """Confirm, saying what will be lost, then remove."""
        row = self.list.current
        if row is None:
            self.app.bell()
            return
        volume, name = row.volume, volume_label(row.volume)
        if volume.container_names:
            users = ", ".join(volume.container_names)
            self._operations.tell(
                f"{name} is used by {users}: remove that first (d in the containers)",
                is_warning=True,
            )
            return
        size_text = "" if row.size_bytes is None else f", {formatting.size(row.size_bytes)}"
        text = f"Its files will be lost{size_text}.\nNo container uses it."

        async def remove() -> None:
            done = await self._operations.operate(
                f"Removing {name}", lambda engine, _listen: _removed(engine, volume.name)
            )
            if done:
                self._operations.tell(f"Removed {name}")

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self._operations.run_task(lambda: remove(), group="operation")

        screen = ConfirmScreen(f"Remove the volume {name}?", text, verb="remove")
        self.app.push_screen(screen, answered)


def create_volume(operations: ToolScreen, *, made: Callable[[str], None]) -> None:
    """Ask for a name, make a volume, and hand its name on."""

    async def create(name: str) -> None:
        volume = await operations.operate(
            f"Making the volume {name}", lambda engine, _listen: engine.create_volume(name)
        )
        if volume is not None:
            made(volume.name)
            operations.tell(f"{volume.name} is ready: `lamella run -v {volume.name}:/PATH`")

    def answered(name: str | None) -> None:
        if name:
            operations.run_task(lambda: create(name), group="operation")

    def check(text: str) -> str:
        return "" if text else "Which name?"

    explanation = "Letters, digits, dots, hyphens and underscores, at least two."
    prompt = PromptScreen("Make a volume", explanation, validate=check)
    operations.app.push_screen(prompt, answered)


def prune_volumes(operations: ToolScreen) -> None:
    """Find what nobody uses, let one kind be chosen, confirm, remove."""
    operations.run_task(lambda: _offer_prune(operations), group="operation")


async def _offer_prune(operations: ToolScreen) -> None:
    unused = await operations.operate(
        "Looking for volumes that nobody uses", lambda engine, _listen: _unused(engine)
    )
    if unused is None:
        return
    if not unused:
        operations.tell("Every volume is used by a container: nothing to remove")
        return
    anonymous = tuple(volume for volume in unused if volume.is_anonymous)

    def answered(kind: str | None) -> None:
        if kind is not None:
            chosen = unused if kind == "all" else anonymous
            _confirm_prune(operations, chosen, includes_named=kind == "all")

    choices = [Choice(label=f"All {len(unused)} that nobody uses, also named ones", value="all")]
    if anonymous:
        text = f"The {len(anonymous)} anonymous ones that nobody uses"
        choices.insert(0, Choice(label=text, value="anonymous"))
    operations.app.push_screen(ChoiceScreen("Remove volumes", tuple(choices)), answered)


def _confirm_prune(
    operations: ToolScreen, chosen: tuple[VolumeSummary, ...], *, includes_named: bool
) -> None:
    names = [volume_label(volume) for volume in chosen[:_MOST_NAMES]]
    if len(chosen) > _MOST_NAMES:
        names.append(f"and {len(chosen) - _MOST_NAMES} more")
    text = "\n".join(("Their files will be lost:", "", *names))

    async def prune() -> None:
        pruned = await operations.operate(
            "Removing volumes",
            lambda engine, _listen: engine.prune_volumes(includes_named=includes_named),
        )
        if pruned is not None:
            freed = formatting.size(pruned.freed_bytes)
            operations.tell(f"Removed {len(pruned.names)} volumes, {freed} freed")

    def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
        if answer:
            operations.run_task(lambda: prune(), group="operation")

    title = f"Remove {len(chosen)} volumes?"
    operations.app.push_screen(ConfirmScreen(title, text, verb="remove"), answered)


async def _unused(engine: EngineApi) -> tuple[VolumeSummary, ...]:
    return tuple(volume for volume in await engine.list_volumes() if not volume.container_names)


async def _measured(name: str, engine: EngineApi) -> int:
    return await engine.measure_volume(name)


async def _removed(engine: EngineApi, name: str) -> bool:
    await engine.remove_volume(name)
    return True


def _about(row: VolumeRow) -> Content:
    volume = row.volume
    size_text = "not measured yet" if row.size_bytes is None else formatting.size(row.size_bytes)
    facts = [
        ("name", volume.name),
        ("kind", "anonymous, made for one container" if volume.is_anonymous else "named"),
        ("size", size_text),
        ("created", formatting.age(volume.created_at, now=time.time()) + " ago"),
        ("files", volume.mount_point),
        ("used by", ", ".join(volume.container_names) or "no container"),
        *(("label", f"{key}={value}" if value else key) for key, value in volume.labels),
    ]
    pieces: list[Content] = []
    for name, value in facts:
        pieces.append(Content.styled(f"{name:<9}", "$secondary"))
        pieces.append(Content(clean(value, limit=300) + "\n"))
    return Content.assemble(*pieces).rstrip()
