"""Files by which engines tell network servers what containers are called and where they are.

```
<run>/containers/<id>/network.json       a NetworkView: what one container sees
<run>/networks/<network id>/members/<id> a MemberNames: what one container is called in a network
```

An engine replaces a file as a whole (rename(2)), so that whoever reads it sees the old one or the
new one. A server is told nothing: it looks at a time stamp when it is asked something.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import field
from typing import TYPE_CHECKING, Generic, TypeVar

from engine.late_dataclasses import dataclass
from engine.runtime.records import decode_record, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable

VIEW_FILE = "network.json"
HOST_RESOLVER_PATH = "/etc/resolv.conf"
_MOST_BYTES = 1 << 20
_SETTLED_NANOSECONDS = 50_000_000
"""The time stamps of files move in steps, of 10 ms at most: a change within the step in which a
file was read does not show (as in git's index, Documentation/technical/racy-git.txt)."""

_Content = TypeVar("_Content")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNetwork:
    """A network whose members a container can find.

    Attributes:
        name: With which names of members may end: `web.backend`.
        directory: Holds a MemberNames for each member, named by the container's id.
    """

    name: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """What a container's network server has to know, and what may change while it runs.

    Attributes:
        networks: Where names are looked up, in this order.
        servers: Addresses that other names are asked of; without one, those of the host.
        resolver_path: The host's resolv.conf.
        is_forwarding: Other names are asked of somebody. A container of internal networks must
            not speak with the world this way (CVE-2024-29018).
        addresses: The container's own, to which what comes to published ports goes.
    """

    networks: tuple[SeenNetwork, ...] = ()
    servers: tuple[str, ...] = ()
    resolver_path: str = HOST_RESOLVER_PATH
    is_forwarding: bool = True
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberNames:
    """What a member of a network is called there.

    Attributes:
        names: Its name, its aliases, its short id, its hostname; the first one is told to who
            asks for the name of an address.
        addresses: Its own in this network.
    """

    names: tuple[str, ...] = field(default=())
    addresses: tuple[str, ...] = field(default=())


def write_view(run_directory: str, view: NetworkView) -> None:
    """Put a container's view in place; blocking.

    Raises:
        OSError: The directory is gone, or its file system is full.
    """
    _replace(f"{run_directory}/{VIEW_FILE}", encode_record(view))


def read_view(run_directory: str) -> NetworkView:
    """A container's view; an empty one that forwards nothing if there is none."""
    content = read_bounded(f"{run_directory}/{VIEW_FILE}")
    try:
        return decode_record(NetworkView, content)
    except ValueError:
        return NetworkView(is_forwarding=False)


def write_member(network_directory: str, container_id: str, member: MemberNames) -> None:
    """Let a network know a container under its names, or under others than before; blocking.

    Raises:
        OSError: The file system is full.
    """
    os.makedirs(network_directory, mode=0o700, exist_ok=True)
    _replace(f"{network_directory}/{container_id}", encode_record(member))


def remove_member(network_directory: str, container_id: str) -> None:
    """Let a network forget a container; one that it does not know is forgotten already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{network_directory}/{container_id}")


def read_members(network_directory: str) -> tuple[MemberNames, ...]:
    """All members of a network in the order of their ids; none if nobody has made it yet."""
    try:
        entries = sorted(os.listdir(network_directory))
    except OSError:
        return ()
    members = []
    for entry in entries:
        if entry.endswith(_UNFINISHED):
            continue
        # What is damaged or on its way out is no member.
        with contextlib.suppress(ValueError):
            content = read_bounded(f"{network_directory}/{entry}")
            members.append(decode_record(MemberNames, content))
    return tuple(members)


def forget_container(run_directory: str, container_id: str) -> None:
    """Take a container's names out of all its networks, and its view away; blocking.

    For the end of a monitor: nothing here needs an engine.
    """
    for network in read_view(run_directory).networks:
        with contextlib.suppress(OSError):
            remove_member(network.directory, container_id)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{run_directory}/{VIEW_FILE}")


class WatchedContent(Generic[_Content]):
    """What was read from a file or a directory, read again when that has changed."""

    __slots__ = ("_content", "_path", "_read", "_stamp")

    def __init__(self, path: str, read: Callable[[str], _Content]) -> None:
        """Read nothing yet."""
        self._path = path
        self._read = read
        self._stamp: tuple[int, int, int] | None = None
        self._content: _Content | None = None

    def get(self) -> _Content:
        """The content as it is now; a microsecond if it has not changed."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            changed_ns = status.st_mtime_ns
        except OSError:
            stamp, changed_ns = (0, 0, 0), 0
        if self._content is None or stamp != self._stamp:
            is_settled = time.time_ns() - changed_ns > _SETTLED_NANOSECONDS
            # Stamped before it is read: a change meanwhile shows at the next time.
            self._content = self._read(self._path)
            self._stamp = stamp if is_settled else None
        return self._content


def read_bounded(path: str) -> bytes:
    """The beginning of a file; empty if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        parts = []
        left = _MOST_BYTES
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


_UNFINISHED = ".tmp"


def _replace(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}{_UNFINISHED}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            rest = content
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
