"""The form that says what is to be built; it stays until the engine can read the Dockerfile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Checkbox, Input, Static, TextArea

from engine.errors import EngineError
from tui.builds.requests import BuildFieldError, BuildFields, fields_of, parse_fields
from tui.host_files import in_own_thread, starting_directory
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, form_rows, safe_text
from tui.screens.paths import PathQuestion, PathWanted
from tui.screens.run_form import Tick

if TYPE_CHECKING:
    from pathlib import Path

    from textual import events
    from textual.app import ComposeResult

    from engine.types import BuildRequest
    from tui.screens.build_actions import BuildActions

_FIELDS = (
    ("context", "Context", "the directory whose files COPY and ADD take"),
    ("dockerfile", "Dockerfile", "in the context, or an absolute path; Dockerfile"),
    ("names", "Names", "repository:tag, also several; no name when empty"),
    ("target", "Target", "the stage to build; the last one when empty"),
)
_MORE_FIELDS = (
    ("labels", "Labels", "KEY=value, several with spaces between"),
    ("secrets", "Secrets", "id=ID,src=FILE or id=ID,env=NAME, for --mount"),
    ("ssh", "SSH agents", "default or ID=SOCKET, for --mount=type=ssh"),
    ("cache-from", "Cache from", "images that are trusted to lend their layers"),
    ("network", "Network", "of RUN: default, none or host"),
    ("platform", "Platform", "this host's; no other can be built here"),
)
_DOCKERFILE = "Dockerfile"
_LOW_ROWS = 22


class BuildFormScreen(Dialog["tuple[BuildRequest, bool]"]):
    """Asks for a context and what is to come of it; answers also whether to watch the context."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Build", show=False, id="build_form.submit", priority=True),
        Binding("ctrl+o,f2", "choose", show=False, id="build_form.choose", priority=True),
        Binding("enter", "submit", show=False, id="build_form.submit_from_tick"),
        Binding("down", "app.focus_next", show=False, id="build_form.next"),
        Binding("up", "app.focus_previous", show=False, id="build_form.previous"),
    ]

    def __init__(self, operations: BuildActions, request: BuildRequest | None) -> None:
        """Ask what is to be built.

        Args:
            operations: Asks the engine, and for paths.
            request: What the fields begin with; None for the working directory.
        """
        super().__init__("Build an image")
        self._operations = operations
        self._begin = fields_of(request) if request else BuildFields(context=starting_directory())
        self._is_asking = False
        self._real_paths = {clean(text, limit=4000): text for text in (self._begin.context,)}
        """What a path that was not typed stands for: it may not be clean."""

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        begin = self._begin
        values = {
            "context": begin.context,
            "dockerfile": begin.dockerfile,
            "names": begin.names,
            "target": begin.target,
            "labels": begin.labels,
            "secrets": begin.secrets,
            "ssh": begin.ssh,
            "cache-from": begin.cache_sources,
            "network": begin.network,
            "platform": begin.platform,
        }
        keys = " enter build  ^O directory  tab next  space tick  esc cancel "
        with self.frame(keys=keys):
            yield from form_rows(_FIELDS, values)
            with Horizontal(classes="form-block"):
                yield Static("Arguments\nNAME=value", classes="form-label", markup=False)
                area = TextArea(begin.arguments, id="arguments", tab_behavior="focus", compact=True)
                area.cursor_blink = False
                yield area
            yield from form_rows(_MORE_FIELDS, values)
            with Horizontal(classes="form-row"):
                yield Static("Options", classes="form-label")
                yield Tick("no cache", not begin.uses_cache, id="no-cache", compact=True)
                yield Tick("pull", begin.pulls, id="pulls", compact=True)
                yield Tick("squash", begin.squashes, id="squashes", compact=True)
                yield Tick("watch", id="watched", compact=True)
            yield Static("", classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin where something is missing: the context, or the names."""
        self.query_one("#field-names").focus()
        path = os.path.join(self._begin.context, self._begin.dockerfile or _DOCKERFILE)
        self.run_worker(self._look(path), group="build-form", exit_on_error=False)

    async def _look(self, path: str) -> None:
        is_there = await in_own_thread(lambda: os.path.isfile(path))
        names = self.query_one("#field-names", Input)
        if not is_there and names.has_focus and not names.value:
            self.query_one("#field-context").focus()
            self._say(f"There is no {path}; ^O chooses another directory")

    def on_resize(self, event: events.Resize) -> None:
        """Leave out what is only nice to have where there is little room."""
        self.set_class(event.size.height < _LOW_ROWS, "-low")

    # --- the context --------------------------------------------------------------------------

    def action_choose(self) -> None:
        """Choose the context by walking directories; a file that is chosen is the Dockerfile."""
        question = PathQuestion(
            title="Context of the build",
            explanation="The directory with the files to copy from, or the Dockerfile in it.",
            wanted=PathWanted.FILE_OR_DIRECTORY,
            verb="choose",
        )
        self._operations.ask_path(question, self._take_path)

    def _take_path(self, path: Path) -> None:
        self.run_worker(self._take(path), group="build-form", exit_on_error=False)

    async def _take(self, path: Path) -> None:
        is_directory = await in_own_thread(path.is_dir)
        directory = path if is_directory else path.parent
        dockerfile = "" if is_directory or path.name == _DOCKERFILE else path.name
        for field, text in (("context", str(directory)), ("dockerfile", dockerfile)):
            shown = clean(text, limit=4000)
            self._real_paths[shown] = text
            self.query_one(f"#field-{field}", Input).value = shown
        self._say("")
        self.query_one("#field-names").focus()

    # --- building -----------------------------------------------------------------------------

    def on_input_submitted(self) -> None:
        """Build from any field."""
        self.action_submit()

    def action_submit(self) -> None:
        """Have the engine read the Dockerfile, unless it does or a field makes no sense."""
        if self._is_asking:
            return
        self._is_asking = True
        self._say("")
        self.run_worker(self._plan(self._fields()), group="build-form", exit_on_error=False)

    async def _plan(self, fields: BuildFields) -> None:
        try:
            request = await in_own_thread(
                lambda: parse_fields(fields, directory=starting_directory(), environment=os.environ)
            )
            await self._operations.bridge.call(lambda engine: engine.plan_build(request))
        except BuildFieldError as error:
            self._say(str(error))
            is_area = error.field == "arguments"
            self.query_one("#arguments" if is_area else f"#field-{error.field}").focus()
        except EngineError as error:
            self._say(f"{error.message}\n{error.hint}".strip())
        else:
            self.dismiss((request, self.query_one("#watched", Checkbox).value))
        finally:
            self._is_asking = False

    def _fields(self) -> BuildFields:
        return BuildFields(
            context=self._path("context"),
            dockerfile=self._path("dockerfile"),
            names=self._value("names"),
            target=self._value("target"),
            arguments=self.query_one("#arguments", TextArea).text,
            platform=self._value("platform"),
            network=self._value("network"),
            labels=self._value("labels"),
            secrets=self._value("secrets"),
            ssh=self._value("ssh"),
            cache_sources=self._value("cache-from"),
            uses_cache=not self.query_one("#no-cache", Checkbox).value,
            pulls=self.query_one("#pulls", Checkbox).value,
            squashes=self.query_one("#squashes", Checkbox).value,
        )

    def _value(self, name: str) -> str:
        return self.query_one(f"#field-{name}", Input).value.strip()

    def _path(self, name: str) -> str:
        value = self._value(name)
        return self._real_paths.get(value, value)

    def _say(self, text: str) -> None:
        self.query_one(".problem", Static).update(safe_text(text))
