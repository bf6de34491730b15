"""What control groups the host has: v1, v2 or both, and where ours may be.

A *hierarchy* is one mounted tree with the controllers bound to it. A host with v1 has one for
each controller (or pair), a host with v2 has one for all; a hybrid host has v1 hierarchies and a
v2 one beside them, which then serves to freeze and kill (cgroups(7), kernel cgroup-v2.rst).
"""

from __future__ import annotations

import os

from engine.late_dataclasses import dataclass
from engine.linux.process import is_booted_with_systemd

_GROUP_NAME = "lamella"
SESSION_NAME = "lamella-session"
"""The leaf that takes the processes of a delegated group, which may have none of its own."""
_SYSTEMD_REMEDY = "`systemd-run --user --scope -p Delegate=yes lamella` gives it"
_OTHER_REMEDY = (
    "Run Lamella as root, or have root start it in a v2 group whose directory, cgroup.procs and "
    "cgroup.subtree_control are yours"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted tree of control groups.

    Attributes:
        version: 1 or 2.
        mount_point: Absolute.
        root: The group that the mount shows as its root; `/` but in containers.
        controllers: Names of controllers; a v1 hierarchy without one has `name=systemd`.
        parent: Absolute directory below which containers' groups are made.
    """

    version: int
    mount_point: str
    root: str
    controllers: tuple[str, ...]
    parent: str = ""

    def directory(self, group: str) -> str:
        """The directory of a group that is named from the hierarchy's root."""
        if self.root != "/" and (group + "/").startswith(self.root.rstrip("/") + "/"):
            group = group[len(self.root) :]
        return f"{self.mount_point}/{group.strip('/')}".rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFeature:
    """Something that the host's control groups do not give.

    Attributes:
        name: `limits`, `memory`, `cpu`, `pids` or `pause`.
        reason: Why, without a full stop.
        remedy: What the person can do.
    """

    name: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupHost:
    """What was found.

    Attributes:
        mode: What the host has: `v2`, `v1`, `hybrid` or `none`; also if none of it may be used.
        hierarchies: Those that may be used here, cpuset first (joining needs it filled).
        parent: The group of ours, named from the hierarchies' roots; empty if none may be used.
        missing: What cannot be had here.
    """

    mode: str
    hierarchies: tuple[Hierarchy, ...]
    parent: str
    missing: tuple[MissingFeature, ...]

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 hierarchy."""
        return next((tree for tree in self.hierarchies if tree.version == 2), None)

    @property
    def controllers(self) -> frozenset[str]:
        """Controllers that may be used here."""
        return frozenset(name for tree in self.hierarchies for name in tree.controllers)

    @property
    def can_freeze(self) -> bool:
        """Whether containers can be paused."""
        return not any(feature.name == "pause" for feature in self.missing)

    def hierarchy_of(self, controller: str) -> Hierarchy | None:
        """The hierarchy that a controller is bound to."""
        return next((tree for tree in self.hierarchies if controller in tree.controllers), None)


def detect_cgroups(
    *,
    mountinfo_path: str = "/proc/self/mountinfo",
    membership_path: str = "/proc/self/cgroup",
    group_name: str = _GROUP_NAME,
    user_id: int | None = None,
) -> CgroupHost:
    """Find out what this process may use; reads a few small files and changes nothing.

    Root gets `/lamella` in every hierarchy. An ordinary user gets a group of that name below the
    v2 group that his own session was given, if it was: nobody may move processes out of a group
    that is not his (cgroup-v2.rst, delegation).
    """
    trees = read_hierarchies(mountinfo_path)
    versions = {tree.version for tree in trees}
    mode = {(1,): "v1", (2,): "v2", (1, 2): "hybrid"}.get(tuple(sorted(versions)), "none")
    if mode == "none":
        return _nothing(mode, "no cgroup file system is mounted", "Mount cgroup2 at /sys/fs/cgroup")
    is_root = (os.geteuid() if user_id is None else user_id) == 0
    if is_root:
        return _for_root(mode, trees, group_name)
    return _for_user(mode, trees, group_name, read_membership(membership_path))


def _for_root(mode: str, trees: tuple[Hierarchy, ...], group_name: str) -> CgroupHost:
    parent = f"/{group_name}"
    usable = tuple(
        _with_parent(tree, f"{tree.mount_point}/{group_name}")
        for tree in trees
        if os.access(tree.mount_point, os.W_OK)
    )
    if not usable:
        return _nothing(
            mode,
            "the cgroup file system is read-only",
            "Mount it writable, or run outside of the container that this is",
        )
    return CgroupHost(
        mode=mode, hierarchies=usable, parent=parent, missing=_missing(usable, is_root=True)
    )


def _for_user(
    mode: str, trees: tuple[Hierarchy, ...], group_name: str, membership: dict[str, str]
) -> CgroupHost:
    tree = next((tree for tree in trees if tree.version == 2), None)
    own = membership.get("")
    if tree is None or own is None:
        return _nothing(
            mode,
            "cgroup v1 cannot be given to an ordinary user",
            "Start the host with systemd.unified_cgroup_hierarchy=1, or run Lamella as root",
        )
    if os.path.basename(own) == SESSION_NAME:
        own = os.path.dirname(own)
    directory = tree.directory(own)
    wanted = (directory, f"{directory}/cgroup.procs", f"{directory}/cgroup.subtree_control")
    if own == "/" or not all(os.access(path, os.W_OK) for path in wanted):
        return _nothing(
            mode,
            "your session was not given a control group of its own",
            _SYSTEMD_REMEDY if is_booted_with_systemd() else _OTHER_REMEDY,
        )
    usable = (_with_parent(tree, f"{directory}/{group_name}"),)
    parent = f"{own.rstrip('/')}/{group_name}"
    return CgroupHost(
        mode=mode, hierarchies=usable, parent=parent, missing=_missing(usable, is_root=False)
    )


def _with_parent(tree: Hierarchy, parent: str) -> Hierarchy:
    controllers = tree.controllers
    if tree.version == 2:
        controllers = tuple(_read_words(f"{os.path.dirname(parent)}/cgroup.controllers"))
    return Hierarchy(
        version=tree.version,
        mount_point=tree.mount_point,
        root=tree.root,
        controllers=controllers,
        parent=parent,
    )


def _missing(trees: tuple[Hierarchy, ...], *, is_root: bool) -> tuple[MissingFeature, ...]:
    controllers = {name for tree in trees for name in tree.controllers}
    remedy = (
        "Enable it in the kernel (`cat /proc/cgroups`; on some hosts `cgroup_enable=memory`)"
        if is_root
        else "`systemctl edit user@.service` with `Delegate=cpu cpuset io memory pids`"
    )
    missing = [
        MissingFeature(name=name, reason=f"the {name} controller is not there", remedy=remedy)
        for name in ("memory", "cpu", "pids")
        if name not in controllers
    ]
    if "freezer" not in controllers and not any(tree.version == 2 for tree in trees):
        missing.append(
            MissingFeature(
                name="pause", reason="there is neither cgroup v2 nor a freezer", remedy=remedy
            )
        )
    return tuple(missing)


def _nothing(mode: str, reason: str, remedy: str) -> CgroupHost:
    missing = tuple(
        MissingFeature(name=name, reason=reason, remedy=remedy) for name in ("limits", "pause")
    )
    return CgroupHost(mode=mode, hierarchies=(), parent="", missing=missing)


# --- the kernel's files -----------------------------------------------------------------------


def read_hierarchies(path: str = "/proc/self/mountinfo") -> tuple[Hierarchy, ...]:
    """Every mounted hierarchy once, cpuset first, the v2 one last (proc(5), mountinfo)."""
    with open(path, encoding="utf-8", errors="surrogateescape") as mountinfo:
        lines = mountinfo.read().splitlines()
    found: dict[str, Hierarchy] = {}
    for line in lines:
        fields, _, filesystem = line.partition(" - ")
        words = fields.split(" ")
        kind, _, rest = filesystem.partition(" ")
        if kind not in {"cgroup", "cgroup2"} or len(words) < 5:
            continue
        options = rest.partition(" ")[2].split(",")
        names = tuple(
            option for option in options if option.startswith("name=") or option in _V1_CONTROLLERS
        )
        device = words[2]
        found.setdefault(
            device,
            Hierarchy(
                version=1 if kind == "cgroup" else 2,
                mount_point=_unescape(words[4]),
                root=_unescape(words[3]),
                controllers=names if kind == "cgroup" else (),
            ),
        )
    return tuple(
        sorted(found.values(), key=lambda tree: (tree.version, "cpuset" not in tree.controllers))
    )


_V1_CONTROLLERS = frozenset(
    (
        "cpuset",
        "cpu",
        "cpuacct",
        "blkio",
        "memory",
        "devices",
        "freezer",
        "net_cls",
        "net_prio",
        "perf_event",
        "hugetlb",
        "pids",
        "rdma",
        "misc",
    )
)


def read_membership(path: str = "/proc/self/cgroup") -> dict[str, str]:
    """The group of a process in each hierarchy, by controller; the v2 one has no name."""
    membership: dict[str, str] = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as groups:
        for line in groups.read().splitlines():
            _, _, rest = line.partition(":")
            names, _, group = rest.partition(":")
            for name in names.split(","):
                membership[name] = group
    return membership


def _unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def _read_words(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split()
    except OSError:
        return []
