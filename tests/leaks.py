"""What a test may leave behind by mistake, read from the kernel, to compare before with after."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.network.planning import bridge_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SETTLE_SECONDS = 20.0
"""How long the kernel, and processes that were told to end, may take before it is a leak."""


@dataclass(frozen=True)
class Traces:
    """What there is at one moment; each entry reads as a line of a failure."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    processes: frozenset[str]
    descriptors: frozenset[str]

    def new_since(self, before: Traces) -> set[str]:
        return {
            f"{kind}: {entry}"
            for kind in ("mounts", "cgroups", "links", "processes", "descriptors")
            for entry in getattr(self, kind) - getattr(before, kind)
        }


def look(
    *,
    places: tuple[str, ...],
    is_deep: bool,
    containers: frozenset[str] = frozenset(),
    bridges: frozenset[str] = frozenset(),
) -> Traces:
    """Take note of everything.

    Args:
        places: Directories of our tests; a process with something open below one is ours.
        is_deep: Look also for groups, and for processes that are no longer our descendants.
        containers: Those whose groups are ours; who runs beside us has groups at the same place.
        bridges: Those that are ours of links with such names, of which others may have some, too.
    """
    return Traces(
        mounts=frozenset(_mounts(places)),
        cgroups=frozenset(groups_of(containers) if is_deep else ()),
        links=frozenset(_links(bridges)),
        processes=frozenset(_processes(places, is_deep=is_deep)),
        descriptors=frozenset(_descriptors()),
    )


def containers_of(stores: Iterable[str]) -> frozenset[str]:
    """The containers that were ever made in stores at or below directories, by their events."""
    found = set()
    for top in stores:
        for below in ("", "*/", "*/*/"):
            for path in glob.glob(f"{glob.escape(top)}/{below}events.jsonl*"):
                with open(path, "rb") as events:
                    found.update(_CONTAINER.findall(events.read()))
    return frozenset(identity.decode() for identity in found)


def bridges_of(stores: Iterable[str]) -> frozenset[str]:
    """The bridges of the networks that stores at or below directories have now."""
    found = set()
    for top in stores:
        for below in ("", "*/", "*/*/"):
            for path in glob.glob(f"{glob.escape(top)}/{below}lamella.db"):
                address = f"file:{path}?mode=ro"
                # It may be damaged or of another version: tests make such.
                with (
                    contextlib.suppress(sqlite3.Error),
                    contextlib.closing(sqlite3.connect(address, uri=True)) as database,
                ):
                    rows = database.execute("SELECT network_id FROM networks").fetchall()
                    found.update(bridge_name(identity) for (identity,) in rows)
    return frozenset(found)


_CONTAINER = re.compile(rb'"subject":"container","action":"[^"]*","subject_id":"([^"/]+)"')


def find_leaks(
    before: Traces,
    *,
    places: tuple[str, ...],
    is_deep: bool,
    containers: frozenset[str],
    bridges: frozenset[str],
    has_descriptors: bool = True,
) -> list[str]:
    """Everything that is new since `before` and stays; waits for what is about to go."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = look(
            places=places, is_deep=is_deep, containers=containers, bridges=bridges
        ).new_since(before)
        leaks = [leak for leak in found if has_descriptors or not leak.startswith("descriptors:")]
        if not leaks or time.monotonic() > deadline:
            return sorted(leaks)
        # Waits for other processes' ends, which nothing tells us of: they are not our children.
        os.sched_yield()
        _reap_adopted()
        _wait_a_moment()


def _wait_a_moment() -> None:
    time.sleep(0.02)


def _reap_adopted() -> None:
    # Nothing that a finished test started is waited for any more.
    try:
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            continue
    except ChildProcessError:
        return


def _links(bridges: frozenset[str]) -> Iterator[str]:
    """Every link, but bridges and ends of containers of stores that are not ours."""
    for _index, name in socket.if_nameindex():
        if name in bridges or not name.startswith(("lm-", "lmv")):
            yield name


_OTHERS_MOUNTS = ("/dev/shm/", "/home/", "/media/", "/mnt/", "/run/", "/snap/", "/tmp/", "/var/")
"""Where people and other programs mount while tests run."""


def _mounts(places: tuple[str, ...]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4].startswith(_OTHERS_MOUNTS) and not fields[4].startswith(places):
            continue
        yield f"{fields[4]} ({line.partition(' - ')[2]})"


def groups_of(containers: frozenset[str]) -> Iterator[str]:
    """Groups of containers and lanes, wherever they are mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup" not in line:
            continue
        top = line.split(" ")[4]
        try:
            names = [name for name in os.listdir(top) if name.startswith("lamella")]
        except OSError:
            continue
        for name in names:
            parent = os.path.join(top, name)
            # A test may remove the parent meanwhile, or have never been allowed to look.
            with contextlib.suppress(OSError):
                yield from (
                    os.path.join(parent, child) for child in containers & {*os.listdir(parent)}
                )


def _living() -> dict[int, tuple[int, str]]:
    """Parent and name of every process that has not ended."""
    living: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as stat:
                text = stat.read()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        if fields[0] != "Z":
            living[int(entry)] = int(fields[1]), name
    return living


def _processes(places: tuple[str, ...], *, is_deep: bool) -> Iterator[str]:
    living = _living()
    parents = {pid: parent for pid, (parent, _name) in living.items()}
    me = os.getpid()
    ours = _descendants({me}, parents)
    if is_deep:
        ours |= {pid for pid in parents if pid != me and _touches(pid, places)}
    for pid in ours:
        yield f"{pid} ({living[pid][1]})"


def _descendants(of: set[int], parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    latest = of
    while latest:
        latest = {pid for pid, parent in parents.items() if parent in latest} - found
        found |= latest
    return found


def _touches(pid: int, places: tuple[str, ...]) -> bool:
    """Whether a process has a file open, stands, or has a root mounted below one of our places."""
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith(places):
                return True
        if os.readlink(f"/proc/{pid}/cwd").startswith(places):
            return True
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            with open(f"/proc/{pid}/mountinfo", errors="replace") as mounts:
                text = mounts.read()
            return any(place in text for place in places)
    except PermissionError:
        # Launcher and monitors cannot be looked into by an ordinary user; their names can be read.
        # Whose they are is not known while others run tests beside us: the run's end tells.
        return "PYTEST_XDIST_WORKER" not in os.environ and _is_own_monitor(pid)
    except OSError:
        return False
    return False


def _is_own_monitor(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    user_id = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    return status.startswith("Name:\tlamella-") and int(user_id) == os.getuid()


def _descriptors() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        # What the random module and pytest's capture hold is not the tests'.
        is_memory = target.startswith("/memfd:")
        if target.startswith(("/dev/", "/proc/")) or ("(deleted)" in target and not is_memory):
            continue
        yield f"{descriptor} -> {target}"
