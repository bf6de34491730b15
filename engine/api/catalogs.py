"""Calls about what registries have, and who we are to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.types import Digest, FoundImage, LoginResult

from engine.api.parts import EngineParts
from engine.errors import InvalidReferenceError

# Loaded when they are first used: HTTP and TLS take longer to load than most commands take.


class CatalogCalls(EngineParts):
    """`CatalogApi` over the client of registries."""

    async def search_images(self, term: str, *, limit: int = 25) -> tuple[FoundImage, ...]:
        """As EngineApi."""
        from engine.registry.calls import call_registry

        return await call_registry(lambda client: client.search(term, limit=limit))

    async def list_remote_tags(self, repository: str) -> tuple[str, ...]:
        """As EngineApi."""
        from engine.oci.reference import parse_reference
        from engine.registry.calls import call_registry

        name = parse_reference(repository)
        return await call_registry(lambda client: client.tags(name))

    async def delete_remote_image(self, reference: str) -> Digest:
        """As EngineApi."""
        from engine.oci.reference import parse_reference
        from engine.registry.calls import call_registry

        name = parse_reference(reference)
        if not name.tag and name.digest is None:
            raise InvalidReferenceError(reference, "which tag or digest of it is to be deleted?")
        return await call_registry(lambda client: client.delete(name))

    async def log_in(self, registry: str, *, username: str = "", password: str = "") -> LoginResult:
        """As EngineApi."""
        from engine.registry.accounts import log_in, registry_named
        from engine.registry.calls import call_registry
        from engine.registry.credentials import Credential

        host = registry_named(registry)
        login = Credential(username=username, password=password) if username else None
        return await call_registry(lambda client: log_in(client, host, login), login=login)

    async def log_out(self, registry: str) -> bool:
        """As EngineApi."""
        from engine.registry.accounts import log_out, registry_named
        from engine.registry.calls import call_registry

        host = registry_named(registry)
        return await call_registry(lambda client: log_out(client, host))
