"""`--filter KEY=VALUE`: Docker's keys, each with its rule.

Values of one key are alternatives, but for labels, which must all be there; different keys must
all hold.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, NotFoundError
from engine.types import ContainerStatus, PruneFilter
from tui.cli.options import UsageError
from tui.cli.values import moment_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from engine.api import EngineApi
    from engine.events import Event
    from engine.types import ContainerSummary, ImageSummary

CONTAINER_KEYS = (
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish",
    "since", "status", "volume",
)  # fmt: skip
IMAGE_KEYS = ("before", "dangling", "label", "reference", "since", "until")
EVENT_KEYS = ("action", "container", "event", "image", "label", "network", "type", "volume")
NETWORK_KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_KEYS = ("label", "label!", "until")
IMAGE_PRUNE_KEYS = ("dangling", *PRUNE_KEYS)
_EVENT_SUBJECTS = ("container", "image", "network", "volume")
_PORT_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_HIGHEST_PORT = 65535


class Filters:
    """The filters of one command line."""

    def __init__(self, texts: Sequence[str], *, known: Collection[str], command: str) -> None:
        """Read them.

        Raises:
            UsageError: One has no value, or a key that the command does not know.
        """
        self._values: dict[str, list[str]] = {}
        for text in texts:
            key, has_value, value = text.partition("=")
            key = key.strip().lower()
            if not has_value:
                raise UsageError(f"invalid filter: {text}, it needs KEY=VALUE", command=command)
            if key not in known:
                keys = ", ".join(known)
                raise UsageError(f"invalid filter: {key}, one of {keys}", command=command)
            self._values.setdefault(key, []).append(value.strip())

    def values(self, key: str) -> tuple[str, ...]:
        """The values of a key."""
        return tuple(self._values.get(key, ()))

    @property
    def asks_for_state(self) -> bool:
        """Whether containers that do not run are meant as well, without being asked for by -a."""
        return bool({"status", "exited"} & set(self._values))

    def newest(self, key: str) -> str | None:
        """The last value of a key that has one."""
        return self._values[key][-1] if key in self._values else None


def prune_filter(
    texts: Sequence[str], *, command: str, known: Collection[str] = PRUNE_KEYS
) -> PruneFilter:
    """Read the filters of a prune: `until`, `label` and `label!`.

    Raises:
        InvalidInputError: One makes no sense.
    """
    filters = Filters(texts, known=known, command=command)
    until_ns = moment_ns("--filter until", filters.newest("until"))
    return PruneFilter(
        created_before=None if until_ns is None else until_ns / 1e9,
        label_filters=(
            *filters.values("label"),
            *(f"!{value}" for value in filters.values("label!")),
        ),
    )


def has_labels(labels: Iterable[tuple[str, str]], wanted: Iterable[str]) -> bool:
    """Whether every wanted label (`name` or `name=value`) is among some labels."""
    found = dict(labels)
    for text in wanted:
        name, has_value, value = text.partition("=")
        if name not in found or (has_value and found[name] != value):
            return False
    return True


async def container_filter(
    engine: EngineApi, filters: Filters, containers: Sequence[ContainerSummary]
) -> Callable[[ContainerSummary], bool]:
    """Make the filter of `ps`; `before` and `since` look their containers up.

    Raises:
        InvalidInputError: A value makes no sense.
        NotFoundError: A container or an image that a filter names is not there.
    """
    statuses = {_status(value) for value in filters.values("status")}
    codes = {_exit_code(value) for value in filters.values("exited")}
    healths = {_health(value) for value in filters.values("health")}
    ids = [_pattern(value) for value in filters.values("id")]
    names = [_pattern(value) for value in filters.values("name")]
    volumes = filters.values("volume")
    networks = await _network_names(engine, filters.values("network"))
    exposed = {side for value in filters.values("expose") for side in _sides("expose", value)}
    published = {side for value in filters.values("publish") for side in _sides("publish", value)}
    asks_for_ports = bool(exposed or published)
    sides = {one.container_id: await _asked(engine, one) for one in containers if asks_for_ports}
    before = [await _created_at(engine, value) for value in filters.values("before")]
    since = [await _created_at(engine, value) for value in filters.values("since")]
    ancestors = filters.values("ancestor")
    images = {
        image_id
        for ancestor in ancestors
        for image_id in await _descendants(engine, ancestor, containers)
    }

    def keeps(container: ContainerSummary) -> bool:
        return (
            (not statuses or container.status in statuses)
            and (not codes or (container.exit_code in codes and _has_ended(container)))
            and (not healths or (container.health or "none") in healths)
            and (not ids or any(map(_matches(container.container_id), ids)))
            and (not names or any(map(_matches(container.name, f"/{container.name}"), names)))
            and has_labels(container.labels, filters.values("label"))
            and all(container.created_at < moment for moment in before)
            and all(container.created_at > moment for moment in since)
            and (not ancestors or container.image_id in images)
            and (
                not volumes
                or any(
                    volume in (m.source, m.target) for m in container.mounts for volume in volumes
                )
            )
            and (networks is None or not networks.isdisjoint(container.network_names))
            and (not published or not published.isdisjoint(sides[container.container_id]))
            and (
                not exposed
                or not exposed.isdisjoint(
                    {*container.exposed_ports, *sides[container.container_id]}
                )
            )
        )

    return keeps


async def _network_names(engine: EngineApi, wanted: Sequence[str]) -> set[str] | None:
    """The networks whose name or beginning of an id is wanted; None if none is asked for."""
    if not wanted:
        return None
    found = set(wanted)
    for network in await engine.list_networks():
        if any(value and network.network_id.startswith(value) for value in wanted):
            found.add(network.name)
    return found


def _sides(key: str, value: str) -> Iterable[str]:
    """The ports, `80/tcp`, that `80`, `53/udp` or `8000-8010/tcp` of a filter stands for."""
    if ":" in value:
        raise InvalidInputError(f"filter for '{key}' should not contain ':': {value}")
    match = _PORT_RANGE.fullmatch(value)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 0 < first <= last <= _HIGHEST_PORT:
        raise InvalidInputError(
            f"invalid filter: {key}={value}, a port such as 80, 53/udp or 8000-8010/tcp"
        )
    return (f"{number}/{match[3] or 'tcp'}" for number in range(first, last + 1))


async def _asked(engine: EngineApi, container: ContainerSummary) -> frozenset[str]:
    """What a container publishes, also while it does not run."""
    published = container.ports
    try:
        published += (
            await engine.inspect_container(container.container_id)
        ).network.published_ports
    except NotFoundError:
        return frozenset()  # Removed meanwhile.
    return frozenset(f"{port.container_port}/{port.protocol}" for port in published)


async def image_filter(
    engine: EngineApi, filters: Filters, until: float | None
) -> Callable[[ImageSummary], bool]:
    """Make the filter of `images`; `reference` is applied to each name by `meant_names`."""
    is_dangling = truth_of(filters, "dangling")
    before = [await _image_time(engine, value) for value in filters.values("before")]
    since = [await _image_time(engine, value) for value in filters.values("since")]

    def keeps(image: ImageSummary) -> bool:
        created = image.created_at or 0.0
        return (
            (is_dangling is None or is_dangling is not bool(image.names))
            and has_labels(image.labels, filters.values("label"))
            and all(created < moment for moment in before)
            and all(created > moment for moment in since)
            and (until is None or created < until)
        )

    return keeps


def truth_of(filters: Filters, key: str) -> bool | None:
    """What a filter of two values says; None when it was not given."""
    value = filters.newest(key)
    if value not in (None, "true", "false", "1", "0"):
        raise InvalidInputError(f"invalid filter: {key}={value}, true or false")
    return None if value is None else value in ("true", "1")


def meant_names(image: ImageSummary, patterns: Sequence[str]) -> tuple[str, ...]:
    """The names of an image that one of the patterns (`web`, `web:*`, `*/web`) means.

    As Go's path.Match has it: a star or a question mark stands for no slash.

    Raises:
        InvalidInputError: A pattern is none.
    """
    if not patterns:
        return image.names
    matchers = [_path_pattern(pattern) for pattern in patterns]
    return tuple(
        name
        for name in image.names
        if any(
            matcher.fullmatch(form)
            for matcher in matchers
            for form in (name, name.rpartition(":")[0])
        )
    )


_PATH_PATTERN = re.compile(
    r"(?P<star>\*)|(?P<any>\?)|\[(?P<not>\^?)(?P<set>(?:\\.|[^\]\\])+)\]|(?P<escaped>\\.)"
    r"|(?P<plain>[^\\\[])",
    re.DOTALL,
)


def _path_pattern(text: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(text):
        part = _PATH_PATTERN.match(text, position)
        if part is None:
            raise InvalidInputError(
                f"invalid filter: reference={text}, a bracket or \\ is not closed"
            )
        position = part.end()
        if part["star"]:
            parts.append("[^/]*")
        elif part["any"]:
            parts.append("[^/]")
        elif part["set"]:
            inside = part["set"].replace("[", r"\[").replace("&&", r"&\&").replace("||", r"|\|")
            parts.append(f"(?!/)[{part['not']}{inside}]")
        else:
            parts.append(re.escape((part["escaped"] or part["plain"])[-1]))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        raise InvalidInputError(
            f"invalid filter: reference={text}, a range is the wrong way round"
        ) from None


def event_filter(filters: Filters) -> Callable[[Event], bool]:
    """Make the filter of `events`; an image's name means the events of its containers too."""
    actions = (*filters.values("event"), *filters.values("action"))
    kinds = filters.values("type")
    subjects = [(kind, filters.values(kind)) for kind in _EVENT_SUBJECTS]

    def keeps(event: Event) -> bool:
        return (
            # `health_status` means `health_status: healthy`, as `exec_start` its command.
            (not actions or event.action in actions or event.action.partition(":")[0] in actions)
            and (not kinds or event.subject.value in kinds)
            and has_labels(event.attributes, filters.values("label"))
            and all(not wanted or _is_about(event, kind, wanted) for kind, wanted in subjects)
        )

    return keeps


def _is_about(event: Event, kind: str, wanted: Sequence[str]) -> bool:
    names = {event.name}
    if kind == "image" and event.subject.value == "container":
        names = {event.attribute("image") or ""}
    elif event.subject.value != kind:
        return False
    elif any(
        value and event.subject_id.removeprefix("sha256:").startswith(value.removeprefix("sha256:"))
        for value in wanted
    ):
        return True
    if kind == "image":
        names |= {name.rpartition(":")[0] for name in names}
    return not names.isdisjoint(wanted)


def _has_ended(container: ContainerSummary) -> bool:
    return container.status in (ContainerStatus.EXITED, ContainerStatus.DEAD)


def _status(value: str) -> ContainerStatus:
    try:
        return ContainerStatus(value)
    except ValueError:
        known = ", ".join(ContainerStatus)
        raise InvalidInputError(f"invalid filter: status={value}, one of {known}") from None


def _health(value: str) -> str:
    known = ("starting", "healthy", "unhealthy", "none")
    if value not in known:
        raise InvalidInputError(f"invalid filter: health={value}, one of {', '.join(known)}")
    return value


def _exit_code(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInputError(f"invalid filter: exited={value}, a number") from None


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except (re.error, RecursionError):
        return re.compile(re.escape(value))


def _matches(*texts: str) -> Callable[[re.Pattern[str]], bool]:
    return lambda pattern: any(pattern.search(text) for text in texts)


async def _created_at(engine: EngineApi, reference: str) -> float:
    return (await engine.inspect_container(reference)).summary.created_at


async def _image_time(engine: EngineApi, reference: str) -> float:
    return (await engine.inspect_image(reference)).summary.created_at or 0.0


async def _descendants(
    engine: EngineApi, reference: str, containers: Sequence[ContainerSummary]
) -> set[str]:
    """The images of these containers that are an image, or stand on its layers."""
    from engine.errors import ImageNotFoundError

    try:
        ancestor = await engine.inspect_image(reference)
    except ImageNotFoundError:
        return set()  # As Docker: nothing descends from what is not there.
    layers = [layer.chain_id for layer in ancestor.layers if layer.chain_id]
    found: set[str] = {ancestor.summary.image_id}
    for image_id in {container.image_id for container in containers} - found:
        try:
            own = [layer.chain_id for layer in (await engine.inspect_image(image_id)).layers]
        except ImageNotFoundError:
            continue
        if layers and layers[-1] in own:
            found.add(image_id)
    return found
