"""What can be asked about what registries have, and who we are to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.types import Digest, FoundImage, LoginResult


class CatalogApi(Protocol):
    """Registries beyond their images; every call may raise RegistryError.

    A registry is a host, with its port if it has one; Docker Hub is `docker.io` or empty.
    """

    async def search_images(self, term: str, *, limit: int = 25) -> tuple[FoundImage, ...]:
        """Find repositories by a word, best first.

        Args:
            term: Looked for on Docker Hub; `HOST/TERM` looks on another registry, most of which
                know nothing but names. `HOST/` is all that it has, and so is `localhost:5000`.
            limit: How many at most; none has more than 100.
        """

    async def list_remote_tags(self, repository: str) -> tuple[str, ...]:
        """Every tag of a repository, in the registry's order.

        Raises:
            RemoteImageNotFoundError: There is no such repository.
        """

    async def delete_remote_image(self, reference: str) -> Digest:
        """Have a registry forget an image, with every tag that leads to it; what is here stays.

        Args:
            reference: With a tag or a digest.

        Returns:
            The digest of what the registry has no longer.

        Raises:
            InvalidReferenceError: There is neither a tag nor a digest.
            RemoteImageNotFoundError: There is no such image.
            RegistryError: The registry deletes nothing, or not for us.
        """

    async def log_in(self, registry: str, *, username: str = "", password: str = "") -> LoginResult:
        """Show a registry who we are, and keep that for later where Docker keeps it.

        Args:
            registry: Which.
            username: Empty to see whether what is kept is still good.
            password: Or a token that stands for it.

        Raises:
            RegistryRefusedError: The registry does not know us so, or nothing is kept.
        """

    async def log_out(self, registry: str) -> bool:
        """Forget who we are to a registry; False if nothing was kept."""
