"""How a screen asks for a path of this host."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from tui.screens.operations import OperationScreen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tui.keymap import Command


class PathWanted(Enum):
    """What is asked for."""

    FILE = "file"
    FILE_OR_DIRECTORY = "file or directory"
    NEW_FILE = "new file"
    """A regular file that is there may be replaced, after asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathQuestion:
    """What the picker asks."""

    title: str
    explanation: str
    wanted: PathWanted
    verb: str
    """What comes of the answer: `load`, `save`."""
    file_name: str = ""
    """What a new file is called unless it is changed."""


class PathScreen(OperationScreen):
    """Opens the file picker where it was left."""

    _picker_directory = ""

    def keys_of(self, command: Command) -> str:
        """The keys of a command; the screen that knows the settings does."""
        raise NotImplementedError

    def ask_path(self, question: PathQuestion, answered: Callable[[Path], None]) -> None:
        """Ask for a path; without an answer nothing happens."""
        from tui.screens.file_picker import FilePicker

        picker = FilePicker(question, directory=self._picker_directory, keys_of=self.keys_of)

        def closed(path: Path | None) -> None:
            if path is not None:
                self._picker_directory = picker.directory
                answered(path)

        self.app.push_screen(picker, closed)
