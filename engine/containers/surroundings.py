"""What must be there before an engine can open: directories of its own, and what the host gives.

Everything here blocks; together some milliseconds, once a boot tens of them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from engine.cgroups.host import detect_cgroups
from engine.containers.services import CgroupPlan
from engine.errors import NoSpaceError, StoreError
from engine.host import architecture, lingering_feature, probe_host, require_proc
from engine.late_dataclasses import dataclass
from engine.store.durability import make_directory
from engine.types import HostFeature, HostReport

if TYPE_CHECKING:
    from pathlib import Path

    from engine.cgroups.host import CgroupHost
    from engine.config import EngineConfig
    from engine.host import HostFacts
    from engine.runtime.id_mapping import IdMapping

_LIMITS = ("memory", "cpu", "pids")
_CONTROLLERS = (*_LIMITS, "cpuset", "blkio")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What was found.

    Attributes:
        mapping: Which ids a rootless launcher maps; None for root.
    """

    report: HostReport
    cgroup_host: CgroupHost
    cgroups: CgroupPlan
    mapping: IdMapping | None
    has_seccomp: bool


def prepare_surroundings(config: EngineConfig) -> Surroundings:
    """Make the store's directories if missing, and find out what the host gives.

    Raises:
        StoreError: A directory is another user's, or cannot be made or written.
        FeatureUnavailableError: There is no /proc.
    """
    require_proc()
    for directory, option in ((config.root, "--root"), (config.run, "LAMELLA_RUN")):
        _claim_directory(directory, option)
    for directory in (
        config.root / "containers",
        config.run / "containers",
        config.layers_directory,
        config.staging_directory,
    ):
        make_directory(directory)
    facts = probe_host(run=config.run, scratch=config.root)
    mapping = None if os.geteuid() == 0 else _find_mapping()
    cgroup_host = detect_cgroups()
    return Surroundings(
        report=_report(facts, mapping, cgroup_host),
        cgroup_host=cgroup_host,
        cgroups=_plan(cgroup_host),
        mapping=mapping,
        has_seccomp=any(
            feature.name == "seccomp" and feature.is_available for feature in facts.features
        ),
    )


def _find_mapping() -> IdMapping:
    from engine.runtime.id_mapping import find_mapping  # not for root

    return find_mapping()


def _claim_directory(directory: Path, option: str) -> None:
    hint = f"Choose a directory of your own with {option}, or run as the user who owns it"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = directory.stat().st_uid
    except PermissionError as error:
        raise StoreError(f"cannot use {directory}: permission denied", hint=hint) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"cannot use {directory}: it is not a directory", hint=hint) from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise NoSpaceError(str(directory)) from error
        raise StoreError(f"cannot use {directory}: {error.strerror}", hint=hint) from error
    if owner != os.geteuid():
        raise StoreError(
            f"cannot use {directory}: it belongs to user {owner}, you are {os.geteuid()}",
            hint=hint,
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StoreError(f"cannot use {directory}: it cannot be written", hint=hint)


def _report(facts: HostFacts, mapping: IdMapping | None, cgroup_host: CgroupHost) -> HostReport:
    features = list(facts.features)
    user_namespace = "host"
    if mapping is not None:
        user_namespace = "single" if mapping.is_single else "range"
        features.append(
            HostFeature(
                name="subordinate ids",
                is_available=not mapping.is_single,
                detail=mapping.reason or "a range of ids is mapped",
                remedy=f"As root: {mapping.remedy}" if mapping.is_single else "",
            )
        )
    features += _cgroup_features(cgroup_host)
    if mapping is not None and (lingering := lingering_feature()) is not None:
        features.append(lingering)
    return HostReport(
        is_root=mapping is None,
        kernel_release=os.uname().release,
        architecture=architecture(),
        cgroup_mode=cgroup_host.mode,
        snapshotter=facts.snapshotter,
        user_namespace=user_namespace,
        features=tuple(features),
    )


def _cgroup_features(host: CgroupHost) -> list[HostFeature]:
    missing = {feature.name: feature for feature in host.missing}
    features = [
        HostFeature(
            name=f"cgroup {name}" if name in _LIMITS else name,
            is_available=False,
            detail=feature.reason,
            remedy=feature.remedy,
        )
        for name, feature in missing.items()
    ]
    if not missing.keys() & {"limits", *_LIMITS}:
        detail = f"memory, processors and processes through cgroup {host.mode}"
        features.append(HostFeature(name="limits", is_available=True, detail=detail))
    if "pause" not in missing:
        detail = f"freezes through cgroup {host.mode}"
        features.append(HostFeature(name="pause", is_available=True, detail=detail))
    return features


def _plan(host: CgroupHost) -> CgroupPlan:
    reasons: dict[str, str] = {}
    for feature in host.missing:
        for name in _CONTROLLERS if feature.name == "limits" else (feature.name,):
            reasons[name] = feature.reason
    # What few ask for is no feature of its own in the report.
    for name, name_on_v2 in (("cpuset", "cpuset"), ("blkio", "io")):
        if not host.controllers & {name, name_on_v2}:
            reasons.setdefault(name, f"the {name} controller is not there")
    memory = host.hierarchy_of("memory")
    if memory is None or memory.version == 2:
        reasons["swappiness"] = "only cgroup v1 has it"
    return CgroupPlan(
        mode=host.mode,
        parent=host.parent,
        directories=tuple(tree.parent for tree in host.hierarchies),
        missing_limits=reasons,
        missing_pause=next((feature for feature in host.missing if feature.name == "pause"), None),
    )
