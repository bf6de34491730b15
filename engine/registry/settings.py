"""What the person says of registries: plain http, mirrors, certificates, proxies.

`$XDG_CONFIG_HOME/lamella/registries.toml`, else `/etc/lamella/registries.toml`
(LAMELLA_REGISTRIES names another file):

    [registry."registry.lan:5000"]
    insecure = true                       # https without verifying, or plain http
    mirrors = ["https://cache.lan:5000"]  # tried in order, before the registry itself

    [registry."docker.io"]
    search = "https://index.docker.io/v1/search"

Certificates are where Docker and Podman have them: `certs.d/HOST:PORT/` with `*.crt` (authorities)
and pairs of `*.cert` and `*.key` (who we are).
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCKER_HUB = "docker.io"
DOCKER_HUB_SEARCH = "https://index.docker.io/v1/search"
_KEYS = frozenset({"insecure", "mirrors", "search"})
_SETTINGS_NAME = "registries.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a request is tried again; delays double and are drawn at random below their bound.

    Attributes:
        attempts: How often without getting anywhere.
        longest_wait_seconds: Of one wait; a registry that asks for more has refused.
    """

    attempts: int = 6
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 20.0
    longest_wait_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What the person says of one registry."""

    is_insecure: bool = False
    mirrors: tuple[str, ...] = ()
    search_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """Everything that a client is told from outside.

    Attributes:
        hosts: By host and port as in an image's name.
        certificate_directories: Each holds `HOST:PORT/`; the first that has a host counts.
        environment: For proxies and credentials.
    """

    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    certificate_directories: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    connect_seconds: float = 15.0
    silence_seconds: float = 30.0
    """How long a connection may bring nothing."""
    answer_seconds: float = 60.0
    """How long an answer may take to begin, and a document to come."""
    slow_seconds: float = 60.0
    """How long a blob may bring next to nothing."""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> RegistrySettings:
        """Read the settings; a missing file is none. Blocking.

        Raises:
            InvalidInputError: The file cannot be read or says what makes no sense.
        """
        values = dict(os.environ if environment is None else environment)
        own = configuration_directory(values) / "lamella"
        named = values.get("LAMELLA_REGISTRIES")
        paths = (
            (Path(named),)
            if named
            else (own / _SETTINGS_NAME, Path("/etc/lamella/registries.toml"))
        )
        found = next((path for path in paths if _is_there(path)), None)
        if named and found is None:
            raise InvalidInputError(
                f"no such file: {named}", hint="LAMELLA_REGISTRIES names a file that exists"
            )
        return cls(
            hosts=_read_hosts(found) if found else {},
            certificate_directories=(
                own / "certs.d",
                Path("/etc/lamella/certs.d"),
                configuration_directory(values) / "containers" / "certs.d",
                Path("/etc/docker/certs.d"),
                Path("/etc/containers/certs.d"),
            ),
            environment=values,
        )

    def of(self, domain: str) -> HostSettings:
        """What is said of one registry."""
        return self.hosts.get(domain, HostSettings())


def home_directory(values: Mapping[str, str]) -> Path:
    """The person's home; `/` for somebody without one."""
    return Path(values.get("HOME") or "/")


def configuration_directory(values: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME`, or where it is by default."""
    return Path(values.get("XDG_CONFIG_HOME") or home_directory(values) / ".config")


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}") from error
    return True


def _read_hosts(path: Path) -> dict[str, HostSettings]:
    try:
        document: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # also of numbers without end
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    tables = document.get("registry", {}) if isinstance(document, dict) else {}
    if not isinstance(tables, dict):
        raise InvalidInputError(f'{path}: write [registry."HOST:PORT"] above its settings')
    hosts: dict[str, HostSettings] = {}
    for domain, table in tables.items():
        if not isinstance(table, dict):
            raise InvalidInputError(f'{path}: write [registry."{domain}"] above its settings')
        unknown = set(table) - _KEYS
        if unknown:
            known = ", ".join(sorted(_KEYS))
            raise InvalidInputError(
                f"{path}: unknown setting of {domain}: {min(unknown)}, only {known}"
            )
        insecure = table.get("insecure", False)
        mirrors = table.get("mirrors", [])
        search = table.get("search", "")
        if not isinstance(insecure, bool):
            raise InvalidInputError(f"{path}: insecure of {domain} is true or false")
        if not isinstance(mirrors, list) or not all(map(_is_url, mirrors)):
            raise InvalidInputError(f"{path}: mirrors of {domain} are a list of URLs")
        if search != "" and not _is_url(search):
            raise InvalidInputError(f"{path}: search of {domain} is a URL")
        hosts[domain] = HostSettings(
            is_insecure=insecure, mirrors=tuple(mirrors), search_url=search
        )
    return hosts


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))
