"""A map of one network: the world, the host, the bridge with its gateway, and who is behind it."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from engine.late_dataclasses import dataclass
from engine.types import NetworkDriver
from tui.sanitise import clean
from tui.short_ports import port_texts
from tui.widgets.networks import RUNNING
from tui.widgets.rows import Cell, fit

if TYPE_CHECKING:
    from engine.types import (
        ContainerId,
        ContainerSummary,
        Network,
        NetworkDetails,
        NetworkMember,
        PublishedPort,
    )

SIDE_BY_SIDE_FROM_COLUMNS = 92
_JOIN = "container:"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
_LONGEST_BOX_LINE = 26
_ADDRESS_WIDTH = 15
_LINK_WIDTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MapMember:
    """A container on the map."""

    container_id: ContainerId
    name: str
    is_running: bool
    ipv4_address: str = ""
    """Without the prefix."""
    ipv6_address: str = ""
    ports: tuple[PublishedPort, ...] = ()
    aliases: tuple[str, ...] = ()
    other_networks: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    """Containers that share its network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPicture:
    """What a map is drawn of."""

    network: Network
    members: tuple[MapMember, ...]
    """By name, those that run first."""
    host_name: str
    is_rootless: bool = False
    """There are no bridges: each goes out by itself, as a program of the host's."""
    warnings: tuple[str, ...] = ()


def picture_of(
    details: NetworkDetails,
    containers: tuple[ContainerSummary, ...],
    *,
    host_name: str,
    is_rootless: bool,
) -> NetworkPicture:
    """Put together what the engine says of a network and of the containers."""
    network = details.network
    here = {one.container_id: one for one in details.members}
    guests: dict[str, list[str]] = {}
    for one in containers:
        for name in one.network_names:
            if name.startswith(_JOIN):
                guests.setdefault(name.removeprefix(_JOIN), []).append(one.name)
    members = [
        _member(one, here.get(one.container_id), network, tuple(guests.get(one.container_id, ())))
        for one in containers
        if network.name in one.network_names
    ]
    members.sort(key=lambda one: (not one.is_running, one.name))
    return NetworkPicture(
        network=network,
        members=tuple(members),
        host_name=host_name,
        is_rootless=is_rootless,
        warnings=details.warnings,
    )


def _member(
    container: ContainerSummary,
    has: NetworkMember | None,
    network: Network,
    guests: tuple[str, ...],
) -> MapMember:
    return MapMember(
        container_id=container.container_id,
        name=container.name,
        is_running=container.status in RUNNING,
        ipv4_address=has.ipv4_address.partition("/")[0] if has else "",
        ipv6_address=has.ipv6_address.partition("/")[0] if has else "",
        ports=container.ports,
        aliases=has.aliases if has else (),
        other_networks=tuple(one for one in container.network_names if one != network.name),
        guests=guests,
    )


Line = tuple[tuple[Cell, ...], "MapMember | None"]


class _Glyphs(NamedTuple):
    """What lines are drawn with."""

    across: str
    broken: str
    down: str
    branch: str
    """A member that goes on to the next one."""
    last: str
    faint: str
    """As `branch`, for one that does not run."""
    faint_last: str
    tee: str
    """Where the bridge meets the first of several members."""
    corners: str
    """Of boxes: above left, above right, below left, below right."""
    out: str
    into: str


_LINES = _Glyphs("─", "┄", "│", "├─", "└─", "├┄", "└┄", "┬", "┌┐└┘", "├", "┤")
_ASCII = _Glyphs("-", ".", "|", "+-", "`-", "+.", "`.", "+", "++++", "+", "+")


def map_lines(picture: NetworkPicture, width: int, *, is_ascii: bool = False) -> list[Line]:
    """Draw a map of at most `width` cells: side by side, or from top to bottom."""
    glyphs = _ASCII if is_ascii else _LINES
    if _has_bridge(picture) and width >= SIDE_BY_SIDE_FROM_COLUMNS:
        lines = _side_by_side(picture, width, glyphs)
    else:
        lines = _top_to_bottom(picture, width, glyphs)
    for warning in picture.warnings:
        parts = textwrap.wrap(clean(warning, limit=400), max(20, width - 2))
        for mark, part in zip_longest("!", parts, fillvalue=" "):
            lines.append(((Cell(f"{mark} {part}", "warn"),), None))
    return lines


def _has_bridge(picture: NetworkPicture) -> bool:
    return picture.network.driver is NetworkDriver.BRIDGE and not picture.is_rootless


def way_out(network: Network) -> str:
    """How what its members send gets out, in one word."""
    if network.is_internal:
        return "internal"
    return "routed" if dict(network.options).get(_MASQUERADE) == "false" else "NAT"


# --- side by side ---------------------------------------------------------------------------------


def _side_by_side(picture: NetworkPicture, width: int, glyphs: _Glyphs) -> list[Line]:
    network = picture.network
    is_open = not network.is_internal
    world = _box(["world"], glyphs)
    host = _box(["host", clean(picture.host_name, limit=60)], glyphs)
    bridge = _box([clean(network.name, limit=128), *_bridge_facts(network)], glyphs)
    boxes = (world, host, bridge)
    # The links are at the first line within the boxes; what stands below says how it goes on.
    across, broken = glyphs.across, glyphs.broken
    outward = across * _LINK_WIDTH if is_open else f"{broken * 4}x{broken * 3}"
    inward = across * _LINK_WIDTH
    note = way_out(network).center(_LINK_WIDTH)
    rows: list[tuple[Cell, ...]] = []
    for y in range(max(len(box) for box in boxes)):
        cells: list[Cell] = []
        for index, box in enumerate(boxes):
            text = box[y] if y < len(box) else " " * cell_len(box[0])
            if y == 1:
                text = _opened(text, glyphs, left=index > 0, right=index < 2)
            cells.append(Cell(text, "strong" if y == 1 else "dim"))
            if index == 2:
                continue
            between, style = " " * _LINK_WIDTH, ""
            if y == 1:
                between, style = (inward, "accent") if index else (outward, _link_style(network))
            elif y == 2 and index == 0:
                between, style = note, "dim" if is_open else "bad"
            cells.append(Cell(between, style))
        rows.append(tuple(cells))
    room = width - sum(cell_len(cell.text) for cell in rows[0]) - 1
    members = _member_lines(picture, room - 3, glyphs)
    return _beside(rows, members, glyphs)


def _link_style(network: Network) -> str:
    return "bad" if network.is_internal else "accent"


def _beside(rows: list[tuple[Cell, ...]], members: list[Line], glyphs: _Glyphs) -> list[Line]:
    """Put the members to the right of the boxes; the first is where the link leaves the bridge."""
    blank = " " * sum(cell_len(cell.text) for cell in rows[0])
    first = 1
    lines: list[Line] = []
    for y in range(max(len(rows), first + len(members))):
        left = rows[y] if y < len(rows) else (Cell(blank),)
        index = y - first
        if not 0 <= index < len(members):
            lines.append((left, None))
            continue
        cells, member = members[index]
        if index == 0:
            # The trunk comes from the left, so the first branch is a crossing.
            left = (*left[:-1], Cell(left[-1].text[:-1] + glyphs.out, left[-1].style))
            head = glyphs.across + (glyphs.tee if _goes_on(members) else glyphs.across)
            cells = (Cell(head, "accent"), *_without_first_glyph(cells))
        else:
            cells = (Cell(" "), *cells)
        lines.append(((*left, *cells), member))
    return lines


def _goes_on(members: list[Line]) -> bool:
    """Whether another member stands below the first."""
    return len({member.container_id for _cells, member in members if member is not None}) > 1


def _without_first_glyph(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    first, *rest = cells
    return (Cell(first.text[1:], first.style), *rest)


def _box(lines: list[str], glyphs: _Glyphs) -> list[str]:
    inner = min(_LONGEST_BOX_LINE, max(cell_len(line) for line in lines))
    corners = glyphs.corners
    edge = glyphs.across * (inner + 2)
    return [
        corners[0] + edge + corners[1],
        *(f"{glyphs.down} {fit(line, inner)} {glyphs.down}" for line in lines),
        corners[2] + edge + corners[3],
    ]


def _opened(text: str, glyphs: _Glyphs, *, left: bool, right: bool) -> str:
    """Put the ends of links into the sides of a box."""
    first = glyphs.into if left else text[0]
    last = glyphs.out if right else text[-1]
    return first + text[1:-1] + last


def _bridge_facts(network: Network) -> list[str]:
    facts = [network.bridge] if network.bridge else []
    for one in network.subnets:
        facts += [one.subnet, f"gateway {one.gateway}" if ":" not in one.gateway else one.gateway]
    return facts


# --- from top to bottom ---------------------------------------------------------------------------


def _top_to_bottom(picture: NetworkPicture, width: int, glyphs: _Glyphs) -> list[Line]:
    network = picture.network
    down = (Cell(glyphs.down, "accent"),)
    lines: list[Line] = []
    host_name = clean(picture.host_name, limit=60)
    match network.driver:
        case NetworkDriver.HOST:
            lines += [
                ((Cell("world", "strong"),), None),
                (down, None),
                (
                    (
                        Cell("host", "strong"),
                        Cell(f"  {host_name}: its addresses and its ports", "dim"),
                    ),
                    None,
                ),
            ]
        case NetworkDriver.NONE:
            lines.append(
                (
                    (
                        Cell("none", "strong"),
                        Cell("  loopback alone: nothing goes in or out", "dim"),
                    ),
                    None,
                )
            )
        case _ if picture.is_rootless:
            down_text = " as a program of yours: out by itself, in by published ports"
            lines += [
                ((Cell("world", "strong"),), None),
                ((*down, Cell(down_text, "dim")), None),
                (
                    (
                        Cell("host", "strong"),
                        Cell(f"  {host_name}: an ordinary user has no bridges", "dim"),
                    ),
                    None,
                ),
            ]
        case _:
            crossing = (
                (Cell("x", "bad"), Cell(" internal: nothing goes out, nothing comes in", "dim"))
                if network.is_internal
                else (Cell(glyphs.down, "accent"), Cell(f" {_how_it_goes(network)}", "dim"))
            )
            lines += [
                ((Cell("world", "strong"),), None),
                (crossing, None),
                ((Cell("host", "strong"), Cell(f"  {host_name}", "dim")), None),
                (down, None),
                *_bridge_lines(network, glyphs),
            ]
    return lines + _member_lines(picture, width, glyphs)


def _bridge_lines(network: Network, glyphs: _Glyphs) -> list[Line]:
    name = clean(network.name, limit=128)
    subnets = [f"{one.subnet}  gateway {one.gateway}" for one in network.subnets]
    first = "  ".join(("", *([network.bridge] if network.bridge else []), *subnets[:1]))
    indent = " " * (cell_len(name) + 1)
    return [
        ((Cell(name, "strong"), Cell(first, "dim")), None),
        *(
            ((Cell(glyphs.down, "accent"), Cell(f"{indent}{text}", "dim")), None)
            for text in subnets[1:]
        ),
    ]


def _how_it_goes(network: Network) -> str:
    if way_out(network) == "NAT":
        return "NAT: out as the host, in by published ports"
    return "routed: out with its own addresses, in by published ports"


_NOBODY = {
    NetworkDriver.BRIDGE: "nobody yet: a connects one",
    NetworkDriver.HOST: "nobody: `lamella run --network host` puts one here",
    NetworkDriver.NONE: "nobody: `lamella run --network none` puts one here",
}


def _member_lines(picture: NetworkPicture, width: int, glyphs: _Glyphs) -> list[Line]:
    if not picture.members:
        text = f" {'nobody' if picture.is_rootless else _NOBODY[picture.network.driver]}"
        return [((Cell(glyphs.last, "accent"), Cell(text, "dim")), None)]
    longest = max(cell_len(clean(one.name, limit=128)) for one in picture.members)
    name_width = max(4, min(24, longest, width // 2 - 3))
    lines: list[Line] = []
    for index, member in enumerate(picture.members):
        is_last = index == len(picture.members) - 1
        trunk = " " if is_last else glyphs.down
        if not member.is_running:
            branch = glyphs.faint_last if is_last else glyphs.faint
        else:
            branch = glyphs.last if is_last else glyphs.branch
        style = "strong" if member.is_running else "dim"
        head = (
            Cell(branch, "accent" if member.is_running else "dim"),
            Cell(" " + fit(clean(member.name, limit=128), name_width), style),
        )
        indent = Cell(trunk + " " * (cell_len(branch) + name_width), "accent")
        room = width - cell_len(branch) - 1 - name_width
        for cells in _flowing(_facts_of(member, has_bridge=_has_bridge(picture)), room):
            lines.append(((*head, *cells), member))
            head = (indent, Cell(""))
    return lines


def _flowing(pieces: list[list[Cell]], room: int) -> list[list[Cell]]:
    """Lay pieces out in lines that fit; each of the outer list begins a line."""
    lines: list[list[Cell]] = []
    for group in pieces:
        line: list[Cell] = []
        for cell in group:
            used = sum(cell_len(one.text) for one in line)
            if line and used + cell_len(cell.text) > room:
                lines.append(line)
                line = [Cell(" " * (_ADDRESS_WIDTH + 2))]
            line.append(cell)
        lines.append(line)
    return lines


def _facts_of(member: MapMember, *, has_bridge: bool) -> list[list[Cell]]:
    """What stands behind a name: addresses, and what else is to be said of it."""
    if not member.is_running:
        return [[Cell("  does not run", "dim")]]
    about = _about(member)
    if not has_bridge:
        return [about]
    addresses = [one for one in (member.ipv4_address, member.ipv6_address) if one]
    first, *more = [
        Cell("  " + fit(one, max(_ADDRESS_WIDTH, cell_len(one)))) for one in addresses
    ] or [Cell("  " + fit("no address", _ADDRESS_WIDTH), "warn")]
    return [[first, *about], *([cell] for cell in more)]


def _about(member: MapMember) -> list[Cell]:
    pieces = [("  " + text, "good") for text in port_texts(member.ports)]
    if member.aliases:
        pieces.append((f"  as {_list_of(member.aliases)}", "dim"))
    if member.guests:
        pieces.append((f"  shared with {_list_of(member.guests)}", "accent"))
    if member.other_networks:
        pieces.append((f"  also in {_list_of(member.other_networks)}", "dim"))
    return [Cell(text, style) for text, style in pieces]


def _list_of(names: tuple[str, ...]) -> str:
    return ", ".join(clean(one, limit=64) for one in names)
