"""What the keys of images and containers do: ask, call the engine, say what came of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from engine.errors import AmbiguousReferenceError, EngineError, NotFoundError
from engine.types import ContainerRequest, ContainerStatus
from tui import format as formatting
from tui.screens.operations import WORKING
from tui.screens.paths import PathScreen
from tui.screens.store import StoreScreen

if TYPE_CHECKING:
    from engine.types import (
        ContainerSummary,
        ContainerUpdate,
        CreatedContainer,
        ImageSummary,
        TerminalSize,
    )
    from tui.bridge import Bridge
    from tui.widgets.containers import ContainerList
    from tui.widgets.images import ImageList, ImageRow

_ASKED_TO_END = "Its program was asked to end; after the stop timeout it is killed."
_RUNNING = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)


class ActionScreen(StoreScreen, PathScreen):
    """The actions; a subclass says what is selected."""

    images: ImageList
    containers: ContainerList

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._wanted_rows: dict[str, str] = {}

    def select_row(self, rows: ImageList | ContainerList, key: str) -> None:
        """Put the cursor on a row that is made just now, as soon as it is in the list."""
        if not rows.move_to_key(key) and rows.id is not None:
            self._wanted_rows[rows.id] = key

    def _select_wanted(self, rows: ImageList | ContainerList) -> None:
        key = self._wanted_rows.get(rows.id or "")
        if key is not None and rows.move_to_key(key):
            self._wanted_rows.pop(rows.id or "")

    def action_pane(self, name: str) -> None:
        """Go to a pane; the dashboard does."""
        raise NotImplementedError

    @property
    def selected_image(self) -> ImageRow | None:
        """The image that an action is about."""
        raise NotImplementedError

    @property
    def selected_container(self) -> ContainerSummary | None:
        """The container that an action is about."""
        raise NotImplementedError

    def chosen_container(self) -> ContainerSummary | None:
        """The selected container; without one the bell rings.

        Asked for once an action: when a question about it is answered, the cursor may be on
        another one.
        """
        container = self.selected_container
        if container is None:
            self.app.bell()
        return container

    # --- images -------------------------------------------------------------------------------

    def action_make_demo(self) -> None:
        """Make the demo."""

        async def make() -> None:
            started = await self.operate(
                "Making the demo", lambda engine, listen: engine.make_demo(progress=listen)
            )
            if started is not None:
                self.tell(f"The demo is ready: {len(started)} containers")

        self.run_task(lambda: make(), group="operation")

    def action_run_image(self) -> None:
        """Ask for what a container needs, then run it."""
        from tui.screens.run_form import RunScreen

        row = self.selected_image

        def answered(request: ContainerRequest | None) -> None:
            if request is not None:
                self.run_task(lambda: self._run(request), group="operation")

        self.app.push_screen(RunScreen(row.reference if row else ""), answered)

    async def _run(self, request: ContainerRequest) -> None:
        created = await self.operate(
            f"Creating a container of {request.image}",
            lambda engine, _listen: engine.create_container(request),
        )
        if created is None:
            return
        self._take_created(created)
        is_started = await self.operate(
            f"Starting {created.name}",
            lambda engine, _listen: _finished(start_new(engine, created.container_id, request)),
        )
        if is_started:
            where = "; 3 shows it" if self.has_class("-one-pane") else ""
            self.tell(f"Started {created.name}{where}")

    def _take_created(self, created: CreatedContainer) -> None:
        self.select_row(self.containers, created.container_id)
        for warning in created.warnings:
            self.tell(warning, is_warning=True)

    def action_tag_image(self) -> None:
        """Ask for another name; one that another image has moves after a second enter."""
        from tui.screens.dialogs import PromptScreen

        row = self.selected_image
        if row is None:
            self.app.bell()
            return
        reference, image_id = row.reference, row.image.image_id
        asked_about = ""

        async def tag(name: str) -> str:
            nonlocal asked_about
            try:
                holder = await self.bridge.call(lambda engine: holder_of(engine, name))
                if holder is not None and holder.image_id == image_id:
                    return f"{name} is a name of this image already"
                if holder is not None and asked_about != name:
                    asked_about = name
                    return about_moving(name, holder)
                known = await self.operate(
                    f"Tagging {reference} as {name}",
                    lambda engine, _listen: _tagged(engine, image_id, name),
                )
            except EngineError as error:
                return f"{error.message}\n{error.hint}".strip()
            if known is None:
                return "Cancelled"
            self.select_row(self.images, f"{image_id} {known}")
            self.tell(f"Tagged {reference} as {known}")
            return ""

        prompt = PromptScreen(
            "Tag",
            f"Another name for {reference}:",
            value=row.name,
            validate=lambda text: "" if text else "Which name?",
            act=tag,
        )
        self.app.push_screen(prompt)

    def action_remove_image(self) -> None:
        """Confirm, then remove a name, and the image with its last one."""
        from tui.screens.dialogs import ConfirmScreen

        row = self.selected_image
        if row is None:
            return
        image, reference = row.image, row.reference
        if len(image.names) > 1:
            text = f"The name {reference} goes; the image stays under its other names."
        else:
            text = (
                f"{reference} goes with its {image.layer_count} layers, as far as no other image "
                f"shares them: up to {formatting.size(image.size_bytes)}."
            )
        if image.container_count:
            text += f"\n{image.container_count} containers are made of it."

        async def remove() -> None:
            removed = await self.operate(
                f"Removing {reference}", lambda engine, _listen: engine.remove_image(reference)
            )
            if removed is not None:
                freed = formatting.size(removed.freed_bytes)
                self.tell(f"Removed {reference}, {freed} freed")

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.run_task(lambda: remove(), group="operation")

        self.app.push_screen(ConfirmScreen(f"Remove {reference}?", text, verb="remove"), answered)

    # --- containers ---------------------------------------------------------------------------

    def _on_container(
        self,
        container: ContainerSummary,
        title: str,
        done: str,
        call: ContainerCall,
        *,
        waits_for: str = WORKING,
        remark: str = "",
    ) -> None:
        identity, name = container.container_id, container.name

        async def run() -> None:
            result = await self.operate(
                f"{title} {name}",
                lambda engine, _listen: _finished(call(engine, identity)),
                waits_for=waits_for,
            )
            if result:
                self.tell(f"{done} {name}{remark}")

        self.run_task(lambda: run(), group="operation")

    def action_stop_or_start(self) -> None:
        """Stop the container if it runs, else start it."""
        container = self.chosen_container()
        if container is None:
            return
        if container.status in _RUNNING:
            self._on_container(
                container,
                "Stopping",
                "Stopped",
                lambda engine, identity: engine.stop_container(identity),
                waits_for=_ASKED_TO_END,
            )
        else:
            self._on_container(
                container,
                "Starting",
                "Started",
                lambda engine, identity: engine.start_container(identity),
                remark="; a opens its terminal" if container.has_terminal else "",
            )

    def action_pause_or_unpause(self) -> None:
        """Freeze the container, or let it go on."""
        container = self.chosen_container()
        if container is None:
            return
        if container.status is ContainerStatus.PAUSED:
            self._on_container(
                container,
                "Resuming",
                "Resumed",
                lambda engine, identity: engine.unpause_container(identity),
            )
        else:
            self._on_container(
                container,
                "Pausing",
                "Paused",
                lambda engine, identity: engine.pause_container(identity),
            )

    def action_restart_container(self) -> None:
        """Stop, then start."""
        container = self.chosen_container()
        if container is None:
            return
        self._on_container(
            container,
            "Restarting",
            "Restarted",
            lambda engine, identity: engine.restart_container(identity),
            waits_for=_ASKED_TO_END,
        )

    def action_kill_container(self) -> None:
        """Choose a signal and send it."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        container = self.chosen_container()
        if container is None:
            return
        signals = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

        def answered(signal: str | None) -> None:
            if signal is not None:
                self._on_container(
                    container,
                    f"Sending {signal} to",
                    f"Sent {signal} to",
                    lambda engine, identity: engine.kill_container(identity, signal=signal),
                )

        choices = tuple(Choice(label=signal, value=signal) for signal in signals)
        self.app.push_screen(ChoiceScreen(f"Signal to {container.name}", choices), answered)

    def action_remove_container(self) -> None:
        """Confirm, saying what will be lost, then remove."""
        from tui.screens.dialogs import ConfirmScreen

        container = self.chosen_container()
        if container is None:
            return
        is_running = container.status in _RUNNING
        text = f"Its writable layer and its log will be lost.\nThe image {container.image} stays."
        if is_running:
            text = "It is running and will be killed.\n" + text

        def answered(answer: bool | None) -> None:  # noqa: FBT001
            if answer:
                self._on_container(
                    container,
                    "Removing",
                    "Removed",
                    lambda engine, identity: engine.remove_container(
                        identity, is_forced=is_running
                    ),
                )

        title = f"Remove {container.name}?"
        self.app.push_screen(ConfirmScreen(title, text, verb="remove"), answered)

    def action_update_container(self) -> None:
        """Show limits and restart policy, and change what is changed in the form."""
        from tui.screens.update_form import UpdateScreen

        container = self.chosen_container()
        if container is None:
            return
        identity, name = container.container_id, container.name

        async def update(wanted: ContainerUpdate) -> None:
            warnings = await self.operate(
                f"Changing {name}",
                lambda engine, _listen: engine.update_container(identity, wanted),
            )
            if warnings is not None:
                for warning in warnings:
                    self.tell(warning, is_warning=True)
                self.tell(f"Changed {name}")

        def answered(wanted: ContainerUpdate | None) -> None:
            if wanted is not None:
                self.run_task(lambda: update(wanted), group="operation")

        async def show() -> None:
            details = await self.bridge.call(lambda engine: engine.inspect_container(identity))
            self.app.push_screen(UpdateScreen(details), answered)

        self.run_task(lambda: show(), group="operation")

    def action_rename_container(self) -> None:
        """Ask for another name."""
        from tui.screens.dialogs import PromptScreen

        container = self.chosen_container()
        if container is None:
            return

        def answered(name: str | None) -> None:
            if name:
                self._on_container(
                    container,
                    "Renaming",
                    f"{name} is the new name of",
                    lambda engine, identity: engine.rename_container(identity, name),
                )

        prompt = PromptScreen("Rename", f"A new name for {container.name}:", value=container.name)
        self.app.push_screen(prompt, answered)


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api import EngineApi

    ContainerCall = Callable[[EngineApi, str], Awaitable[object]]


async def start_new(
    engine: EngineApi,
    reference: str,
    request: ContainerRequest,
    *,
    terminal_size: TerminalSize | None = None,
) -> None:
    """Start a container that was made a moment ago.

    Raises:
        EngineError: It does not start; if it was to be removed on exit it is gone.
    """
    try:
        await engine.start_container(reference, terminal_size=terminal_size)
    except EngineError:
        if request.is_removed_on_exit:
            with contextlib.suppress(NotFoundError):
                await engine.remove_container(reference)
        raise


async def _finished(call: Awaitable[object]) -> bool:
    """True when the call came to its end: None is what a cancelled one gives."""
    await call
    return True


async def holder_of(engine: EngineApi, name: str) -> ImageSummary | None:
    """The image that has this name now, if any has."""
    try:
        summary = (await engine.inspect_image(name)).summary
    except (NotFoundError, AmbiguousReferenceError):
        return None
    # What is no name may begin an id.
    return summary if {name, f"{name}:latest"} & set(summary.names) else None


def about_moving(name: str, holder: ImageSummary) -> str:
    """Say whose name it is, and how to have it all the same."""
    others = len(holder.names) - 1
    left = f"keeps {others} other names" if others else "has no other name"
    return f"{name} is a name of {holder.image_id[7:19]}, which {left}. Enter again moves it."


async def _tagged(engine: EngineApi, image_id: str, name: str) -> str:
    """Give an image a name; returns it as it is shown."""
    before = set((await engine.inspect_image(image_id)).summary.names)
    await engine.tag_image(image_id, name)
    after = (await engine.inspect_image(image_id)).summary.names
    return next((one for one in after if one not in before), name)
