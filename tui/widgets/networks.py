"""The list of networks: one row each, with driver, subnet and who is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.late_dataclasses import dataclass
from engine.types import ContainerStatus, NetworkDriver
from tui.keymap import Context, bindings_of
from tui.sanitise import clean
from tui.widgets.rows import Cell, RowList, fit

if TYPE_CHECKING:
    from engine.types import ContainerSummary, Network

RUNNING = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """One network, and the containers that are in it or are to be in it when they run."""

    network: Network
    containers: tuple[ContainerSummary, ...]

    @property
    def running(self) -> tuple[ContainerSummary, ...]:
        """Those that are in it now."""
        return tuple(one for one in self.containers if one.status in RUNNING)


class NetworkList(RowList[NetworkRow], inherit_bindings=False):
    """Every network of the store."""

    BINDINGS = [*bindings_of(Context.LISTS)]

    def row_key(self, row: NetworkRow) -> str:
        """The id."""
        return row.network.network_id

    def row_filter_text(self, row: NetworkRow) -> str:
        """Look in name, driver, subnets, and the names of who is in it."""
        network = row.network
        subnets = (one.subnet for one in network.subnets)
        names = (one.name for one in row.containers)
        return " ".join((network.name, network.driver.value, *subnets, *names))

    def row_cells(self, row: NetworkRow, width: int) -> list[Cell]:
        """Draw name, driver, subnet, who is in it."""
        network = row.network
        subnet_width = 20
        name_width = max(12, min(32, (width - subnet_width) // 3))
        driver_width = 17 if width >= 80 else 9
        members_width = max(8, width - name_width - driver_width - subnet_width)
        members, style = members_text(row)
        return [
            Cell(fit(clean(network.name, limit=128), name_width - 1) + " ", "strong"),
            Cell(fit(kind_text(network, is_long=driver_width > 9), driver_width - 1) + " ", "dim"),
            Cell(fit(_subnet_text(network), subnet_width - 1) + " "),
            Cell(fit(members, members_width), style),
        ]


def kind_text(network: Network, *, is_long: bool) -> str:
    """The driver, and what is special: `bridge internal`; where there is little room the latter."""
    words = [
        *(["internal"] if network.is_internal else []),
        *(["IPv6"] if network.has_ipv6 else []),
    ]
    driver = "none" if network.driver is NetworkDriver.NONE else network.driver.value
    return " ".join((driver, *words)) if is_long else " ".join(words[:1]) or driver


def _subnet_text(network: Network) -> str:
    if not network.subnets:
        return "-"
    more = "…" if len(network.subnets) > 1 else ""
    return network.subnets[0].subnet + more


def members_text(row: NetworkRow) -> tuple[str, str]:
    """Who is in it now, how many more are to be; with a style."""
    names = ", ".join(clean(one.name, limit=128) for one in row.running)
    resting = len(row.containers) - len(row.running)
    if not resting:
        return (names, "") if names else ("empty", "dim")
    return (f"{names} +{resting} at rest", "") if names else (f"{resting} at rest", "dim")
