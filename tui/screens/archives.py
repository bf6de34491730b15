"""What the keys of images do about files of this host, and with several images at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.errors import (
    ArchiveError,
    EngineError,
    InvalidInputError,
    PlatformMismatchError,
)
from engine.operations import Progress
from engine.types import ImportRequest
from tui import format as formatting
from tui.sanitise import clean
from tui.screens.actions import ActionScreen
from tui.screens.paths import PathQuestion, PathWanted

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi
    from engine.operations import ProgressListener
    from tui.screens.save_form import SaveRequest

_MOST_NAMES = 8


class _Removed(NamedTuple):
    """What became of several images."""

    freed_bytes: int
    failures: tuple[EngineError, ...]


class ArchiveActions(ActionScreen):
    """Images from and to archives, and several images at once."""

    def action_load_image(self) -> None:
        """Ask for an archive or a layout and load it."""
        question = PathQuestion(
            title="Load images",
            explanation="An archive of `docker save`, an OCI archive, or an OCI layout directory.",
            wanted=PathWanted.FILE_OR_DIRECTORY,
            verb="load",
        )

        def answered(archive: Path) -> None:
            self.run_task(lambda: self._load(archive), group="operation")

        self.ask_path(question, answered)

    async def _load(self, archive: Path, platform: str = "") -> None:
        about = f" for {platform}" if platform else ""
        try:
            loaded = await self.operate(
                f"Loading {archive}{about}",
                lambda engine, listen: engine.load_images(
                    archive, platform=platform, progress=listen
                ),
            )
        except PlatformMismatchError as error:
            chosen = await self.choose_platform(error.message, error.platforms)
            if chosen is not None:
                await self._load(archive, chosen)
            return
        for image in loaded or ():
            name = ", ".join(image.names) or image.image_id[7:19]
            self.select_row(self.images, f"{image.image_id} {next(iter(image.names), '')}")
            self.tell(f"{name} was here already" if image.was_present else f"Loaded {name}")
            for warning in image.warnings:
                self.tell(warning, is_warning=True)

    def action_save_image(self) -> None:
        """Ask which images and how, then where to, then save them."""
        from tui.screens.save_form import SaveScreen

        row = self.selected_image
        rows = self.images.marked or ((row,) if row else ())

        def answered(request: SaveRequest | None) -> None:
            if request is not None:
                self._ask_target(request)

        self.app.push_screen(SaveScreen(tuple(row.reference for row in rows)), answered)

    def _ask_target(self, request: SaveRequest) -> None:
        names = ", ".join(request.references)
        question = PathQuestion(
            title="Save images",
            explanation=f"Where should {names} be saved, as {request.options.format.value}?",
            wanted=PathWanted.NEW_FILE,
            verb="save",
            file_name=request.file_name,
        )

        def answered(target: Path) -> None:
            self.run_task(lambda: self._save(request, target), group="operation")

        self.ask_path(question, answered)

    async def _save(self, request: SaveRequest, target: Path) -> None:
        names = ", ".join(request.references)
        saved = await self.operate(
            f"Saving {names} to {target}",
            lambda engine, listen: engine.save_images(
                request.references, target, options=request.options, progress=listen
            ),
        )
        if saved is not None:
            for warning in saved.warnings:
                self.tell(warning, is_warning=True)
            self.tell(f"Saved {names} to {target} ({formatting.size(saved.size_bytes)})")
            self.images.clear_marks()

    # --- several at once ----------------------------------------------------------------------

    @property
    def _marks_text(self) -> str:
        count = len(self.images.marked)
        intermediate = " with intermediate images " if self.images.shows_intermediate else ""
        return intermediate + (f" {count} marked, esc clears " if count else "")

    def on_image_list_marked(self) -> None:
        """Say how many are marked."""
        self._show_titles()

    def _show_titles(self) -> None:
        """Write the panes' titles; the dashboard does."""
        raise NotImplementedError

    def action_remove_image(self) -> None:
        """Remove what is marked, after asking; without marks the image under the cursor."""
        from tui.screens.dialogs import ConfirmScreen

        rows = self.images.marked
        if not rows:
            super().action_remove_image()
            return
        references = tuple(row.reference for row in rows)
        names = [clean(one, limit=80) for one in references[:_MOST_NAMES]]
        if len(references) > _MOST_NAMES:
            names.append(f"and {len(references) - _MOST_NAMES} more")
        text = "\n".join(("Each goes with the layers that no other image shares:", "", *names))

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.run_task(lambda: self._remove_all(references), group="operation")

        title = f"Remove {len(references)} images?"
        self.app.push_screen(ConfirmScreen(title, text, verb="remove"), answered)

    async def _remove_all(self, references: tuple[str, ...]) -> None:
        removed = await self.operate(
            f"Removing {len(references)} images",
            lambda engine, listen: _removed_of(engine, references, listen),
        )
        if removed is None:
            return
        for error in removed.failures:
            self.tell_error(error)
        freed = formatting.size(removed.freed_bytes)
        self.tell(f"Removed {len(references) - len(removed.failures)} images, {freed} freed")

    # --- import -------------------------------------------------------------------------------

    def action_import_image(self) -> None:
        """Ask for the tar of a root filesystem, then what the image is like, and make it."""
        question = PathQuestion(
            title="Import a root filesystem",
            explanation="A tar of all files of a system, plain or compressed with gzip or zstd.",
            wanted=PathWanted.FILE,
            verb="import",
        )

        def answered(source: Path) -> None:
            from tui.screens.import_form import name_of_file

            self._ask_about_import(source, ImportRequest(name=name_of_file(source)))

        self.ask_path(question, answered)

    def _ask_about_import(self, source: Path, request: ImportRequest, problem: str = "") -> None:
        from tui.screens.import_form import ImportScreen

        def answered(wanted: ImportRequest | None) -> None:
            if wanted is not None:
                self.run_task(lambda: self._import(source, wanted), group="operation")

        self.app.push_screen(ImportScreen(source, request, problem=problem), answered)

    async def _import(self, source: Path, request: ImportRequest) -> None:
        try:
            made = await self.operate(
                f"Importing {source}",
                lambda engine, listen: engine.import_image(source, request, progress=listen),
            )
        except ArchiveError:
            raise
        except InvalidInputError as error:
            self._ask_about_import(source, request, error.message)
            return
        if made is None:
            return
        for warning in made.warnings:
            self.tell(warning, is_warning=True)
        label = made.name or made.image_id[7:19]
        size = formatting.size(made.size_bytes)
        self.tell(f"Imported {label}: {made.entry_count} entries, {size}")
        self.select_row(self.images, f"{made.image_id} {made.name or ''}")


async def _removed_of(
    engine: EngineApi, references: tuple[str, ...], listen: ProgressListener
) -> _Removed:
    """Remove one after the other; one that cannot be removed keeps no other."""
    freed_bytes = 0
    failures: list[EngineError] = []
    for number, reference in enumerate(references):
        step = f"Removing {reference}"
        listen(Progress(step=step, done=number, total=len(references), unit="images"))
        try:
            freed_bytes += (await engine.remove_image(reference)).freed_bytes
        except EngineError as error:
            failures.append(error)
    return _Removed(freed_bytes, tuple(failures))
