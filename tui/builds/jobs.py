"""A build that this application runs, and a context that it watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import BuildChanged
from tui.builds.funnel import BuildNews
from tui.builds.model import BuildModel

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from engine.types import BuildProgress, BuildRequest, BuiltImage
    from tui.builds.funnel import BuildFunnel


class BuildJob:
    """A build in the list of builds.

    Args:
        key: Its own among all builds of the application.
        model: What is known of it.
        funnel: Hears of it; None of one that somebody else asked for.
    """

    def __init__(self, key: str, model: BuildModel, funnel: BuildFunnel | None = None) -> None:
        self.key = key
        self.model = model
        self.funnel = funnel
        self.task: asyncio.Future[BuiltImage] | None = None
        """Runs as long as the build does."""
        self.watch: ContextWatch | None = None
        """Builds it again when the context changes."""
        self.changed_paths: tuple[str, ...] = ()
        """What changed in the context, for which it was begun."""
        self.has_history = False
        """Whether it was compared with the build before it."""

    @property
    def is_running(self) -> bool:
        """Whether this application has it done now."""
        return self.task is not None and not self.task.done()

    @property
    def runs_elsewhere(self) -> bool:
        """Whether another application has it done now, as far as is known."""
        return self.funnel is None and self.model.is_running

    def renew(self, progress: BuildProgress) -> None:
        """Put in what the store says of it now."""
        if progress != self.model.progress:
            whole = BuildChanged(progress=progress)
            self.model.take(BuildNews(whole=whole, steps=(), output=(), lost_bytes={}))

    def cancel(self) -> None:
        """End it, if it runs."""
        if self.task is not None:
            self.task.cancel()

    def take_news(self) -> None:
        """Put in what was told since the last time."""
        if self.funnel is not None:
            self.model.take(self.funnel.take())


def written_job(progress: BuildProgress) -> BuildJob:
    """A build of the store that this application has not asked for, ended or not."""
    return BuildJob(progress.build_id, BuildModel(progress=progress))


class ContextWatch:
    """A context whose changes begin builds.

    Args:
        request: What is built.
        latest: The newest build of it.
        stop: Ends the watching.
    """

    def __init__(
        self, request: BuildRequest, latest: BuildJob, *, stop: Callable[[], object]
    ) -> None:
        self.request = request
        self.latest = latest
        self.stop = stop
        self._changed: dict[str, None] = {}

    def note(self, paths: tuple[str, ...]) -> None:
        """Keep what has changed until the next build begins."""
        self._changed.update(dict.fromkeys(paths))

    def take(self) -> tuple[str, ...]:
        """What has changed since the last build began."""
        paths = tuple(self._changed)
        self._changed.clear()
        return paths
