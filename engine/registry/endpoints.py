"""Where a registry answers: scheme, host and port, and how far its certificate is believed."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from engine.registry.settings import DOCKER_HUB

if TYPE_CHECKING:
    from pathlib import Path

    from engine.registry.settings import RegistrySettings

_DOCKER_HUB_HOST = "registry-1.docker.io"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An http or https address that was taken apart; `target` is path and query."""

    scheme: str
    host: str
    """Without brackets, lower case."""
    port: int
    target: str

    @property
    def address(self) -> str:
        """Host, and port unless it is the scheme's own: as certificates and names have it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and address: who gets what is meant for somebody."""
        return f"{self.scheme}://{self.address}"

    def __str__(self) -> str:
        return self.origin + self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One way to a registry.

    Attributes:
        base: Its address; what paths are appended to.
        registry: The registry as in an image's name; a mirror's is its own address.
        is_mirror: It is asked for what it has of another registry, and may not have it.
    """

    base: Url
    registry: str
    is_mirror: bool = False

    def url(self, path: str) -> Url:
        """A path of the interface, such as `/v2/`, there."""
        prefix = self.base.target.rstrip("/")
        return Url(
            scheme=self.base.scheme,
            host=self.base.host,
            port=self.base.port,
            target=prefix + path,
        )


def parse_http_url(text: str, *, base: Url | None = None) -> Url | None:
    """Take an address apart, relative to `base` where it has no host; None if it is not one."""
    if len(text) > _LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        parsed = parse_url(urljoin(str(base), text) if base is not None else text)
    except (LocationParseError, ValueError):
        return None
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host or parsed.auth:
        return None
    return Url(
        scheme=parsed.scheme,
        host=parsed.host.strip("[]").lower(),
        port=parsed.port or _DEFAULT_PORTS[parsed.scheme],
        target=parsed.request_uri,
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this one: `localhost`, 127.0.0.0/8, ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_plain_allowed(host: str, address: str, settings: RegistrySettings) -> bool:
    """Whether a registry may be spoken to without encryption, or without knowing that it is it."""
    return is_loopback(host) or settings.of(address).is_insecure


def certificate_directory(address: str, settings: RegistrySettings) -> Path | None:
    """Where the certificates for a host are, if the person has some for it.

    Raises:
        InvalidInputError: It cannot be told.
    """
    for parent in settings.certificate_directories:
        directory = parent / address
        try:
            is_there = directory.is_dir()
        except OSError as error:
            # Not passed over: it may be what says that nobody else is to be believed.
            raise InvalidInputError(
                f"cannot look for certificates in {directory}: {error.strerror or error}",
                hint=f"Let {parent} be read, or take it away",
            ) from error
        if is_there:
            return directory
    return None


def endpoints_of(
    domain: str, settings: RegistrySettings, *, for_writing: bool = False
) -> tuple[Endpoint, ...]:
    """Every way to a registry, the ones to try first first.

    Args:
        domain: As in an image's name: `docker.io`, `localhost:5000`.
        for_writing: Mirrors are left out.

    Raises:
        InvalidInputError: No host name, or a mirror without one.
    """
    found: list[Endpoint] = []
    for mirror in () if for_writing else settings.of(domain).mirrors:
        url = parse_http_url(mirror)
        if url is None:
            raise InvalidInputError(f"the mirror of {domain} is not a URL: {mirror}")
        found.append(Endpoint(base=url, registry=url.address, is_mirror=True))
    host = _DOCKER_HUB_HOST if domain == DOCKER_HUB else domain
    schemes: tuple[str, ...] = ("https",)
    secure = parse_http_url(f"https://{host}/")
    if secure is None:
        raise InvalidInputError(f"not the name of a registry: {domain}")
    has_certificates = certificate_directory(secure.address, settings) is not None
    if is_plain_allowed(secure.host, domain, settings) and not has_certificates:
        schemes = ("https", "http")
    for scheme in schemes:
        url = parse_http_url(f"{scheme}://{host}/")
        if url is not None:
            found.append(Endpoint(base=url, registry=domain))
    return tuple(found)
