"""Options of `run` and `create` about privileges, namespaces, devices and process attributes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.types import DeviceRequest, ProcessOptions, Ulimit
from tui.cli import values
from tui.cli.options import Option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tui.cli.options import Arguments

PROCESS_OPTIONS = (
    Option("group-add", "", "GROUP", "One more group, by name or number", True),
    Option("ulimit", "", "NAME=SOFT[:HARD]", "Resource limit, such as nofile=1024:2048", True),
    Option("cap-add", "", "CAPABILITY", "Give a capability, such as NET_ADMIN, or ALL", True),
    Option("cap-drop", "", "CAPABILITY", "Take a capability away, or ALL", True),
    Option(
        "security-opt",
        "",
        "OPTION",
        "seccomp=FILE|unconfined, no-new-privileges, systempaths=unconfined",
        True,
    ),
    Option("privileged", "", "", "Every capability and device, no filter, nothing masked"),
    Option("device", "", "HOST[:CONTAINER[:rwm]]", "Give a device of the host's", True),
    Option("shm-size", "", "SIZE", "Size of /dev/shm; 64m without it"),
    Option("pid", "", "host|container:NAME", "Share processes with the host or a container"),
    Option("ipc", "", "MODE", "none, private, shareable, host or container:NAME"),
    Option("uts", "", "host", "Share the host's name"),
    Option("userns", "", "host", "Use no user namespace"),
    Option("cgroupns", "", "host|private", "Which control groups it sees"),
    Option("sysctl", "", "NAME=VALUE", "Kernel parameter of its own namespaces", True),
    Option("oom-score-adj", "", "NUMBER", "-1000 to 1000: the higher, the sooner killed"),
)
_MOST_SECCOMP_BYTES = 1 << 20
_MOST_FILE_BYTES = 16 << 20
_ULIMIT = re.compile(r"(-?\d{1,19})(?::(-?\d{1,19}))?", re.ASCII)
_SUPPORTED = (
    "Supported are seccomp=FILE, seccomp=unconfined, no-new-privileges[=true|false] and "
    "systempaths=unconfined"
)


def read_options(arguments: Arguments) -> ProcessOptions:
    """Make the options from the command line; reads the file of a seccomp profile.

    Raises:
        InvalidInputError: A value makes no sense, or a file cannot be read.
    """
    security = _Security(arguments.texts("security-opt"))
    return ProcessOptions(
        group_add=arguments.texts("group-add"),
        ulimits=read_ulimits(arguments.texts("ulimit")),
        cap_add=arguments.texts("cap-add"),
        cap_drop=arguments.texts("cap-drop"),
        seccomp_profile=security.seccomp_profile,
        has_no_new_privileges=security.has_no_new_privileges,
        has_unconfined_system_paths=security.has_unconfined_system_paths,
        is_privileged=arguments.is_on("privileged"),
        devices=tuple(_device(text) for text in arguments.texts("device")),
        shared_memory_bytes=values.size_bytes("--shm-size", arguments.text("shm-size")),
        pid_mode=arguments.text("pid") or "",
        ipc_mode=arguments.text("ipc") or "",
        uts_mode=arguments.text("uts") or "",
        user_namespace_mode=arguments.text("userns") or "",
        cgroup_namespace_mode=arguments.text("cgroupns") or "",
        sysctls=tuple(_sysctl(text) for text in arguments.texts("sysctl")),
        oom_score_adjustment=values.optional_number(
            "--oom-score-adj", arguments.text("oom-score-adj"), smallest=-(1 << 31)
        )
        or 0,
    )


class _Security:
    """What the values of --security-opt say together; of two that contradict the last counts."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.seccomp_profile = ""
        self.has_no_new_privileges = False
        self.has_unconfined_system_paths = False
        for text in texts:
            self._take(text)

    def _take(self, text: str) -> None:
        name, separator, value = text.partition("=" if "=" in text else ":")
        match name, value:
            case "no-new-privileges", "" if not separator:
                self.has_no_new_privileges = True
            case "no-new-privileges", "true" | "1" | "false" | "0":
                self.has_no_new_privileges = value in {"true", "1"}
            case "systempaths", "unconfined":
                self.has_unconfined_system_paths = True
            case "seccomp", "unconfined":
                self.seccomp_profile = value
            case "seccomp", "builtin":
                self.seccomp_profile = ""
            case "seccomp", path if path:
                self.seccomp_profile = _read_profile(path)
            case (("apparmor" | "label"), _) if separator:
                raise InvalidInputError(
                    f"--security-opt {text}: {name} is not there: Lamella confines containers by "
                    "capabilities, seccomp and masked paths",
                    hint=_SUPPORTED,
                )
            case _:
                number = 2 if separator else 1
                raise InvalidInputError(
                    f'invalid --security-opt {number}: "{text}"', hint=_SUPPORTED
                )


def _read_profile(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_SECCOMP_BYTES + 1)
        return content.decode()
    except OSError as error:
        raise InvalidInputError(
            f"opening seccomp profile ({path}) failed: {error.strerror}", hint=_SUPPORTED
        ) from None
    except UnicodeDecodeError:
        raise InvalidInputError(
            f"reading seccomp profile ({path}) failed: it is not text", hint=_SUPPORTED
        ) from None


def read_ulimits(texts: tuple[str, ...]) -> tuple[Ulimit, ...]:
    """Of one name the last value counts."""
    found: dict[str, Ulimit] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        match = _ULIMIT.fullmatch(value)
        if not separator or match is None:
            raise InvalidInputError(
                f"invalid ulimit argument: {text}", hint="Write --ulimit nofile=1024:2048"
            )
        soft, hard = int(match[1]), int(match[2] or match[1])
        found[name] = Ulimit(name=name, soft=soft, hard=hard)
    return tuple(found.values())


def _device(text: str) -> DeviceRequest:
    parts = text.split(":")
    host, access = parts[0], "rwm"
    container = host
    if len(parts) == 2 and parts[1] and not set(parts[1]) - set("rwm"):
        access = parts[1]
    elif len(parts) in {2, 3}:
        container = parts[1] or host
        access = parts[2] if len(parts) == 3 else access
    if len(parts) > 3 or not host:
        raise InvalidInputError(
            f"invalid device specification: {text}",
            hint="Write --device /dev/fuse or --device /dev/sda:/dev/disk:r",
        )
    return DeviceRequest(host_path=host, container_path=container, access=access)


def _sysctl(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise InvalidInputError(
            f"sysctl '{text}' is not allowed", hint="Write --sysctl net.ipv4.ip_forward=1"
        )
    return name.strip(), value.strip()


def file_variables(paths: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, ...]:
    """Read --env-file: `NAME=value`, or a NAME that takes its value from `variables`.

    Raises:
        InvalidInputError: A file cannot be read, or has a line that is no variable.
    """
    found: list[str] = []
    for path in paths:
        for name, value in _lines(path, what="env"):
            if value is not None:
                found.append(f"{name}={value}")
            elif name in variables:
                found.append(f"{name}={variables[name]}")
    return tuple(found)


def file_labels(paths: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read --label-file: `name=value`, or a name with an empty value.

    Raises:
        InvalidInputError: A file cannot be read, or has a line that is no label.
    """
    return tuple(
        (name, value or "") for path in paths for name, value in _lines(path, what="label")
    )


def _lines(path: str, *, what: str) -> list[tuple[str, str | None]]:
    """Names and values of a file, comments and empty lines left out, as Docker reads it."""
    option = f"--{what}-file"
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"open {path}: {(error.strerror or str(error)).lower()}",
            hint=f"{option} takes a file with a NAME=value on each line",
        ) from None
    if len(content) > _MOST_FILE_BYTES:
        raise InvalidInputError(
            f"{what} file {path} is larger than 16 MB", hint=f"{option} takes a file of lines"
        )
    found: list[tuple[str, str | None]] = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"{what} file {path} contains invalid utf8 bytes at line {number}",
                hint="Save it as UTF-8",
            ) from None
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not name:
            raise InvalidInputError(
                f"no variable name on line '{line}'", hint=f"{path}: write NAME=value"
            )
        if any(character.isspace() for character in name):
            raise InvalidInputError(
                f"variable '{name}' contains whitespaces", hint=f"{path}: write NAME=value"
            )
        found.append((name, value if separator else None))
    return found
