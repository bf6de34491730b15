"""Logging in to registries and out again. Everything here blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InvalidInputError, RegistryRefusedError
from engine.registry.credentials import (
    Credential,
    find_credential,
    forget_credential,
    store_credential,
)
from engine.registry.endpoints import parse_http_url
from engine.registry.settings import DOCKER_HUB
from engine.types import LoginResult

if TYPE_CHECKING:
    from engine.registry.client import RegistryClient

_DOCKER_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})


def registry_named(text: str) -> str:
    """The registry that a person means, as images' names have it; Docker Hub for no text.

    Raises:
        InvalidInputError: It is no host.
    """
    url = parse_http_url(text if "://" in text else f"https://{text or DOCKER_HUB}")
    if url is None:
        raise InvalidInputError(
            f"not a registry: {text!r}", hint="Give its host, and its port if it has one"
        )
    host = text.partition("://")[2] or text
    host = host.partition("/")[0].lower()
    return DOCKER_HUB if not host or host in _DOCKER_HUB_NAMES else host


def log_in(client: RegistryClient, registry: str, login: Credential | None) -> LoginResult:
    """See that a registry knows us, and keep how we said so.

    Args:
        client: Made with the same login.
        registry: As in an image's name.
        login: Who to be; None for who is kept already.

    Raises:
        RegistryRefusedError: It does not know us, or nobody is kept.
        EngineError: It cannot be asked, or what it takes cannot be kept.
    """
    environment = client.settings.environment
    if login is None:
        kept = find_credential(registry, "", environment, breaker=client.breaker)
        if kept is None:
            raise RegistryRefusedError(registry, f"not logged in to {registry}")
        client.check_login(registry)
        return LoginResult(registry=registry, username=kept.username, stored_in="", is_plain=False)
    token = client.check_login(registry)
    stored = Credential(username=login.username, identity_token=token) if token else login
    stored_in, is_plain = store_credential(registry, stored, environment, breaker=client.breaker)
    return LoginResult(
        registry=registry, username=login.username, stored_in=stored_in, is_plain=is_plain
    )


def log_out(client: RegistryClient, registry: str) -> bool:
    """Forget how we were known to a registry; False if we were not.

    Raises:
        EngineError: A file or a helper cannot be changed.
    """
    return forget_credential(registry, client.settings.environment, breaker=client.breaker)
