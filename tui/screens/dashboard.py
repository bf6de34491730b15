"""The one screen that stays: three panes and the details of what is selected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from textual import on
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from engine.errors import EngineError
from engine.types import ContainerStatus, WritableLayer
from tui import format as formatting
from tui.keymap import Context, bindings_of, commands_of
from tui.messages import (
    BuildTold,
    ContainerEvent,
    ContainersChanged,
    EngineFailed,
    EngineOpened,
    ImagesChanged,
    NetworksTouched,
    OperationProgress,
    StatsSampled,
    TransferProgress,
    UsageChanged,
    VolumesTouched,
    WatchFailed,
    WritableLayerMeasured,
)
from tui.sanitise import clean
from tui.screens.tools import ToolScreen
from tui.widgets import texts
from tui.widgets.detail import CONTAINER_TABS, IMAGE_TABS
from tui.widgets.images import image_rows
from tui.widgets.layers import WritableRow
from tui.widgets.logs import LogView
from tui.widgets.rows import Cell, LineView, RowList

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from tui.messages import EngineState

ONE_PANE_BELOW_COLUMNS = 90
Row = TypeVar("Row")

MINIMUM_COLUMNS, MINIMUM_ROWS = 60, 16
AGE_REFRESH_SECONDS = 30.0
_PANES = ("images", "layers", "containers", "detail")
_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)

_NO_IMAGES = (
    "No images here yet\n\n"
    "D  makes the demo: layers, containers\n"
    "b  builds one from a Dockerfile       \n"
    "P  pulls an image from a registry     \n"
    "L  loads an archive from disk         "
)


class Dashboard(ToolScreen, inherit_bindings=False):
    """Shows the state of the store and what is selected in it."""

    BINDINGS = [
        binding
        for binding in bindings_of(Context.EVERYWHERE)
        if binding.action.startswith("screen.")
    ]

    def compose(self) -> ComposeResult:
        """Lay the panes out as design section 7 draws them."""
        yield self.header_line
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield self.images
                yield self.containers
            with Vertical(id="right"):
                yield self.stack
                yield self.detail
        with Horizontal(id="filter-line"):
            yield Static("/ ", id="filter-label", markup=False)
            field = Input(id="filter", compact=True, placeholder="text to look for")
            field.cursor_blink = False
            yield field
        yield self.key_line
        yield Static("", id="too-small", markup=False)

    def on_mount(self) -> None:
        """Begin in the images; ages are written anew every half minute."""
        for pane in (self.images, self.stack, self.containers, self.detail):
            pane.add_class("pane")
        self.action_pane("images")
        self.set_interval(AGE_REFRESH_SECONDS, self._refresh_ages)
        self._show_titles()
        self._show_header()
        self._show_empty_texts()

    def on_unmount(self) -> None:
        """End the thread that builds trees."""
        self._tree_builder.shutdown(wait=False, cancel_futures=True)

    # --- state from the engine ----------------------------------------------------------------

    def take_state(self, state: EngineState) -> None:
        """Show newer state."""
        match state:
            case EngineOpened():
                self._host = state.host
                self._failure = None
                self.pass_on(state)
            case EngineFailed():
                self._failure = state
                self._host = None
            case ImagesChanged():
                self._has_images = True
                self.images.set_rows(image_rows(state.images))
                self._select_wanted(self.images)
            case ContainersChanged():
                self._has_containers = True
                self.containers.set_rows(state.containers)
                self._select_wanted(self.containers)
            case VolumesTouched() | NetworksTouched():
                self.pass_on(state)
            case UsageChanged():
                self._total_text = formatting.size(state.usage.total_bytes)
            case StatsSampled():
                self._take_samples(state)
            case WritableLayerMeasured():
                self._take_writable(state.layer)
            case ContainerEvent():
                self._take_event(state)
            case BuildTold():
                self.take_build_news(state.key)
                return
            case OperationProgress() | TransferProgress():
                self.show_progress(state)
                return  # often, and nothing else on the screen says how far it is
            case WatchFailed():
                self.tell_error(EngineError(state.message, hint=state.hint))
        self._show_titles()
        self._show_header()
        self._show_empty_texts()
        self._tell_watcher()

    _has_images = False
    _has_containers = False

    def _take_samples(self, state: StatsSampled) -> None:
        self.containers.set_samples(state.samples)
        container = self.containers.current
        for sample in state.samples:
            if container is None or sample.container_id != container.container_id:
                continue
            if self._history_of != container.container_id:
                self._history = texts.StatsHistory()
                self._history_of = container.container_id
            self._history.add(sample, now=time.monotonic())
            self._show_stats()
            if self.detail.tab == "top" and self._shows_container_tabs:
                self._load_detail(is_forced=True)

    def _take_writable(self, layer: WritableLayer) -> None:
        before, self._writable = self._writable, layer
        if before != layer and self._is_about_container:
            self._show_stack()
            is_shown = self.detail.tab == "changes" and self._shows_container_tabs
            if is_shown or isinstance(self.stack.current, WritableRow):
                self._load_detail(is_forced=True)

    def _take_event(self, state: ContainerEvent) -> None:
        container = self.containers.current
        if container is None or state.event.subject_id != container.container_id:
            return
        if state.event.action in ("start", "restart") and self.detail.tab == "logs":
            self._load_detail(is_forced=True)

    def _tell_watcher(self) -> None:
        if not self.bridge.is_open:
            return
        visible = self.containers.visible_running() if self.containers.is_on_screen else ()
        container = self.containers.current
        if container is not None and self._is_about_container and container.status in _ALIVE:
            visible = tuple(dict.fromkeys((*visible, container.container_id)))
        measured = container.container_id if container and self._is_about_container else None
        if (visible, measured) != self._watched:
            self._watched = (visible, measured)
            self.run_task(
                lambda: self.bridge.call(
                    lambda _engine: self._watcher.watch(
                        statistics_of=visible, writable_layer_of=measured
                    )
                ),
                group="watch",
            )

    # --- selection ----------------------------------------------------------------------------

    @on(RowList.Highlighted, "#images")
    def _image_highlighted(self) -> None:
        if self._subject == "images":
            self._load_stack()

    @on(RowList.Highlighted, "#containers")
    def _container_highlighted(self) -> None:
        if self._subject == "containers":
            self._load_stack()
            self._load_detail()

    @on(RowList.Highlighted, "#layers")
    def _layer_highlighted(self) -> None:
        if not self._shows_container_tabs:
            self._load_detail()

    @on(LogView.ModeChanged)
    def _log_mode_changed(self) -> None:
        self._show_about()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Follow the focus: the panes it is in say what the details are about."""
        pane = self._pane_of(event.widget.id)
        if pane is not None:
            self._enter_pane(pane)

    def _enter_pane(self, pane: str) -> None:
        for name in _PANES:
            self.query_one(f"#{name}").set_class(name == pane, "-active")
        self.query_one("#left").set_class(pane in ("images", "containers"), "-active")
        self.query_one("#right").set_class(pane in ("layers", "detail"), "-active")
        if pane != "detail":
            self._came_from_layers = pane == "layers"
        self._active = pane
        if pane in ("images", "containers") and self._subject != pane:
            self._subject = pane
            self._load_stack()
        self._load_detail()
        self._show_keys()
        self._tell_watcher()

    def _pane_of(self, widget_id: str | None) -> str | None:
        if widget_id in ("images", "layers", "containers"):
            return widget_id
        return "detail" if widget_id in (*IMAGE_TABS, *CONTAINER_TABS) else None

    # --- titles, header, keys -----------------------------------------------------------------

    def _title(self, widget: LineView, text: str, subtitle: str = "") -> None:
        title, below = Content(text).markup, Content(subtitle).markup
        if (widget.border_title, widget.border_subtitle) != (title, below):
            widget.border_title, widget.border_subtitle = title, below

    def _show_titles(self) -> None:
        self._title(self.images, "1 Images", self._marks_text + _count_text(self.images))
        shown = "" if self.containers.shows_all else " running only "
        self._title(self.containers, "3 Containers", shown + _count_text(self.containers))
        about = ""
        if self._details is not None:
            summary = self._details.summary
            name = summary.names[0] if summary.names else summary.image_id[7:19]
            about = f"  {clean(name, limit=60)}  {formatting.size(summary.size_bytes)}"
        self._title(self.stack, f"2 Layers{about}", _count_text(self.stack))

    def _show_header(self) -> None:
        left = [Cell(" lamella ", "strong")]
        host = self._host
        if self._failure is not None:
            left.append(Cell("  " + clean(self._failure.message, limit=200), "bad"))
        elif host is None:
            left.append(Cell("  opening the store ...", "dim"))
        else:
            right_user = "root" if host.is_root else "rootless"
            facts = ("embedded", right_user, f"cgroup {host.cgroup_mode}", host.snapshotter)
            left.append(Cell("  " + clean(" · ".join(facts)), "dim"))
            if host.warnings:
                left.append(Cell(f"  ! {len(host.warnings)} missing", "warn"))
        rows = self.containers.rows
        running = sum(row.status is ContainerStatus.RUNNING for row in rows)
        paused = sum(row.status is ContainerStatus.PAUSED for row in rows)
        right = []
        if self.running_builds:
            right.append(Cell(f"{len(self.running_builds)} building (6)  ", "key"))
        if self.background_count:
            right.append(Cell(f"{self.background_count} in background (B)  ", "key"))
        if self.open_terminals:
            right.append(Cell(f"{len(self.open_terminals)} left open (T)  ", "key"))
        if running:
            right.append(Cell(f"{running} running  ", "good"))
        if paused:
            right.append(Cell(f"{paused} paused  ", "warn"))
        right.append(Cell(f"{self._total_text} "))
        self.header_line.show_cells(tuple(left), tuple(right))

    def background_changed(self) -> None:
        """Say how many operations go on in the background."""
        self._show_header()

    def _show_empty_texts(self) -> None:
        if self._failure is not None:
            hint = clean(self._failure.hint, limit=200)
            text = f"The engine is not open\n\n{clean(self._failure.message, limit=300)}\n\n{hint}"
            for pane in (self.images, self.containers):
                pane.set_empty_text(text)
            self.stack.set_empty_text("The engine is not open")
            self.detail.files.set_empty_text("The engine is not open")
            return
        waiting = "opening the store ..."
        filtered = "Nothing passes the filter; esc clears it"
        images = filtered if self.images.filter_text else _NO_IMAGES
        self.images.set_empty_text(images if self._has_images else waiting)
        containers = "No containers yet\n\n1 then r  runs an image"
        if self.containers.filter_text:
            containers = filtered
        elif not self.containers.shows_all and self.containers.total_count:
            containers = "None is running\n\nA  shows all"
        self.containers.set_empty_text(containers if self._has_containers else waiting)
        if not self._stack_key:
            self.detail.files.set_empty_text("The files of the selected layer appear here")
        layers = "Select an image or a container" if self._has_images else waiting
        self.stack.set_empty_text(filtered if self.stack.filter_text else layers)

    def _show_keys(self) -> None:
        common = tuple(c for c in commands_of(Context.EVERYWHERE) if c.is_in_footer)
        self.key_line.show_commands(self._own_commands, tuple(reversed(common)), self.keys_of)

    def _refresh_ages(self) -> None:
        self.images.redraw_changed_rows()
        self.containers.redraw_changed_rows()

    # --- layout -------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout that fits."""
        width, height = event.size
        is_tiny = width < MINIMUM_COLUMNS or height < MINIMUM_ROWS
        self.set_class(is_tiny, "-tiny")
        self.query_one("#too-small", Static).update(
            f"This terminal is {width}x{height}.\nLamella needs {MINIMUM_COLUMNS}x{MINIMUM_ROWS}."
        )
        self._lay_out(width)

    def _lay_out(self, width: int) -> None:
        self.set_class(self._is_zoomed or width < ONE_PANE_BELOW_COLUMNS, "-one-pane")
        self.call_after_refresh(self._show_keys)

    def action_zoom(self) -> None:
        """One pane, or all."""
        self._is_zoomed = not self._is_zoomed
        self._lay_out(self.app.size.width)

    def action_pane(self, name: str) -> None:
        """Go to a pane."""
        target = self.detail.view if name == "detail" else self.query_one(f"#{name}", LineView)
        self._enter_pane(name)
        if self.has_class("-one-pane"):
            # The target is not displayed yet, and what is not displayed cannot have the focus.
            self.app.stylesheet.update(self)
        target.focus()

    def action_next_pane(self, step: int) -> None:
        """Go round the panes."""
        self.action_pane(_PANES[(_PANES.index(self._active) + step) % len(_PANES)])

    # --- tabs, going deeper, coming back ------------------------------------------------------

    def action_tab(self, tab: str) -> None:
        """Show a tab of the details."""
        tabs = CONTAINER_TABS if self._shows_container_tabs else IMAGE_TABS
        if tab in tabs:
            self._set_tab(tab)
            self.action_pane("detail")

    def action_next_tab(self, step: int) -> None:
        """Show the next tab."""
        tabs = CONTAINER_TABS if self._shows_container_tabs else IMAGE_TABS
        self._set_tab(tabs[(tabs.index(self.detail.tab) + step) % len(tabs)])

    def _set_tab(self, tab: str) -> None:
        if self._shows_container_tabs:
            self._container_tab = tab
        else:
            self._image_tab = tab
        self._load_detail()
        self._show_keys()

    def action_open_image(self) -> None:
        """From an image to its layers."""
        self.action_pane("layers")

    def action_open_layer(self) -> None:
        """From a layer to its files."""
        self.action_tab("files")

    def action_open_container(self) -> None:
        """From a container to its details."""
        self.action_pane("detail")

    def action_back(self) -> None:
        """Clear the filter, else end the zoom, else go one pane back."""
        view = self._filter_target()
        if isinstance(self.focused, Input) or (isinstance(view, RowList) and view.filter_text):
            self._set_filter(view, "")
            self._close_filter(view)
        elif isinstance(view, LogView) and (view.search_text or view.only_text):
            view.set_search("")
            view.set_only("")
        elif self._is_zoomed:
            self.action_zoom()
        elif self._active == "detail":
            goes_to_layers = self._came_from_layers or self._subject == "images"
            self.action_pane("layers" if goes_to_layers else "containers")
        elif self._active == "layers":
            self.action_pane(self._subject)
        elif self._active == "images":
            self.images.clear_marks()

    # --- filter -------------------------------------------------------------------------------

    _is_log_filter = False

    def action_filter(self) -> None:
        """Ask for a text to filter by, or to look for in a log."""
        self._open_filter(is_log_filter=False)

    def action_filter_log(self) -> None:
        """Ask for a text that lines of the log must contain."""
        self._open_filter(is_log_filter=True)

    def _open_filter(self, *, is_log_filter: bool) -> None:
        self._is_log_filter = is_log_filter
        view = self._filter_target()
        text = ""
        if isinstance(view, RowList):
            text = view.filter_text
        elif isinstance(view, LogView):
            text = view.only_text if is_log_filter else view.search_text
        label = (
            "only " if is_log_filter else ("search " if isinstance(view, LogView) else "filter ")
        )
        self.query_one("#filter-label", Static).update(Content(f" {label}"))
        self.query_one("#filter-line").add_class("-active")
        field = self.query_one("#filter", Input)
        field.value = text
        field.focus()

    def _set_filter(self, view: LineView, text: str) -> None:
        if isinstance(view, RowList):
            view.set_filter(text)
        elif isinstance(view, LogView):
            if self._is_log_filter:
                view.set_only(text)
            else:
                view.set_search(text)
        self._show_titles()
        self._show_about()
        self._show_empty_texts()

    def _close_filter(self, view: LineView) -> None:
        self.query_one("#filter-line").remove_class("-active")
        view.focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        view = self._filter_target()
        if event.input.has_focus and isinstance(view, RowList):
            self._set_filter(view, event.value)

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, event: Input.Submitted) -> None:
        view = self._filter_target()
        self._set_filter(view, event.value)
        self._close_filter(view)

    # --- the rest -----------------------------------------------------------------------------

    def action_toggle_all(self) -> None:
        """Show all containers, or only those that run."""
        self.containers.toggle_all()
        self._show_titles()
        self._show_empty_texts()

    def action_next_layer(self, step: int) -> None:
        """Show the files of the layer below (1) or above (-1); the focus stays."""
        self.stack.action_move(step)

    def action_refresh_all(self) -> None:
        """Read the store afresh."""
        self._trees.clear()
        self.run_task(lambda: self.bridge.call(self._watcher.refresh), group="watch")
        self._load_detail(is_forced=True)


def _count_text(view: RowList[Row]) -> str:
    if not view.filter_text:
        return ""
    return f" {len(view.rows)} of {view.total_count}  filter: {clean(view.filter_text, limit=40)} "
