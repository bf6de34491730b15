"""The form that says which images are saved, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from engine.late_dataclasses import dataclass
from engine.types import ArchiveFormat, Compression, SaveOptions
from tui.sanitise import clean
from tui.screens.dialogs import Dialog, safe_text
from tui.widgets.chooser import Chooser

if TYPE_CHECKING:
    from textual.app import ComposeResult

_FORMATS = tuple(ArchiveFormat)
_ABOUT_FORMATS = (
    "A tar that Docker, Podman, skopeo and umoci read.",
    "A tar of an OCI layout.",
    "An OCI layout, as a directory.",
)
_LAYERS = (None, Compression.GZIP, Compression.ZSTD, Compression.NONE)
_LAYER_LABELS = ("as they are", "gzip", "zstd", "plain")
_WHOLE = (Compression.NONE, Compression.GZIP, Compression.ZSTD)
_WHOLE_LABELS = ("plain", "gzip", "zstd")
_ENDINGS = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRequest:
    """What is saved, and how."""

    references: tuple[str, ...]
    options: SaveOptions

    @property
    def file_name(self) -> str:
        """What the archive is called unless somebody has a better name."""
        stem = "images"
        if len(self.references) == 1:
            last = self.references[0].removeprefix("sha256:").rpartition("/")[2]
            stem = last[:12] if self.references[0].startswith("sha256:") else last
            stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in stem)
        if self.options.format is ArchiveFormat.OCI_DIRECTORY:
            return stem
        return f"{stem}.tar{_ENDINGS[self.options.archive_compression]}"


class SaveScreen(Dialog[SaveRequest]):
    """Asks for images, format and compression; where to comes after it."""

    BINDINGS = [
        Binding("ctrl+s,f5", "submit", "Save", show=False, id="save.submit", priority=True),
        Binding("enter", "submit", "Save", show=False, id="save.submit_from_choice"),
        Binding("down", "app.focus_next", show=False, id="save.next"),
        Binding("up", "app.focus_previous", show=False, id="save.previous"),
    ]

    def __init__(self, references: tuple[str, ...]) -> None:
        super().__init__("Save images")
        self._references = references

    def compose(self) -> ComposeResult:
        """Lay the form out."""
        with self.frame(keys=" enter where to   tab next field   space choose   esc cancel "):
            with Horizontal(classes="form-row"):
                yield Static("Images", classes="form-label")
                field = Input(
                    clean(" ".join(self._references), limit=2000),
                    placeholder="name:tag, several with blanks between them",
                    id="field-images",
                    compact=True,
                    select_on_focus=False,
                )
                field.cursor_blink = False
                yield field
            for name, label, labels in (
                ("format", "Format", tuple(one.value for one in _FORMATS)),
                ("layers", "Layers", _LAYER_LABELS),
                ("whole", "Archive", _WHOLE_LABELS),
            ):
                with Horizontal(classes="form-row"):
                    yield Static(label, classes="form-label")
                    yield Chooser(labels, id=f"choose-{name}")
            yield Static(_ABOUT_FORMATS[0], markup=False, id="about-format", classes="form-note")
            yield Static("", classes="problem", markup=False)

    def on_mount(self) -> None:
        """Begin in the format: the images are filled in."""
        self.query_one("#choose-format" if self._references else "#field-images").focus()

    def _choice(self, name: str) -> int:
        return self.query_one(f"#choose-{name}", Chooser).index

    def on_chooser_chosen(self) -> None:
        """Say what the format is; what was wrong may not be any more."""
        about = self.query_one("#about-format", Static)
        about.update(_ABOUT_FORMATS[self._choice("format")])
        self.query_one(".problem", Static).update("")

    def on_input_submitted(self) -> None:
        """Go on from the field as well."""
        self.action_submit()

    def action_submit(self) -> None:
        """Answer with the request if it makes sense."""
        references = tuple(self.query_one("#field-images", Input).value.split())
        request = SaveRequest(
            references=references,
            options=SaveOptions(
                format=_FORMATS[self._choice("format")],
                layer_compression=_LAYERS[self._choice("layers")],
                archive_compression=_WHOLE[self._choice("whole")],
            ),
        )
        problem = ""
        if not references:
            problem = "Images: which should be saved?"
        elif request.options.format is ArchiveFormat.OCI_DIRECTORY and self._choice("whole"):
            problem = "Archive: a directory cannot be compressed as a whole"
        if problem:
            self.query_one(".problem", Static).update(safe_text(problem))
            return
        self.dismiss(request)
