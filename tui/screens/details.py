"""What is selected, and reading what the Layers pane and the detail tabs say about it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from engine.types import ContainerStatus, HostReport, ImageDetails, LayerSummary, WritableLayer
from tui.file_tree import FileTreeModel
from tui.screens.archives import ArchiveActions
from tui.screens.build_shells import BuildShellActions
from tui.screens.copies import CopyActions
from tui.screens.published import PublishedActions
from tui.screens.registries import RegistryActions
from tui.screens.terminals import TerminalActions
from tui.widgets import texts
from tui.widgets.containers import ContainerList
from tui.widgets.detail import CONTAINER_TABS, IMAGE_TABS, DetailPane
from tui.widgets.images import ImageList, ImageRow
from tui.widgets.layers import LayerList, StackRow, WritableRow
from tui.widgets.status import KeyLine, OneLine

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from engine.api import EngineApi
    from engine.types import ContainerSummary, FileContent, FileTree
    from tui.bridge import Bridge
    from tui.messages import (
        EngineFailed,
    )
    from tui.watcher import Watcher
    from tui.widgets.files import FileTreeView


LOG_TAIL_LINES = 10_000
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


class _FilesOf(NamedTuple):
    """Whose files the Files tab shows."""

    identity: str
    """Of an image, or of a container."""
    position: int | None = None
    """The step of the image; None for the container's writable layer."""


class DetailScreen(
    BuildShellActions,
    RegistryActions,
    TerminalActions,
    CopyActions,
    ArchiveActions,
    PublishedActions,
):
    """Holds the panes and keeps stack and details in step with the selection."""

    def __init__(self, bridge: Bridge, watcher: Watcher, *, key_overrides: dict[str, str]) -> None:
        super().__init__(bridge)
        self._key_overrides = key_overrides
        self._watcher = watcher
        self.images = ImageList(id="images")
        self.stack = LayerList(id="layers")
        self.containers = ContainerList(id="containers")
        self.detail = DetailPane(id="detail")
        self.header_line = OneLine(id="header")
        self.key_line = KeyLine(id="keys")
        self._active = "images"
        self._subject = "images"
        """The list that the Layers pane and the details are about."""
        self._is_zoomed = False
        self._host: HostReport | None = None
        self._failure: EngineFailed | None = None
        self._total_text = ""
        self._details: ImageDetails | None = None
        self._stack_key = ""
        self._detail_key = ""
        self._writable: WritableLayer | None = None
        self._history = texts.StatsHistory()
        self._history_of = ""
        self._container_tab = "logs"
        self._image_tab = "files"
        self._files_of: _FilesOf | None = None
        self._trees: dict[str, FileTreeModel] = {}
        self._tree_builder = ThreadPoolExecutor(1, thread_name_prefix="lamella-tree")
        self._watched: tuple[tuple[str, ...], str | None] = ((), None)

    def _show_titles(self) -> None:
        """Write the panes' titles; the dashboard does."""
        raise NotImplementedError

    # --- what is selected ---------------------------------------------------------------------

    @property
    def selected_image(self) -> ImageRow | None:
        """The image under the cursor."""
        return self.images.current

    @property
    def selected_container(self) -> ContainerSummary | None:
        """The container under the cursor."""
        return self.containers.current

    @property
    def is_rootless(self) -> bool:
        """Whether the engine is an ordinary user's."""
        return self._host is not None and not self._host.is_root

    @property
    def _is_about_container(self) -> bool:
        return self._subject == "containers" and self.containers.current is not None

    @property
    def _shows_container_tabs(self) -> bool:
        """Layers of a container's stack have files to show, like those of an image."""
        return self._is_about_container and self._active != "layers" and not self._came_from_layers

    _came_from_layers = False

    @property
    def has_failed(self) -> bool:
        """Whether the engine did not open or has stopped."""
        return self._failure is not None

    # --- the stack ----------------------------------------------------------------------------

    def _load_stack(self) -> None:
        container, row = self.containers.current, self.images.current
        if self._is_about_container and container is not None:
            key, reference = f"container {container.container_id}", str(container.image_id)
        elif row is not None:
            key, reference = f"image {row.image.image_id} {row.name}", str(row.image.image_id)
        else:
            self._stack_key, self._details = "", None
            self.stack.set_stack(())
            self._load_detail()
            return
        if key == self._stack_key:
            self._show_stack()  # the container may have another name
            return
        self._stack_key, self._details, self._writable = key, None, None
        self.run_task(lambda: self._read_stack(reference), group="stack", is_exclusive=True)

    async def _read_stack(self, reference: str) -> None:
        self._details = await self.bridge.call(lambda engine: engine.inspect_image(reference))
        self._show_stack()
        first = next(
            (row for row in self.stack.rows if isinstance(row, WritableRow) or not row.is_empty),
            None,
        )
        if first is not None:
            self.stack.move_to_key(self.stack.row_key(first))
        self._load_detail(is_forced=True)
        self._show_titles()

    def _show_stack(self) -> None:
        if self._details is None:
            return
        stack: list[StackRow] = list(reversed(self._details.layers))
        container = self.containers.current
        if self._is_about_container and container is not None:
            measured = self._writable
            is_own = measured is not None and measured.container_id == container.container_id
            writable = WritableRow(
                container_name=container.name,
                container_id=container.container_id,
                layer=measured if is_own else None,
            )
            stack.insert(0, writable)
        self.stack.set_stack(tuple(stack))

    # --- the details --------------------------------------------------------------------------

    def _load_detail(self, *, is_forced: bool = False) -> None:
        container, row = self.containers.current, self.stack.current
        if self._shows_container_tabs and container is not None:
            self.detail.show_tab(CONTAINER_TABS, self._container_tab)
            life = f"{container.status} {container.health} {container.restart_count}"
            state = life if self._container_tab != "logs" else ""
            if self._container_tab == "inspect":
                state += f" {container.name} {container.network_names} {container.ports}"
            key = f"{self._container_tab} {container.container_id} {state}"
        else:
            self.detail.show_tab(IMAGE_TABS, self._image_tab)
            position = "" if row is None else self.stack.row_key(row)
            key = f"{self._image_tab} {self._stack_key} {position}"
        self._show_about()
        if key == self._detail_key and not is_forced:
            return
        is_same = key == self._detail_key
        self._detail_key = key
        if not self._shows_container_tabs:
            self.run_task(lambda: self._read_layer_tab(row), group="detail", is_exclusive=True)
        elif container is not None:
            self.run_task(
                lambda: self._read_container_tab(container.container_id, is_same=is_same),
                group="follow" if self._container_tab == "logs" else "detail",
                is_exclusive=True,
            )

    async def _read_layer_tab(self, row: StackRow | None) -> None:
        if self._image_tab == "inspect":
            layer = row if isinstance(row, LayerSummary) else None
            details = self._details
            self.detail.inspect.show_lines(
                [] if details is None else texts.image_lines(details, layer)
            )
            return
        files = self.detail.files
        if row is None or (isinstance(row, LayerSummary) and row.is_empty):
            files.set_empty_text(
                "This step changed only the image's config"
                if row
                else "The files of the selected layer appear here"
            )
            files.show_tree(None)
            return
        files.set_empty_text("Reading the layer ...")
        if isinstance(row, WritableRow):
            identity = row.container_id
            shown = _FilesOf(identity)
            tree = await self.bridge.call(lambda engine: engine.list_writable_files(identity))
            model = await self._build(tree)
            empty = "Nothing is changed: the writable layer is empty"
        else:
            details = self._details
            if details is None:
                return
            shown = _FilesOf(details.summary.image_id, row.position)
            key = f"{details.summary.image_id} {row.position}"
            model = self._trees.get(key) or await self._build(
                await self.bridge.call(
                    lambda engine: engine.list_layer_files(details.summary.image_id, row.position)
                )
            )
            self._trees[key] = model
            while len(self._trees) > 6:
                self._trees.pop(next(iter(self._trees)))
            empty = "No files in this layer pass; a m x u / say which are shown"
        files.show_tree(model)
        self._files_of = shown
        files.set_empty_text(empty)
        self._show_about()

    def on_file_tree_view_chosen(self, event: FileTreeView.Chosen) -> None:
        """Show the file, if it is one."""
        shown = self._files_of
        if shown is not None and self.sees_file(event.entry):
            self.view_local_file(shown, event.entry.path)

    def view_local_file(self, shown: _FilesOf, path: str) -> None:
        """Show a file of a layer that is here."""

        async def view() -> None:
            from tui.screens.file_view import FileViewScreen

            def read(engine: EngineApi) -> Awaitable[FileContent]:
                if shown.position is None:
                    return engine.read_writable_file(shown.identity, path)
                return engine.read_layer_file(shown.identity, shown.position, path)

            self.app.push_screen(FileViewScreen(await self.bridge.call(read)))

        self.run_task(lambda: view(), group="view", is_exclusive=True)

    async def _build(self, tree: FileTree) -> FileTreeModel:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tree_builder, FileTreeModel, tree)

    async def _read_container_tab(self, identity: str, *, is_same: bool) -> None:
        detail, call = self.detail, self.bridge.call
        match self._container_tab:
            case "logs":
                await self._follow_log(identity, is_same=is_same)
            case "stats":
                self._show_stats()
            case "top":
                container = self.containers.current
                if container is not None and container.status not in _ALIVE:
                    detail.processes.set_empty_text("It does not run; s starts it")
                    detail.processes.show_lines([])
                    return
                processes = await call(lambda engine: engine.list_processes(identity))
                detail.processes.show_lines(texts.process_lines(processes))
            case "changes":
                detail.changes.set_empty_text("Nothing is changed: the writable layer is empty")
                changes = await call(lambda engine: engine.list_changes(identity))
                detail.changes.show_lines(texts.change_lines(changes))
            case _:
                details = await call(lambda engine: engine.inspect_container(identity))
                names = self.containers.names()
                lines = texts.container_lines(details, names=names)
                detail.inspect.show_lines(lines)

    async def _follow_log(self, identity: str, *, is_same: bool) -> None:
        logs = self.detail.logs
        since_ns = None
        if is_same and logs.buffer.lines:
            since_ns = logs.buffer.lines[-1].timestamp_ns + 1
        else:
            logs.clear()
        logs.set_empty_text("No output yet; it appears here as it comes")
        batches = self.bridge.stream(
            lambda engine: engine.follow_logs(
                identity,
                is_following=True,
                tail=None if since_ns else LOG_TAIL_LINES,
                since_ns=since_ns,
            )
        )
        async for parts in batches:
            logs.append(tuple(record for part in parts for record in part))
        logs.set_empty_text("It wrote no output")

    def _show_stats(self) -> None:
        container = self.containers.current
        stats = self.detail.stats
        if container is None or container.status not in _ALIVE:
            stats.set_empty_text("It does not run; s starts it")
            stats.show_lines([])
        elif self._history_of == container.container_id:
            is_ascii = self.app.has_class("-ascii")
            lines = self._history.lines(
                stats.size.width, is_ascii=is_ascii, network_names=container.network_names
            )
            stats.show_lines(lines)
        else:
            stats.set_empty_text("The first sample comes within a second")
            stats.show_lines([])

    def _show_about(self) -> None:
        container, row = self.containers.current, self.stack.current
        about = ""
        if self._shows_container_tabs and container is not None:
            about = container.name
            if self.detail.tab == "logs":
                about += "  " + " · ".join(self.detail.logs.mode_words)
        elif self.detail.tab == "files" and self.detail.files.model is not None and row:
            tree = self.detail.files.model.tree
            about = f"{len(tree.entries)} entries"
            if not tree.is_complete:
                about += f"  {tree.notice}"
            hidden = sorted(change.value for change in self.detail.files.model.hidden)
            if hidden:
                about += "  hidden: " + ", ".join(hidden)
            if self.detail.files.filter_text:
                about += f"  filter: {self.detail.files.filter_text}"
        self.detail.show_about(about)
