"""What the application does with registries: pull, push, log in, and ask again when let in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from engine.errors import (
    EngineError,
    ImageNotFoundError,
    PlatformMismatchError,
    RegistryRefusedError,
)
from engine.types import ChangeKind, FileKind
from tui.sanitise import clean
from tui.screens.actions import ActionScreen, about_moving, holder_of
from tui.transfers import TransferMeter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api import EngineApi
    from engine.operations import ProgressListener
    from engine.types import (
        ContainerRequest,
        FileEntry,
        LoginResult,
        PulledImage,
        PushedImage,
        TransferListener,
    )

Result = TypeVar("Result")

_PULL_GOES_ON = "What has arrived is kept: pull it again, and it goes on where it was"
_PUSH_GOES_ON = "What the registry has stays there: push again, and the rest is sent"
_DONE_SECONDS = 8
_PULL, _LOOK = "pull", "look"


class RegistryActions(ActionScreen):
    """The actions; a registry that refuses is told who one is, if the person says so."""

    def action_registry(self) -> None:
        """Look for images in registries; the dashboard does."""
        raise NotImplementedError

    def look_into(self, name: str) -> None:
        """Show an image in a registry; the dashboard does."""
        raise NotImplementedError

    # --- looking in ---------------------------------------------------------------------------

    def sees_file(self, entry: FileEntry) -> bool:
        """Whether there is a content to show of an entry; says so if there is none."""
        if entry.change is ChangeKind.REMOVED:
            self.tell(f"/{entry.path} is removed by this layer: nothing to show")
        elif entry.kind not in (FileKind.FILE, FileKind.HARD_LINK):
            kind = entry.kind.value.replace("_", " ")
            self.tell(f"/{entry.path} has nothing to show: {kind}")
        else:
            return True
        return False

    def view_remote_file(self, name: str, platform: str, position: int, path: str) -> None:
        """Fetch the layer of a step and show a file of it."""
        from tui.screens.file_view import FileViewScreen

        async def view() -> None:
            file = await self.fetch_from_registry(
                f"Looking at /{path}",
                lambda engine, listen: engine.read_remote_file(
                    name, position, path, platform=platform, progress=listen
                ),
            )
            if file is not None:
                self.app.push_screen(FileViewScreen(file))

        self.run_task(lambda: view(), group="view", is_exclusive=True)

    # --- being let in -------------------------------------------------------------------------

    async def ask_registry(self, call: Callable[[EngineApi], Awaitable[Result]]) -> Result:
        """Ask something of a registry; offers to log in when it refuses.

        Raises:
            EngineError: It failed, or nobody logged in.
        """
        return await self._let_in(lambda: self.bridge.call(call))

    async def fetch_from_registry(
        self, title: str, call: Callable[[EngineApi, ProgressListener], Awaitable[Result]]
    ) -> Result | None:
        """As `ask_registry`, with progress and a cancel; None if it was cancelled."""
        return await self._let_in(lambda: self.operate(title, call))

    async def _let_in(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await ask()
            except RegistryRefusedError as error:
                if await self._ask_who(error.registry, reason=error.message) is None:
                    raise

    async def _ask_who(self, registry: str, *, reason: str = "") -> LoginResult | None:
        """Have the person log in; None if they do not."""
        from tui.screens.login_form import LoginScreen

        answer: asyncio.Future[LoginResult | None] = asyncio.get_running_loop().create_future()

        def answered(result: LoginResult | None) -> None:
            if not answer.done():
                answer.set_result(result)

        screen = LoginScreen(self.bridge, registry=registry, reason=reason)
        self.app.push_screen(screen, answered)
        result = await answer
        if result is not None:
            self._tell_login(result)
        return result

    def _tell_login(self, result: LoginResult) -> None:
        self.tell(f"Logged in to {result.registry} as {result.username}")
        if result.is_plain:
            self.tell(
                f"Your password is stored unencrypted in {result.stored_in}",
                is_warning=True,
                seconds=_DONE_SECONDS,
            )

    def action_log_in(self) -> None:
        """Ask for registry, user and password."""

        async def log_in() -> None:
            await self._ask_who("")

        self.run_task(lambda: log_in(), group="login")

    def action_log_out(self) -> None:
        """Ask for a registry, and forget who one is to it."""
        from tui.screens.dialogs import PromptScreen

        async def log_out(registry: str) -> None:
            was_known = await self.operate(
                f"Logging out of {registry}", lambda engine, _listen: engine.log_out(registry)
            )
            if was_known is not None:
                done = "Removed the login for" if was_known else "Not logged in to"
                self.tell(f"{done} {registry}")

        def answered(registry: str | None) -> None:
            if registry:
                self.run_task(lambda: log_out(registry), group="login")

        prompt = PromptScreen("Log out", "Of which registry?", value="docker.io")
        self.app.push_screen(prompt, answered)

    # --- pull ---------------------------------------------------------------------------------

    def pull(
        self,
        name: str,
        *,
        platform: str = "",
        pulled: Callable[[PulledImage], None] = lambda _image: None,
    ) -> None:
        """Pull an image, for this host unless a platform is named; hand it on when it is here."""

        async def run() -> None:
            image = await self._pull(name, platform)
            if image is not None:
                pulled(image)
                # Never under the fingers of who moves about in the list meanwhile.
                if not self.is_active:
                    self.select_row(self.images, f"{image.image_id} {image.name}")

        self.run_task(lambda: run(), group="operation")

    async def _pull(self, name: str, platform: str = "") -> PulledImage | None:
        def call(engine: EngineApi, listen: TransferListener) -> Awaitable[PulledImage]:
            return engine.pull_image(name, platform=platform, progress=listen)

        about = f" for {platform}" if platform else ""
        try:
            image = await self._transfer(f"Pulling {name}{about}", call, remark=_PULL_GOES_ON)
        except PlatformMismatchError as error:
            chosen = await self.choose_platform(error.message, error.platforms)
            return await self._pull(name, chosen) if chosen else None
        if image is None:
            return None
        text = f"Pulled {image.name}" if image.is_new else f"{image.name} is up to date"
        self.tell(text, seconds=_DONE_SECONDS)
        for warning in image.warnings:
            self.tell(warning, is_warning=True)
        return image

    async def _transfer(
        self,
        title: str,
        call: Callable[[EngineApi, TransferListener], Awaitable[Result]],
        *,
        remark: str,
    ) -> Result | None:
        """Move an image; says itself what failed, and that it goes on where it was.

        Raises:
            PlatformMismatchError: There is none for the platform: another one may do.
        """
        meter = TransferMeter()
        try:
            return await self._let_in(
                lambda: self.transfer(title, call, meter=meter, when_cancelled=remark)
            )
        except PlatformMismatchError:
            raise
        except EngineError as error:
            self.tell_error(error, remark=remark if meter.has_moved else "")
            return None

    # --- run what is not here -----------------------------------------------------------------

    async def _run(self, request: ContainerRequest) -> None:
        if await self._has_image(request):
            await super()._run(request)

    async def _has_image(self, request: ContainerRequest) -> bool:
        """Whether the image of a new container is here; offers to pull one that is not."""
        name = request.image
        try:
            await self.bridge.call(lambda engine: engine.inspect_image(name))
        except ImageNotFoundError:
            self._offer_pull(request)
            return False
        return True

    def _offer_pull(self, request: ContainerRequest) -> None:
        from tui.screens.dialogs import Choice, ChoiceScreen

        name = request.image

        async def pull_and_run() -> None:
            if await self._pull(name) is not None:
                await self._run(request)

        def answered(answer: str | None) -> None:
            if answer == _PULL:
                self.run_task(lambda: pull_and_run(), group="operation")
            elif answer == _LOOK:
                self.look_into(name)

        choices = (
            Choice(label=f"Pull {name}, then run it", value=_PULL),
            Choice(label="Look into it first, without pulling it", value=_LOOK),
        )
        self.app.push_screen(ChoiceScreen(f"{name} is not here", choices), answered)

    # --- delete -------------------------------------------------------------------------------

    def delete_remote(self, name: str, *, deleted: Callable[[], None]) -> None:
        """Have a registry forget an image, after asking."""
        from tui.screens.dialogs import ConfirmScreen

        async def delete() -> None:
            digest = await self.fetch_from_registry(
                f"Deleting {name}", lambda engine, _listen: engine.delete_remote_image(name)
            )
            if digest is not None:
                self.tell(f"Deleted {name} from its registry")
                deleted()

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.run_task(lambda: delete(), group="operation")

        text = (
            f"{clean(name, limit=300)}\n\nThe registry forgets this image for everybody,\n"
            "under every tag that it has there. What is here stays."
        )
        self.app.push_screen(
            ConfirmScreen("Delete from the registry?", text, verb="delete"), answered
        )

    # --- push ---------------------------------------------------------------------------------

    def action_push_image(self) -> None:
        """Ask under which name, then push."""
        from tui.screens.dialogs import PromptScreen

        row = self.selected_image
        if row is None:
            self.app.bell()
            return
        reference, name, image_id = row.reference, row.name, row.image.image_id
        asked_about = ""

        async def push(wanted: str) -> str:
            nonlocal asked_about
            if wanted != name:
                try:
                    holder = await self.bridge.call(lambda engine: holder_of(engine, wanted))
                    is_others = holder is not None and holder.image_id != image_id
                    if holder is not None and is_others and asked_about != wanted:
                        asked_about = wanted
                        return about_moving(wanted, holder)
                    await self.bridge.call(lambda engine: engine.tag_image(reference, wanted))
                except EngineError as error:
                    return f"{error.message}\n{error.hint}".strip()
            self.run_task(lambda: self._push(wanted), group="operation")
            return ""

        explanation = (
            f"Give {clean(name, limit=200) or image_id[7:19]} to the registry that this name is "
            "of. Another name is given to the image here first."
        )
        prompt = PromptScreen(
            "Push",
            explanation,
            value=name,
            validate=lambda text: "" if text else "Under which name? HOST/REPOSITORY:TAG",
            act=push,
        )
        self.app.push_screen(prompt)

    async def _push(self, wanted: str) -> None:
        def call(engine: EngineApi, listen: TransferListener) -> Awaitable[PushedImage]:
            return engine.push_image(wanted, progress=listen)

        pushed = await self._transfer(f"Pushing {wanted}", call, remark=_PUSH_GOES_ON)
        if pushed is not None:
            self.tell(f"Pushed {pushed.name}: digest {pushed.digest[:19]}", seconds=_DONE_SECONDS)
