"""What the keys of containers do about images made of them and files copied in and out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.types import CommitRequest, ContainerStatus
from tui import format as formatting
from tui.screens.actions import ActionScreen
from tui.screens.paths import PathQuestion, PathWanted

if TYPE_CHECKING:
    from pathlib import Path

    from engine.api import EngineApi
    from engine.operations import ProgressListener
    from engine.types import CopyResult


class CopyActions(ActionScreen):
    """Commit, copy and export of the selected container."""

    def action_commit_container(self) -> None:
        """Ask what the image is called, then make it and show it."""
        from tui.screens.commit_form import CommitScreen

        container = self.chosen_container()
        if container is None:
            return
        identity, name = container.container_id, container.name

        def answered(request: CommitRequest | None) -> None:
            if request is not None:
                self.run_task(lambda: self._commit(identity, name, request), group="operation")

        is_running = container.status is ContainerStatus.RUNNING
        self.app.push_screen(CommitScreen(name, is_running=is_running), answered)

    async def _commit(self, identity: str, name: str, request: CommitRequest) -> None:
        made = await self.operate(
            f"Making an image of {name}",
            lambda engine, listen: engine.commit_container(identity, request, progress=listen),
        )
        if made is None:
            return
        for warning in made.warnings:
            self.tell(warning, is_warning=True)
        label = made.name or made.image_id[7:19]
        self.tell(f"Made {label}: one layer more, {formatting.size(made.size_bytes)}")
        self.select_row(self.images, f"{made.image_id} {made.name or ''}")
        # Its stack is the one that the writable layer lay on, with the new layer on top.
        self.action_pane("images")

    def action_copy_out(self) -> None:
        """Ask for a path in the container and one here, then copy."""
        from tui.screens.dialogs import PromptScreen

        container = self.chosen_container()
        if container is None:
            return
        identity, name = container.container_id, container.name

        def where_to(path: str | None) -> None:
            if not path:
                return

            def answered(target: Path) -> None:
                self._copy(
                    f"Copying {path} from {name}",
                    lambda engine, listen: engine.copy_from_container(
                        identity, path, str(target), progress=listen
                    ),
                    f"Copied {path} to {target}",
                )

            question = PathQuestion(
                title="Copy out",
                explanation=f"Where should {path} of {name} go?",
                wanted=PathWanted.NEW_FILE,
                verb="copy",
                file_name=path.rstrip("/.").rpartition("/")[2] or name,
            )
            self.ask_path(question, answered)

        prompt = PromptScreen(
            "Copy out",
            f"Which file or directory of {name}? `DIRECTORY/.` is only what is in it.",
            validate=_wants_text,
        )
        self.app.push_screen(prompt, where_to)

    def action_copy_in(self) -> None:
        """Ask for a path here and one in the container, then copy."""
        from tui.screens.dialogs import PromptScreen

        container = self.chosen_container()
        if container is None:
            return
        identity, name = container.container_id, container.name

        def where_to(source: Path) -> None:
            def answered(path: str | None) -> None:
                if path:
                    self._copy(
                        f"Copying {source} to {name}",
                        lambda engine, listen: engine.copy_to_container(
                            identity, str(source), path, progress=listen
                        ),
                        f"Copied {source} to {name}:{path}",
                    )

            prompt = PromptScreen("Copy in", f"Where in {name} should it go?", value="/")
            self.app.push_screen(prompt, answered)

        question = PathQuestion(
            title="Copy in",
            explanation=f"Which file or directory should go into {name}?",
            wanted=PathWanted.FILE_OR_DIRECTORY,
            verb="copy",
        )
        self.ask_path(question, where_to)

    def _copy(self, title: str, call: CopyCall, done: str) -> None:
        async def copy() -> None:
            result = await self.operate(title, call)
            if result is not None:
                for warning in result.warnings:
                    self.tell(warning, is_warning=True)
                self.tell(f"{done} ({formatting.size(result.size_bytes)})")

        self.run_task(lambda: copy(), group="operation")

    def action_export_container(self) -> None:
        """Ask for a file and write the container's files to it as a tar."""
        container = self.chosen_container()
        if container is None:
            return
        identity, name = container.container_id, container.name

        def answered(target: Path) -> None:
            self.run_task(lambda: self._export(identity, name, target), group="operation")

        question = PathQuestion(
            title="Export",
            explanation=f"Write all files of {name}, without its volumes, as a tar archive to:",
            wanted=PathWanted.NEW_FILE,
            verb="export",
            file_name=f"{name}.tar",
        )
        self.ask_path(question, answered)

    async def _export(self, identity: str, name: str, target: Path) -> None:
        unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(unfinished, flags, 0o600)
        except OSError as error:
            self.tell(f"Cannot write {target}: {error.strerror}", is_warning=True)
            return
        try:
            result = await self.operate(
                f"Exporting {name}",
                lambda engine, listen: engine.export_container(
                    identity, descriptor, progress=listen
                ),
            )
            if result is not None:
                os.rename(unfinished, target)
                size = formatting.size(result.size_bytes)
                self.tell(f"Exported {name} to {target} ({size})")
        except OSError as error:
            self.tell(f"Cannot write {target}: {error.strerror}", is_warning=True)
        finally:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)


def _wants_text(text: str) -> str:
    return "" if text else "Which file or directory?"


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    CopyCall = Callable[[EngineApi, ProgressListener], Awaitable[CopyResult]]
