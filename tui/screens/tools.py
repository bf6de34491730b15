"""Keys that read or copy: help, the host, the clipboard, saving a log."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engine.errors import EngineError
from engine.types import LayerSummary
from tui import format as formatting
from tui.image_names import repository_of
from tui.keymap import Context, command_named, commands_of
from tui.sanitise import clean
from tui.screens.details import DetailScreen
from tui.screens.paths import PathQuestion, PathWanted
from tui.short_ports import port_texts, web_addresses
from tui.widgets import texts
from tui.widgets.files import FileTreeView
from tui.widgets.logs import LogView
from tui.widgets.rows import LineView

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.types import HostReport
    from tui.builds.jobs import BuildJob
    from tui.keymap import Command
    from tui.messages import EngineState


@runtime_checkable
class FollowsStore(Protocol):
    """A screen that shows something of the store, and keeps it fresh."""

    def follow(self, state: EngineState) -> None:
        """Read afresh what this is about."""


class ToolScreen(DetailScreen, inherit_bindings=False):
    """Actions that change nothing in the store."""

    def _contexts(self) -> tuple[Context, ...]:
        match self._active:
            case "images":
                return (Context.IMAGES,)
            case "layers":
                return (Context.LAYERS,)
            case "containers":
                return (Context.CONTAINERS,)
            case _:
                match self.detail.tab:
                    case "files":
                        return (Context.FILES,)
                    case "logs":
                        return (Context.LOGS,)
                    case _:
                        return (Context.DETAIL,)

    @property
    def _own_commands(self) -> tuple[Command, ...]:
        """What the footer shows of the focused pane; the first ones where there is little room."""
        own = tuple(c for c in commands_of(*self._contexts()) if c.is_in_footer)
        if self._active == "detail":
            # Nothing else tells how to get to the other tabs.
            return (command_named("tab.next"), *own)
        if self._active == "images":
            return (*own[:2], command_named("registry"), *own[2:])
        return own

    def go_to_context(self, context: Context) -> None:
        """Go to the pane where a command belongs, unless the focus is there already."""
        if context in (*self._contexts(), Context.EVERYWHERE, Context.LISTS, Context.DETAIL):
            return
        match context:
            case Context.FILES:
                self.action_pane("layers")
                self.action_tab("files")
            case (
                Context.VOLUMES
                | Context.NETWORKS
                | Context.BUILDS
                | Context.BUILD
                | Context.PICKER
                | Context.REGISTRY
                | Context.REMOTE_IMAGE
            ):
                pass  # their commands have screens of their own
            case Context.LOGS:
                self.action_pane("containers")
                self.action_tab("logs")
            case _:
                self.action_pane(context.value.lower())

    @property
    def context_view(self) -> LineView:
        """The view that the focused pane's own commands are about."""
        return self._filter_target()

    def action_tab(self, tab: str) -> None:
        """Show a tab of the details; the dashboard does."""
        raise NotImplementedError

    def keys_of(self, command: Command) -> str:
        """The keys of a command, as settings.toml may have changed them."""
        return self._key_overrides.get(command.command_id, command.keys)

    def _filter_target(self) -> LineView:
        if self._active == "detail":
            return self.detail.view
        return self.query_one(f"#{self._active}", LineView)

    def action_help(self) -> None:
        """Show the keys of the focused pane."""
        from tui.screens.dialogs import ReadingScreen
        from tui.screens.help import help_content

        contexts = (*self._contexts(), Context.LISTS, Context.EVERYWHERE)
        self.app.push_screen(ReadingScreen("Keys", help_content(contexts, self.keys_of)))

    def action_host(self) -> None:
        """Show what the host gives and lacks."""
        if self._host is not None:
            host = self._host
            self.run_task(lambda: self._show_host(host), group="operation")

    async def _show_host(self, host: HostReport) -> None:
        from tui.screens.dialogs import ReadingScreen
        from tui.screens.help import host_content

        # Others may have changed the host's rules since the start: these are looked at now.
        of_networks = await self.operate(
            "Looking at this host", lambda engine, _listen: engine.list_network_features()
        )
        if of_networks is not None:
            content = host_content(replace(host, features=(*host.features, *of_networks)))
            self.app.push_screen(ReadingScreen("This host", content))

    def action_toggle_intermediate(self) -> None:
        """Show intermediate images as well, or not."""
        self.images.toggle_intermediate()
        self._show_titles()
        if self.images.shows_intermediate:
            self.run_worker(self._record_intermediate(), exit_on_error=False)

    async def _record_intermediate(self) -> None:
        # What there is already is shown in any case, and new ones come as any image does.
        with contextlib.suppress(EngineError):
            await self.bridge.call(lambda engine: engine.record_intermediate_images())

    def action_builds(self) -> None:
        """Show all builds."""
        from tui.screens.builds import BuildsScreen

        self.app.push_screen(BuildsScreen(self))

    def show_build(self, job: BuildJob) -> None:
        """Show a build."""
        from tui.screens.build import BuildScreen

        self.app.push_screen(BuildScreen(self, job))

    def action_volumes(self) -> None:
        """Show the volumes."""
        from tui.screens.volumes import VolumesScreen

        self.app.push_screen(VolumesScreen(self))

    def action_networks(self) -> None:
        """Show the networks."""
        from tui.screens.networks import NetworksScreen

        self.app.push_screen(NetworksScreen(self))

    def pass_on(self, state: EngineState) -> None:
        """Let the screens above know what happened to what they may show."""
        for screen in self.app.screen_stack:
            if isinstance(screen, FollowsStore):
                screen.follow(state)

    def action_registry(self) -> None:
        """Look for images in registries."""
        from tui.screens.registry import RegistryScreen

        self.app.push_screen(RegistryScreen(self))

    def action_search(self) -> None:
        """Look for images in registries."""
        self.action_registry()

    def action_peek(self) -> None:
        """Ask for an image of a registry, and look into it."""
        self._ask_remote("Look into an image", self.look_into)

    def action_pull(self) -> None:
        """Ask for an image of a registry, and pull it."""
        self._ask_remote("Pull an image", self.pull)

    def action_tags(self) -> None:
        """Ask for a repository, and list its tags."""
        from tui.screens.registry import TagsScreen

        self._ask_remote(
            "Tags of a repository",
            lambda name: self.app.push_screen(TagsScreen(repository_of(name), self)),
        )

    def _ask_remote(self, title: str, go_on: Callable[[str], object]) -> None:
        """Ask for a name; the one of the selected image is there already."""
        from tui.screens.dialogs import PromptScreen

        row = self.selected_image

        def answered(name: str | None) -> None:
            if name:
                go_on(name)

        prompt = PromptScreen(
            title,
            "Its name in a registry: HOST/REPOSITORY:TAG, or REPOSITORY:TAG on Docker Hub",
            value="" if row is None else row.name,
        )
        self.app.push_screen(prompt, answered)

    def look_into(self, name: str) -> None:
        """Show an image in a registry."""
        from tui.screens.remote_image import RemoteImageScreen

        self.app.push_screen(RemoteImageScreen(name, self))

    def action_create_volume(self) -> None:
        """Ask for a name and make a volume."""
        from tui.screens.volumes import create_volume

        create_volume(self, made=lambda _name: None)

    def action_prune_volumes(self) -> None:
        """Remove volumes that nobody uses."""
        from tui.screens.volumes import prune_volumes

        prune_volumes(self)

    def action_create_network(self) -> None:
        """Ask what a network is to be, and make it."""
        from tui.screens.network_actions import create_network

        create_network(self, made=lambda _network: None)

    def action_prune_networks(self) -> None:
        """Remove networks that no container is to be in."""
        from tui.screens.network_actions import prune_networks

        prune_networks(self)

    def action_change_networks(self) -> None:
        """Choose a network to put the container into, or to take it out of."""
        from tui.screens.network_actions import change_networks_of

        container = self.chosen_container()
        if container is not None:
            change_networks_of(self, container)

    def action_yank(self) -> None:
        """Choose what to copy."""
        from tui.screens.dialogs import Choice, ChoiceScreen

        choices = tuple(
            Choice(label=f"{label:<8} {clean(value, limit=100)}", value=value)
            for label, value in self._copyable()
            if value
        )
        if not choices:
            self.app.bell()
            return

        def answered(text: str | None) -> None:
            if text is not None:
                self.app.copy_to_clipboard(clean(text))

        self.app.push_screen(ChoiceScreen("Copy", choices), answered)

    def _copyable(self) -> tuple[tuple[str, str], ...]:
        image, row, container = self.images.current, self.stack.current, self.containers.current
        view = self._filter_target()
        if isinstance(view, FileTreeView):
            node = view.current
            return () if node is None else (("path", f"/{node.path}"), ("name", node.name))
        if isinstance(view, LogView):
            line = view.current_line
            return () if line is None else (("line", "".join(r.text for r in line.runs())),)
        if isinstance(view, texts.TextRows):
            text = view.current
            return () if text is None else (("line", text.text.strip()),)
        if self._active == "containers" and container is not None:
            return (
                ("name", container.name),
                ("id", container.container_id),
                ("image", container.image),
                ("command", container.command),
                *(("port", one.url) for one in web_addresses(container.ports, os.environ)),
                *(("port", text) for text in port_texts(container.ports)),
            )
        if self._active == "layers" and isinstance(row, LayerSummary):
            return (
                ("line", formatting.instruction(row.created_by)),
                ("diff id", row.diff_id or ""),
                ("chain id", row.chain_id or ""),
            )
        if image is not None:
            digest = self._details.digest if self._details else ""
            return (("name", image.name), ("id", image.image.image_id), ("digest", digest))
        return ()

    def action_save_log(self) -> None:
        """Ask for a file and write the log's lines to it, as the container wrote them."""
        container = self.containers.current
        if container is None:
            return
        identity, name = container.container_id, container.name

        def answered(path: Path) -> None:
            self.run_task(lambda: self._save_log(identity, path), group="operation")

        question = PathQuestion(
            title="Save the log",
            explanation=f"Save the whole log of {name} as it was written, to:",
            wanted=PathWanted.NEW_FILE,
            verb="save",
            file_name=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.log",
        )
        self.ask_path(question, answered)

    async def _save_log(self, container_id: str, path: Path) -> None:
        from tui.log_file import save_log

        count = await self.operate(
            f"Saving the log to {path}",
            lambda engine, listen: save_log(engine, container_id, path, progress=listen),
        )
        if count is not None:
            self.tell(f"Saved {count} lines to {path}")
