"""What the fake engine finds in registries."""

from __future__ import annotations

from engine.errors import (
    InvalidReferenceError,
    RegistryRefusedError,
    RemoteImageNotFoundError,
)
from engine.oci.reference import parse_reference
from engine.types import Digest, FoundImage, LoginResult
from tests.fake_world import FakeWorld


class FakeCatalogs(FakeWorld):
    """A registry of its own kind, with one account.

    Attributes:
        repositories: What a search looks through.
        remote_tags: By repository.
        accounts: Passwords by registry and name.
        kept_logins: Names by registry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repositories: list[FoundImage] = []
        self.remote_tags: dict[str, tuple[str, ...]] = {}
        self.accounts: dict[tuple[str, str], str] = {}
        self.kept_logins: dict[str, str] = {}

    async def search_images(self, term: str, *, limit: int = 25) -> tuple[FoundImage, ...]:
        await self._note("search", term)
        host, slash, words = term.partition("/")
        words = (words if slash else "") if ":" in host else term
        found = [one for one in self.repositories if words in one.name + one.description]
        return tuple(found[:limit])

    async def list_remote_tags(self, repository: str) -> tuple[str, ...]:
        await self._note("tags", repository)
        if repository not in self.remote_tags:
            raise RemoteImageNotFoundError("fake", repository, "name unknown")
        return self.remote_tags[repository]

    async def delete_remote_image(self, reference: str) -> Digest:
        name = parse_reference(reference)
        if not name.tag and name.digest is None:
            raise InvalidReferenceError(reference, "which tag or digest of it is to be deleted?")
        await self._note("delete-remote", reference)
        repository = name.familiar_repository
        tags = self.remote_tags.get(repository, ())
        if name.tag not in tags:
            raise RemoteImageNotFoundError("fake", reference, "manifest unknown")
        self.remote_tags[repository] = tuple(tag for tag in tags if tag != name.tag)
        return Digest(f"sha256:{'d' * 64}")

    async def log_in(self, registry: str, *, username: str = "", password: str = "") -> LoginResult:
        await self._note("login", registry)
        host = registry or "docker.io"
        if not username:
            if host not in self.kept_logins:
                raise RegistryRefusedError(host, f"not logged in to {host}")
            return LoginResult(
                registry=host, username=self.kept_logins[host], stored_in="", is_plain=False
            )
        if self.accounts.get((host, username)) != password:
            raise RegistryRefusedError(
                host, f"{host}: unauthorized: incorrect username or password"
            )
        self.kept_logins[host] = username
        return LoginResult(
            registry=host, username=username, stored_in="/fake/config.json", is_plain=True
        )

    async def log_out(self, registry: str) -> bool:
        await self._note("logout", registry)
        return self.kept_logins.pop(registry or "docker.io", None) is not None
