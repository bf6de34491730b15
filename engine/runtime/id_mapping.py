"""Map the ids of a rootless launcher's user namespace, from outside of it.

With newuidmap, newgidmap and a range in /etc/subuid and /etc/subgid, a container has 65,536 ids;
else it has one: its root is the user, and files of other ids cannot be made.
"""

from __future__ import annotations

import asyncio
import os
import pwd

from engine.errors import FeatureUnavailableError
from engine.host import user_namespace_remedy
from engine.late_dataclasses import dataclass
from engine.linux.process import find_program
from engine.operations import carry_through

_RANGE_SIZE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """A range of subordinate ids: the first one and how many there are."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMapping:
    """How a rootless user namespace is mapped.

    Attributes:
        users: Subordinate user ids, None for a single id.
        groups: Subordinate group ids, None for a single id.
        reason: Why there is only a single id, else empty.
        remedy: What to do about it.
    """

    users: IdRange | None
    groups: IdRange | None
    reason: str = ""
    remedy: str = ""

    @property
    def is_single(self) -> bool:
        """Only the user's own id is mapped."""
        return self.users is None or self.groups is None


def find_mapping() -> IdMapping:
    """Find out which ids the user may map; reads two files, blocking."""
    user_id = os.geteuid()
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:
        name = str(user_id)
    if not (find_program("newuidmap") and find_program("newgidmap")):
        return IdMapping(
            users=None,
            groups=None,
            reason="newuidmap and newgidmap are not installed",
            remedy="apt install uidmap",
        )
    users = _find_range("/etc/subuid", name, user_id)
    groups = _find_range("/etc/subgid", name, user_id)
    if users is None or groups is None:
        return IdMapping(
            users=None,
            groups=None,
            reason=f"no subordinate ids for {name} in /etc/subuid and /etc/subgid",
            remedy=f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
        )
    return IdMapping(users=users, groups=groups)


def _find_range(path: str, name: str, user_id: int) -> IdRange | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as table:
            lines = table.read().splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if owner in {name, str(user_id)} and first.isdigit() and count.isdigit() and int(count):
            return IdRange(first=int(first), count=min(int(count), _RANGE_SIZE - 1))
    return None


async def map_ids(process_id: int, mapping: IdMapping) -> None:
    """Write the id maps of a process that has just entered a user namespace of its own.

    Raises:
        FeatureUnavailableError: The host refuses; the hint says what to set up.
    """
    own_user, own_group = os.geteuid(), os.getegid()
    if mapping.users is None or mapping.groups is None:
        _write(process_id, "setgroups", "deny")
        _write(process_id, "uid_map", f"0 {own_user} 1")
        _write(process_id, "gid_map", f"0 {own_group} 1")
        return
    for program, own, ids in (
        ("newuidmap", own_user, mapping.users),
        ("newgidmap", own_group, mapping.groups),
    ):
        words = (str(word) for word in (process_id, 0, own, 1, 1, ids.first, ids.count))
        # To its end, a few milliseconds: one that is cut short would be waited for twice.
        code, told = await carry_through(_run(program, *words))
        if code:
            raise FeatureUnavailableError(
                "a range of user ids",
                told.decode(errors="replace").strip() or f"{program} failed",
                remedy="Check that newuidmap and newgidmap are setuid root (apt install uidmap)",
            )


async def _run(*words: str) -> tuple[int, bytes]:
    """Run a program; returns its exit code and what it wrote to stderr."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    return process.returncode or 0, told


def _write(process_id: int, name: str, text: str) -> None:
    try:
        with open(f"/proc/{process_id}/{name}", "w", encoding="utf-8") as setting:
            setting.write(text)
    except OSError as error:
        raise FeatureUnavailableError(
            "a user namespace",
            f"writing {name}: {error.strerror}",
            remedy=user_namespace_remedy(),
        ) from None
