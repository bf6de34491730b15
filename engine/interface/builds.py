"""What can be asked about builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.types import BuildCacheFilter, ignore_build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from engine.types import (
        BuildCacheEntry,
        BuildEvent,
        BuildListener,
        BuildProgress,
        BuildRequest,
        BuiltImage,
        FileContent,
        FileTree,
        ImageId,
        PrunedBuildCache,
    )


class BuildApi(Protocol):
    """What can be asked about builds.

    A build lives in the engine that was asked for it; `list_builds` also knows how others of the
    same store have ended and, a second late, how far they are.
    """

    async def build_image(
        self, request: BuildRequest, *, listener: BuildListener = ignore_build
    ) -> BuiltImage:
        """Build an image from a Dockerfile.

        Cancelling ends what runs, within moments; what was finished serves the next build, and
        nothing else is left.

        Args:
            request: What is wanted.
            listener: Hears first of everything there is to do, then of what is done.

        Raises:
            DockerfileError: The Dockerfile is not one; says where and what was expected.
            BuildStepError: A step failed.
            InvalidInputError: The request makes no sense.
        """

    async def plan_build(self, request: BuildRequest) -> BuildProgress:
        """Read and check the Dockerfile, and say what a build would do; nothing is run or pulled.

        Raises:
            DockerfileError: The Dockerfile is not one.
            InvalidInputError: The request makes no sense.
        """

    async def list_builds(self, name: str = "") -> tuple[BuildProgress, ...]:
        """All builds of the store, newest first; one that was killed has failed.

        Args:
            name: Only those that gave this name to their image.
        """

    def follow_build(self, build_id: str) -> AsyncIterator[tuple[BuildEvent, ...]]:
        """Yield how a running build is, then what changes, until it has ended.

        Begins with everything so far, output included; who is slow misses no step's last state.

        Raises:
            BuildNotFoundError: This engine has no such build.
        """

    async def read_step_log(self, build_id: str, position: int) -> bytes:
        """What a step has written, both streams in one; of a very long log the end.

        Raises:
            BuildNotFoundError: This engine has not made the build, or it has no such step.
        """

    async def list_step_files(self, build_id: str, position: int) -> FileTree:
        """What a finished step has changed, also while the build goes on.

        Raises:
            BuildNotFoundError: There is no such build or step, or it has no layer.
        """

    async def read_step_file(self, build_id: str, position: int, path: str) -> FileContent:
        """The beginning of a file that a finished step has made.

        Raises:
            BuildNotFoundError: As `list_step_files`.
        """

    async def make_step_image(self, build_id: str, position: int) -> ImageId:
        """An image without a name of what is there after a finished step, to look around in.

        Raises:
            BuildNotFoundError: There is no such build or step, or it has not ended well.
        """

    async def record_intermediate_images(self) -> None:
        """Have an image without a name of what there was after each step of the named images.

        Only of those that were built here. `list_images` has them from then on, as intermediate;
        they go with the image that stands on them.
        """

    def watch_context(
        self, request: BuildRequest, *, since: float | None = None
    ) -> AsyncIterator[tuple[str, ...]]:
        """Yield what changes in the context, some paths at a time, for as long as it is asked.

        What .dockerignore leaves out is no change; what comes within a moment comes together.

        Args:
            request: Says which.
            since: What has changed after that time comes first (seconds since the epoch), as far
                as the file system knows.

        Raises:
            InvalidInputError: The context is no directory.
        """

    async def list_build_cache(self) -> tuple[BuildCacheEntry, ...]:
        """What is kept for later builds, the last used first."""

    async def prune_build_cache(self, wanted: BuildCacheFilter) -> PrunedBuildCache:
        """Forget entries, and remove the layers that nothing else has; not what a build uses."""
