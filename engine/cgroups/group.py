"""One container's control group: a directory in each hierarchy that the host has.

Everything here blocks, most of it for well under a millisecond, and needs the standard library
alone: monitors use it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING

from engine.cgroups.control_files import (
    group_tree,
    open_directory,
    pause,
    read_event,
    read_text,
    read_value,
    wait_for_event,
    write_text,
)
from engine.errors import FeatureUnavailableError, SyscallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.cgroups.host import Hierarchy

_ATTEMPTS = 20
_FREEZE_SECONDS = 5.0
_KILL_SECONDS = 10.0
_REMOVE_SECONDS = 5.0


class Cgroup:
    """A container's group. Made by `create_group`, found again by `open_group`.

    Attributes:
        warnings: What could not be had, as sentences.
        filters_devices: What is in it can open those devices alone that its rules name.
    """

    def __init__(
        self, directories: Sequence[tuple[Hierarchy, str]], *, warnings: tuple[str, ...] = ()
    ) -> None:
        self.directories = tuple(directories)
        self.warnings = warnings
        self.filters_devices = False
        self._join_descriptors: tuple[int, ...] | None = None
        self._unified_descriptor: int | None = None
        self._out_of_memory_descriptors: list[int] = []

    @property
    def paths(self) -> tuple[str, ...]:
        """Its directories; `open_group` of them is this group again, in any process."""
        return tuple(path for _, path in self.directories)

    @property
    def unified_path(self) -> str | None:
        """Its directory in the v2 hierarchy."""
        return next((path for tree, path in self.directories if tree.version == 2), None)

    def path_of(self, controller: str) -> str | None:
        """Its directory in the hierarchy of a controller; on v2 only if the controller is on."""
        for tree, path in self.directories:
            if tree.version == 1 and controller in tree.controllers:
                return path
        unified = self.unified_path
        if unified is not None and controller in read_text(f"{unified}/cgroup.controllers").split():
            return unified
        return None

    # --- joining ------------------------------------------------------------------------------

    @property
    def join_descriptors(self) -> tuple[int, ...]:
        """Open `tasks` files of the v1 hierarchies, cpuset's first; empty on v2.

        A process with one thread joins by writing `0` into each (`join_self`): 0.07 ms, where
        writing another's id into cgroup.procs waits for a grace period of the kernel's.
        """
        if self._join_descriptors is None:
            self._join_descriptors = tuple(
                os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
                for tree, path in self.directories
                if tree.version == 1
            )
        return self._join_descriptors

    @property
    def unified_descriptor(self) -> int | None:
        """The v2 directory, for clone3 with CLONE_INTO_CGROUP; None without a v2 hierarchy."""
        path = self.unified_path
        if self._unified_descriptor is None and path is not None:
            self._unified_descriptor = open_directory(path)
        return self._unified_descriptor

    def close_join_descriptors(self) -> None:
        """Close what the two properties above opened; using them again opens them again."""
        for descriptor in self._join_descriptors or ():
            os.close(descriptor)
        self._join_descriptors = None
        if self._unified_descriptor is not None:
            os.close(self._unified_descriptor)
            self._unified_descriptor = None

    def forget_descriptors(self) -> None:
        """Take note that they are closed: in a forked process that keeps only what it needs."""
        self._join_descriptors = None
        self._unified_descriptor = None
        self._out_of_memory_descriptors.clear()

    def close(self) -> None:
        """Close every descriptor; the group stays."""
        self.close_join_descriptors()
        for descriptor in self._out_of_memory_descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._out_of_memory_descriptors.clear()

    # --- processes ----------------------------------------------------------------------------

    def process_ids(self) -> tuple[int, ...]:
        """Every process in it and in groups below it, as this process's pid namespace counts."""
        ids: set[int] = set()
        for _, path in self.directories:
            for directory in group_tree(path):
                ids.update(int(word) for word in read_text(f"{directory}/cgroup.procs").split())
        ids.discard(0)
        return tuple(sorted(ids))

    @property
    def is_populated(self) -> bool:
        """Whether any process lives in it or below it."""
        unified = self.unified_path
        if unified is not None and read_event(unified, "populated") == 1:
            return True
        return any(
            read_text(f"{directory}/cgroup.procs").strip()
            for tree, path in self.directories
            if tree.version == 1
            for directory in group_tree(path)
        )

    @property
    def is_frozen(self) -> bool:
        """Whether every process in it is stopped by `freeze`."""
        unified = self.unified_path
        if unified is not None:
            return read_event(unified, "frozen") == 1
        path = self.path_of("freezer")
        return path is not None and read_text(f"{path}/freezer.state").strip() == "FROZEN"

    def freeze(self, *, timeout_seconds: float = _FREEZE_SECONDS) -> None:
        """Stop every process and wait until they are stopped.

        Raises:
            FeatureUnavailableError: There is neither a v2 group nor a v1 freezer.
            SyscallError: ETIMEDOUT: a process could not be stopped; all were let go again.
        """
        deadline = time.monotonic() + timeout_seconds
        unified = self.unified_path
        if unified is not None:
            write_text(f"{unified}/cgroup.freeze", "1")
            if not wait_for_event(unified, "frozen", 1, deadline):
                self.thaw()
                raise SyscallError("freeze", errno.ETIMEDOUT, unified)
            return
        path = self._freezer()
        while True:
            write_text(f"{path}/freezer.state", "FROZEN")
            for _ in range(_ATTEMPTS):
                if read_text(f"{path}/freezer.state").strip() == "FROZEN":
                    return
                pause()
            # A group that stays FREEZING, because of a fork at the wrong moment, gets there only
            # by thawing and trying again (moby#48205).
            write_text(f"{path}/freezer.state", "THAWED")
            if time.monotonic() >= deadline:
                raise SyscallError("freeze", errno.ETIMEDOUT, path)

    def thaw(self) -> None:
        """Let every process go on; returns when the kernel says so."""
        unified = self.unified_path
        if unified is not None:
            write_text(f"{unified}/cgroup.freeze", "0")
            wait_for_event(unified, "frozen", 0, time.monotonic() + _FREEZE_SECONDS)
        else:
            write_text(f"{self._freezer()}/freezer.state", "THAWED")

    def _freezer(self) -> str:
        path = self.path_of("freezer")
        if path is None:
            raise FeatureUnavailableError(
                "pausing",
                "the container has neither a v2 control group nor a freezer",
                remedy="The host line in `lamella info` says how to get one",
            )
        return path

    def kill_all(self, *, timeout_seconds: float = _KILL_SECONDS) -> bool:
        """Kill every process in it, also those being forked, and wait; False at the timeout."""
        deadline = time.monotonic() + timeout_seconds
        unified = self.unified_path
        if unified is not None and os.path.exists(f"{unified}/cgroup.kill"):
            write_text(f"{unified}/cgroup.kill", "1")
            wait_for_event(unified, "populated", 0, deadline)
        while self.is_populated:
            self._kill_each()
            if time.monotonic() >= deadline:
                return False
            pause()
        return True

    def _kill_each(self) -> None:
        """Freeze so that nothing forks, kill, and thaw: v1 delivers SIGKILL only then."""
        with contextlib.suppress(SyscallError, FeatureUnavailableError):
            self.freeze(timeout_seconds=0.2)
        for process_id in self.process_ids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process_id, signal.SIGKILL)
        with contextlib.suppress(SyscallError, FeatureUnavailableError):
            self.thaw()

    # --- memory -------------------------------------------------------------------------------

    def out_of_memory_watch(self) -> int | None:
        """A descriptor that gets readable when the memory limit may have killed; None without.

        It also gets readable when the group is removed: `out_of_memory_kills` tells. `close` or
        `destroy` closes it.
        """
        path = self.path_of("memory")
        if path is None:
            return None
        if path == self.unified_path:
            from engine.linux.inotify import IN_MODIFY, Inotify

            watcher = Inotify()
            try:
                watcher.watch(f"{path}/memory.events", IN_MODIFY)
                descriptor = os.dup(watcher.descriptor)
            finally:
                watcher.close()
        else:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            control = os.open(f"{path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write_text(f"{path}/cgroup.event_control", f"{descriptor} {control}")
            except SyscallError:
                os.close(descriptor)
                return None
            finally:
                os.close(control)
        self._out_of_memory_descriptors.append(descriptor)
        return descriptor

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel has killed for the memory limit."""
        path = self.path_of("memory")
        if path is None:
            return 0
        name = "memory.events" if path == self.unified_path else "memory.oom_control"
        return read_value(f"{path}/{name}", "oom_kill")

    # --- removal ------------------------------------------------------------------------------

    def destroy(self, *, timeout_seconds: float = _REMOVE_SECONDS) -> None:
        """Remove it with the groups below it, and the parent if it was the last there.

        Raises:
            SyscallError: EBUSY: processes live in it.
        """
        self.close()
        deadline = time.monotonic() + timeout_seconds
        for tree, path in self.directories:
            for directory in reversed(group_tree(path)):
                self._remove(tree, directory, deadline)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))

    def _remove(self, tree: Hierarchy, directory: str, deadline: float) -> None:
        while True:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                    raise SyscallError("rmdir", error.errno or 0, directory) from None
            else:
                return
            # Busy: a process that ends now, or one that has ended and whose last thread the
            # kernel has yet to take out. The first v2 tells us of; v1 has nothing to wait on.
            if tree.version == 2 and read_event(directory, "populated") == 1:
                wait_for_event(directory, "populated", 0, deadline)
            else:
                pause()
