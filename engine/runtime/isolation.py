"""What every container gets unless it asks otherwise: at least as strict as Docker and Podman.

Pure data and pure functions, and few imports: a container's init uses them after it has left the
host's file system.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from engine.cgroups.limits import DeviceRule
from engine.errors import InvalidInputError, LimitError, StartError
from engine.late_dataclasses import dataclass
from engine.linux.capabilities import capability_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_CAPABILITIES: frozenset[int] = frozenset(
    capability_number(name)
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
"""Podman's eleven: Docker's fourteen without MKNOD, NET_RAW and AUDIT_WRITE."""

MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
"""Covered so that nothing of them is seen: what Docker masks and what Podman masks."""

READ_ONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS_LIMIT = 2048
DEFAULT_SHARED_MEMORY_BYTES = 64 * 1024 * 1024
DEFAULT_UMASK = 0o022
DEFAULT_STOP_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A character device of the container's /dev.

    Attributes:
        name: Below /dev.
        major: Device number; what is bound or made must have it.
        minor: Device number.
        mode: Permission bits.
    """

    name: str
    major: int
    minor: int
    mode: int = 0o666


DEFAULT_DEVICES: tuple[DeviceNode, ...] = (
    DeviceNode(name="null", major=1, minor=3),
    DeviceNode(name="zero", major=1, minor=5),
    DeviceNode(name="full", major=1, minor=7),
    DeviceNode(name="random", major=1, minor=8),
    DeviceNode(name="urandom", major=1, minor=9),
    DeviceNode(name="tty", major=5, minor=0),
)

DEVICE_LINKS: tuple[tuple[str, str], ...] = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
"""Symbolic links of /dev: name, target."""

DEVICE_RULES: tuple[DeviceRule, ...] = (
    # Nodes of every device may be made (for who has CAP_MKNOD), but only these may be opened.
    DeviceRule(kind="c", major=-1, minor=-1, access="m"),
    DeviceRule(kind="b", major=-1, minor=-1, access="m"),
    *(
        DeviceRule(kind="c", major=node.major, minor=node.minor, access="rwm")
        for node in DEFAULT_DEVICES
    ),
    DeviceRule(kind="c", major=5, minor=2, access="rwm"),  # /dev/pts/ptmx
    DeviceRule(kind="c", major=136, minor=-1, access="rwm"),  # /dev/pts/N
)
"""Docker's in effect, without /dev/net/tun."""

_HIGHEST_ID = 2**31 - 1
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)

_SIGNALS: dict[str, int] = {
    # The same on x86_64 and aarch64.
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "TRAP": 5,
    "ABRT": 6,
    "IOT": 6,
    "BUS": 7,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
    "STKFLT": 16,
    "CHLD": 17,
    "CLD": 17,
    "CONT": 18,
    "STOP": 19,
    "TSTP": 20,
    "TTIN": 21,
    "TTOU": 22,
    "URG": 23,
    "XCPU": 24,
    "XFSZ": 25,
    "VTALRM": 26,
    "PROF": 27,
    "WINCH": 28,
    "IO": 29,
    "POLL": 29,
    "PWR": 30,
    "SYS": 31,
}
# glibc keeps 32 and 33 for itself, and names the rest from both ends.
_FIRST_REAL_TIME = 34
_LAST_REAL_TIME = 64
_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?", re.ASCII)


def masked_paths() -> tuple[str, ...]:
    """`MASKED_PATHS` and each processor's thermal_throttle counters that exist on this host.

    The counters tell a container what its neighbours do (GHSA-6fw5-f8r9-fgfm).
    """
    return MASKED_PATHS + thermal_throttle_paths("/sys/devices/system/cpu")


def thermal_throttle_paths(processors: str) -> tuple[str, ...]:
    """The directories `cpu<N>/thermal_throttle` that are below `processors`."""
    try:
        names = os.listdir(processors)
    except OSError:
        return ()
    numbers = sorted(int(name[3:]) for name in names if re.fullmatch("cpu[0-9]+", name))
    paths = (f"{processors}/cpu{number}/thermal_throttle" for number in numbers)
    return tuple(path for path in paths if os.path.isdir(path))


def default_sysctls(*, is_rootless: bool) -> tuple[tuple[str, str], ...]:
    """Name and value of the kernel parameters of a container's own network namespace.

    Ports from 0 are open to every user, as in Docker; so is ping, which only makes sense where
    the groups that it names are mapped.
    """
    ports = ("net.ipv4.ip_unprivileged_port_start", "0")
    if is_rootless:
        return (ports,)
    return (ports, ("net.ipv4.ping_group_range", "0 2147483647"))


DEFAULT_SYSCTLS: frozenset[str] = frozenset(
    name for name, _value in default_sysctls(is_rootless=False)
)
"""What a kernel may lack without anybody missing it."""


def default_environment(
    *,
    hostname: str,
    image_environment: Iterable[str] = (),
    user_environment: Iterable[str] = (),
    has_terminal: bool = False,
) -> tuple[str, ...]:
    """The whole environment of a container's program, but for HOME, as `NAME=value`.

    PATH, HOSTNAME and TERM (with a terminal), then the image's, then the user's; of one name the
    last value counts, in the place of the first.

    Raises:
        InvalidInputError: One has no name, no `=`, or a NUL in it.
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if has_terminal:
        values["TERM"] = "xterm"
    for entry in (*image_environment, *user_environment):
        name, separator, value = entry.partition("=")
        if not name or not separator or "\0" in entry:
            raise InvalidInputError(
                f"invalid environment variable: {entry!r}", hint="Write it as NAME=value"
            )
        values[name] = value
    return tuple(f"{name}={value}" for name, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedUser:
    """Whom a container's program runs as.

    Attributes:
        uid: In the container.
        gid: In the container.
        groups: All of setgroups(2): `gid` first, then the supplementary ones.
        home: From the passwd file; empty if the user has no entry there.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_user(
    spec: str, passwd: bytes, group: bytes, additional: tuple[str, ...] = ()
) -> ResolvedUser:
    """Find the user that `spec` means, by the container's own files.

    The rules are Docker's (GetExecUser of moby/sys/user): digits are always an id; the first
    entry that fits wins; an id needs no entry, a name does; supplementary groups come only with
    a user that is in the files, and only if no group is named. Unlike there, an entry whose id
    is no number is no entry, where Docker takes the id to be 0.

    Args:
        spec: `user`, `user:group`, or empty for user 0; each half a name or an id.
        passwd: Contents of /etc/passwd, empty if there is none.
        group: Contents of /etc/group.
        additional: Further groups, by name or id (`--group-add`).

    Raises:
        StartError: No such user or group, or an id outside 0 to 2^31 - 1.
    """
    user_text, _, group_text = spec.partition(":")
    user_text, group_text = user_text.strip(), group_text.strip()
    wanted_uid = _number(user_text) if user_text else 0
    uid, gid, home, name = 0, 0, "", b""
    for fields in _entries(passwd, count=7):
        entry_uid, entry_gid = _number(_text(fields[2])), _number(_text(fields[3]))
        if entry_uid is None or entry_gid is None:
            continue
        is_match = (
            fields[0] == os.fsencode(user_text) if wanted_uid is None else entry_uid == wanted_uid
        )
        if is_match:
            uid, gid, name, home = entry_uid, entry_gid, fields[0], _text(fields[5])
            break
    else:
        if wanted_uid is None:
            raise _user_error(
                f"unable to find user {user_text}: no matching entries in passwd file",
                "A numeric id needs no entry in the image's /etc/passwd",
            )
        uid = wanted_uid

    supplementary: list[int] = []
    if group_text:
        gid = _resolve_group(group_text, group)
    elif name:
        for fields in _entries(group, count=4):
            entry_gid = _number(_text(fields[2]))
            if entry_gid is not None and name in fields[3].split(b","):
                supplementary.append(entry_gid)
    supplementary += [_resolve_group(text, group) for text in additional]
    groups = tuple(dict.fromkeys((gid, *supplementary)))
    if not all(0 <= number <= _HIGHEST_ID for number in (uid, *groups)):
        raise _user_error(
            f"uids and gids must be in range 0-{_HIGHEST_ID}", "Choose a user with a smaller id"
        )
    return ResolvedUser(uid=uid, gid=gid, groups=groups, home=home)


def _resolve_group(text: str, group: bytes) -> int:
    wanted = _number(text)
    if wanted is not None:
        return wanted
    for fields in _entries(group, count=4):
        gid = _number(_text(fields[2]))
        if gid is not None and fields[0] == os.fsencode(text):
            return gid
    raise _user_error(
        f"unable to find group {text}: no matching entries in group file",
        "A numeric id needs no entry in the image's /etc/group",
    )


def _user_error(message: str, hint: str) -> StartError:
    return StartError(message, exit_code=125, step="user", hint=hint)


def _entries(contents: bytes, *, count: int) -> list[list[bytes]]:
    """The lines of a passwd or group file, each as exactly `count` fields, missing ones empty."""
    entries = []
    for line in contents.split(b"\n"):
        if stripped := line.strip():
            fields = stripped.split(b":")
            entries.append((fields + [b""] * count)[:count])
    return entries


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def probe_executable(path: str) -> str:
    """What a path is to exec: `executable`, `missing`, `directory` or `denied`; follows links.

    Asks with the ids and capabilities that the thread has now, and sees a noexec mount.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "missing"
    except OSError:
        return "denied"
    if status.st_mode & 0o170000 == 0o040000:
        return "directory"
    return "executable" if os.access(path, os.X_OK, effective_ids=True) else "denied"


def find_executable(
    command: str, search_path: str, probe: Callable[[str], str] = probe_executable
) -> str:
    """The path that exec is to be given for a command, as Docker finds it.

    A command with a slash in it is a path. Any other is looked for in the absolute directories
    of `search_path`; files there that may not be executed are passed over.

    Raises:
        StartError: With exit code 127 (there is no such file) or 126 (it cannot be executed).
    """
    if "/" in command:
        found = probe(command)
        if found == "executable":
            return command
        reason, exit_code = {
            "missing": (f"stat {command}: no such file or directory", 127),
            "directory": ("is a directory", 126),
            "denied": ("permission denied", 126),
        }[found]
        raise StartError(f'exec: "{command}": {reason}', exit_code=exit_code, step="exec")
    denied = ""
    if command:
        for directory in search_path.split(":"):
            if not directory.startswith("/"):
                continue  # a relative one would run whatever lies in the working directory
            path = f"{directory.rstrip('/')}/{command}"
            found = probe(path)
            if found == "executable":
                return path
            if found == "denied":
                denied = denied or path
    raise StartError(
        f'exec: "{command}": executable file not found in $PATH',
        exit_code=127,
        step="exec",
        hint=f"{denied} is there, but may not be executed" if denied else "",
    )


def parse_signal(text: str, *, option: str = "--signal") -> int:
    """The number of `SIGTERM`, `term`, `15` or `SIGRTMIN+3`.

    Raises:
        LimitError: It is none; `option` is what the error says the text was given for.
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        number = int(name) if len(name) < 4 else 0
        if 0 < number <= _LAST_REAL_TIME:
            return number
    elif name in _SIGNALS:
        return _SIGNALS[name]
    elif match := _REAL_TIME.fullmatch(name):
        edge, sign, offset = match.groups()
        number = _FIRST_REAL_TIME if edge == "RTMIN" else _LAST_REAL_TIME
        number += int(f"{sign}{offset}") if sign else 0
        if _FIRST_REAL_TIME <= number <= _LAST_REAL_TIME:
            return number
    raise LimitError(option, text, "a signal such as SIGTERM, TERM, 15 or SIGRTMIN+3")
