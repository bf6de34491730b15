"""What the keys of the whole store do: show its events, and clean it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.types import BuildCacheFilter, ContainerStatus, PruneFilter
from tui import format as formatting
from tui.sanitise import clean
from tui.screens.operations import OperationScreen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.api import EngineApi
    from engine.types import BuildCacheEntry, DiskUsageDetails, Network

_ALIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING)
_MOST_NAMES = 8


class _Unused(NamedTuple):
    """One kind of thing that nobody uses."""

    label: str
    names: tuple[str, ...]
    size_bytes: int | None
    """None of what has no size."""
    remove: Callable[[EngineApi], Awaitable[int]]
    """Removes them, and says how many bytes that freed."""


class StoreScreen(OperationScreen):
    """Events and cleaning up."""

    def action_events(self) -> None:
        """Show the events of the last day, and follow what happens."""
        from tui.screens.events import EventsScreen

        self.app.push_screen(EventsScreen(self.bridge))

    def action_prune(self) -> None:
        """Measure what nobody uses, ask which of it is to go, and remove it."""
        self.run_task(lambda: self._offer_prune(), group="operation")

    async def _offer_prune(self) -> None:
        from tui.screens.dialogs import Choice, ChoiceScreen

        unused = await self.operate(
            "Measuring what nobody uses", lambda engine, _listen: _measure(engine)
        )
        if unused is None:
            return
        kinds = {kind.label: kind for kind in unused if kind.names}
        if not kinds:
            self.tell("Nothing to clean up: everything is in use")
            return

        def answered(label: str | None) -> None:
            if label is not None:
                self._confirm_prune(kinds[label])

        choices = tuple(
            Choice(
                label=f"{kind.label:<32} {len(kind.names):>4}  "
                + ("" if kind.size_bytes is None else formatting.size(kind.size_bytes)),
                value=kind.label,
            )
            for kind in kinds.values()
        )
        self.app.push_screen(ChoiceScreen("Remove what nobody uses", choices), answered)

    def _confirm_prune(self, kind: _Unused) -> None:
        from tui.screens.dialogs import ConfirmScreen

        names = [clean(name, limit=80) for name in kind.names[:_MOST_NAMES]]
        if len(kind.names) > _MOST_NAMES:
            names.append(f"and {len(kind.names) - _MOST_NAMES} more")
        explanation = "\n".join(("What is removed cannot be had back:", "", *names))

        async def remove() -> None:
            freed_bytes = await self.operate(
                f"Removing: {kind.label}", lambda engine, _listen: kind.remove(engine)
            )
            if freed_bytes is not None:
                freed = "" if kind.size_bytes is None else f", {formatting.size(freed_bytes)} freed"
                self.tell(f"Removed: {kind.label}{freed}")

        def answered(answer: bool | None) -> None:  # noqa: FBT001 - Textual calls it
            if answer:
                self.run_task(lambda: remove(), group="operation")

        title = f"Remove {len(kind.names)}: {kind.label}?"
        self.app.push_screen(ConfirmScreen(title, explanation, verb="remove"), answered)


async def _measure(engine: EngineApi) -> tuple[_Unused, ...]:
    return (
        *_unused(await engine.disk_usage_details(), await unused_networks(engine)),
        _unused_cache(await engine.list_build_cache()),
    )


async def unused_networks(engine: EngineApi) -> tuple[Network, ...]:
    """Those that no container is to be in, running or not."""
    used = {name for one in await engine.list_containers() for name in one.network_names}
    networks = await engine.list_networks()
    return tuple(one for one in networks if not one.is_predefined and one.name not in used)


def _unused_cache(entries: tuple[BuildCacheEntry, ...]) -> _Unused:
    own = [one for one in entries if not one.is_shared and not one.is_mount]
    return _Unused(
        "steps of builds that no image has",
        tuple(one.text for one in own),
        sum(one.size_bytes for one in own),
        _prune_build_cache,
    )


def _unused(usage: DiskUsageDetails, networks: tuple[Network, ...]) -> tuple[_Unused, ...]:
    stopped = [one for one in usage.containers if one.container.status not in _ALIVE]
    images = [one for one in usage.images if not one.image.container_count]
    nameless = [one for one in images if not one.image.names]
    volumes = [
        one for one in usage.volumes if one.volume.is_anonymous and not one.volume.container_names
    ]
    return (
        _Unused(
            "containers that do not run",
            tuple(one.container.name for one in stopped),
            sum(one.size_bytes for one in stopped),
            _prune_containers,
        ),
        _Unused(
            "images without a name",
            tuple(one.image.image_id[7:19] for one in nameless),
            sum(one.own_bytes for one in nameless),
            _prune_nameless_images,
        ),
        _Unused(
            "images without a container",
            tuple(", ".join(one.image.names) or one.image.image_id[7:19] for one in images),
            usage.reclaimable_images_bytes,
            _prune_images,
        ),
        _Unused(
            "volumes without a name",
            tuple(one.volume.name for one in volumes),
            sum(one.size_bytes for one in volumes),
            _prune_volumes,
        ),
        _Unused(
            "networks without a container",
            tuple(one.name for one in networks),
            None,
            _prune_networks,
        ),
    )


async def _prune_containers(engine: EngineApi) -> int:
    return (await engine.prune_containers(PruneFilter())).freed_bytes


async def _prune_nameless_images(engine: EngineApi) -> int:
    return (await engine.prune_images(PruneFilter())).freed_bytes


async def _prune_images(engine: EngineApi) -> int:
    return (await engine.prune_images(PruneFilter(), includes_named=True)).freed_bytes


async def _prune_networks(engine: EngineApi) -> int:
    await engine.prune_networks(PruneFilter())
    return 0


async def _prune_build_cache(engine: EngineApi) -> int:
    return (await engine.prune_build_cache(BuildCacheFilter())).freed_bytes


async def _prune_volumes(engine: EngineApi) -> int:
    return (await engine.prune_volumes()).freed_bytes
