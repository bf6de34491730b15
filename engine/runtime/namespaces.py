"""Which namespaces of a container are its own, and how it joins those of others.

The kernel takes a process into another container's namespaces by a pidfd of one that is there.
A pid namespace is only ever entered by children, so the monitor sets it for the moment in which
it clones init; the others are init's own doing.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError, StartError
from engine.linux.files import open_beneath
from engine.linux.mounts import clone_mount
from engine.linux.process import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    enter_namespaces,
    start_ticks,
)
from engine.runtime.state_file import read_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.runtime.spec import NamespaceSpec

PRIVATE = "private"
HOST = "host"
NONE = "none"
_OWN_IPC = frozenset({PRIVATE, NONE})
_LIVE = frozenset({"running", "paused"})


def new_namespaces(spec: NamespaceSpec) -> int:
    """The CLONE_NEW* flags that init is cloned with; the network's is its starter's already."""
    flags = CLONE_NEWNS
    if spec.pid == PRIVATE:
        flags |= CLONE_NEWPID
    if spec.ipc in _OWN_IPC:
        flags |= CLONE_NEWIPC
    if spec.uts == PRIVATE:
        flags |= CLONE_NEWUTS
    return flags


def entered_namespaces(spec: NamespaceSpec) -> int:
    """The CLONE_NEW* flags of what an exec enters, but for the pid namespace.

    Those of the host's are left out: a rootless monitor is there already and may not enter them.
    """
    flags = CLONE_NEWNS
    for kind, flag in (
        (spec.network, CLONE_NEWNET),
        (spec.ipc, CLONE_NEWIPC),
        (spec.uts, CLONE_NEWUTS),
        (spec.cgroup, CLONE_NEWCGROUP),
    ):
        if kind != HOST:
            flags |= flag
    return flags


def open_owner(directory: str) -> int:
    """A pidfd of the first process of the container whose directory this is.

    Raises:
        StartError: The container does not run.
        FeatureUnavailableError: It runs where this process may not join it.
    """
    state = read_state(directory)
    name = os.path.basename(directory)
    not_running = StartError(
        f"container {name} is not running",
        exit_code=125,
        step="namespaces",
        hint="Start the container whose namespace is to be joined first",
    )
    if state.status not in _LIVE or not state.process_id:
        raise not_running
    try:
        owner = os.pidfd_open(state.process_id)
    except ProcessLookupError:
        raise not_running from None
    # Asked after the descriptor was opened: from here on it is the same process.
    if start_ticks(state.process_id) != state.process_start_ticks:
        os.close(owner)
        raise not_running
    if not _is_in_this_user_namespace(state.process_id):
        os.close(owner)
        raise FeatureUnavailableError(
            f"joining container {name[:12]}",
            "it was started by another program, in a user namespace of its own",
            remedy="Start both from the same application, or run Lamella as root",
        )
    return owner


def _is_in_this_user_namespace(process_id: int) -> bool:
    try:
        return os.stat(f"/proc/{process_id}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino
    except OSError:
        return False


@contextlib.contextmanager
def children_join(spec: NamespaceSpec) -> Iterator[None]:
    """Clone into the pid namespace that the spec names, while the block lasts."""
    if spec.pid in {PRIVATE, HOST}:
        yield
        return
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    owner = open_owner(spec.pid)
    try:
        enter_namespaces(owner, CLONE_NEWPID)
        try:
            yield
        finally:
            enter_namespaces(own, CLONE_NEWPID)
    finally:
        os.close(owner)
        os.close(own)


def join_network(spec: NamespaceSpec) -> None:
    """Enter the network namespace that is shared, if it is another container's.

    Raises:
        StartError: That container does not run.
        FeatureUnavailableError: It runs where this process may not join it.
    """
    if spec.network in {PRIVATE, HOST}:
        return
    owner = open_owner(spec.network)
    try:
        enter_namespaces(owner, CLONE_NEWNET)
    finally:
        os.close(owner)


def join_ipc(owner: int) -> int | None:
    """Enter the ipc namespace of a process; return a detached copy of its /dev/shm, if any.

    A mount can only be copied from within its mount namespace, so this process, which has one
    thread and a mount namespace of its own, goes there and comes back. It loads nothing there.
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        enter_namespaces(owner, CLONE_NEWIPC | CLONE_NEWNS)
        try:
            return _copy_shared_memory()
        finally:
            enter_namespaces(home, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
    finally:
        os.close(home)
        os.close(root)


def _copy_shared_memory() -> int | None:
    top = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        # Without links: the other container may have put anything there.
        place = open_beneath(top, b"dev/shm", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    finally:
        os.close(top)
    try:
        return clone_mount("", directory=place)
    finally:
        os.close(place)
