"""A client of registries: OCI distribution-spec 1.1 and Docker registry v2.

Everything blocks, and belongs into a thread; any number of threads may use one client at once.
`cancel` ends whatever they do with CancelledRead, at once and for good. All else that is raised
is an EngineError.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from engine.errors import DigestMismatchError, RegistryError, RemoteImageNotFoundError
from engine.oci.digests import digest_of, is_digest, require_digest
from engine.oci.documents import MAXIMUM_MANIFEST_BYTES
from engine.registry.authentication import Authenticator
from engine.registry.blobs import BlobStream
from engine.registry.listing import list_tags, search_registry
from engine.registry.manifests import (
    ACCEPTED_MANIFESTS,
    ChosenManifest,
    KnownManifests,
    RemoteDocument,
    choose_manifest,
    read_document,
)
from engine.registry.session import Question, RegistrySession
from engine.registry.settings import RegistrySettings
from engine.registry.transport import Transport
from engine.registry.uploads import BlobUpload, push_scopes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from engine.oci.documents import Descriptor, Platform
    from engine.oci.reference import Reference
    from engine.registry.connections import Breaker
    from engine.registry.credentials import Credential
    from engine.registry.uploads import BlobSource
    from engine.types import Digest, FoundImage


def _ignore_bytes(_count: int) -> None:
    """Listen to nothing."""


class RegistryClient:
    """Manifests, blobs, tags and search, of any registry."""

    def __init__(
        self, settings: RegistrySettings | None = None, *, login: Credential | None = None
    ) -> None:
        """Connects to nobody yet.

        Args:
            settings: Those of the person's files, unless given.
            login: Who to be, instead of looking it up.

        Raises:
            InvalidInputError: The person's files make no sense.
        """
        self.settings = settings or RegistrySettings.load()
        self._transport = Transport(self.settings)
        self._authenticator = Authenticator(self._transport, self.settings, login=login)
        self._sessions: dict[str, RegistrySession] = {}
        self._lock = threading.Lock()

    @property
    def breaker(self) -> Breaker:
        """Ends what this client does, and what is done for it."""
        return self._transport.breaker

    def cancel(self) -> None:
        """End everything that is under way, from any thread; nothing works afterwards."""
        self.breaker.cut()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What registries warned of so far, each once."""
        with self._lock:
            sessions = tuple(self._sessions.values())
        return tuple(dict.fromkeys(text for session in sessions for text in session.warnings))

    def check_login(self, registry: str) -> str:
        """See whether a registry knows us.

        Returns:
            What its token server gave to be kept instead of the password; empty for nothing.

        Raises:
            RegistryRefusedError: It does not.
            RegistryError: It cannot be asked.
        """
        session = self._session(registry)
        with session.ask(Question(method="GET", path="/v2/")) as answer:
            if answer.status == 200:
                return self._authenticator.refresh_token
            if answer.status == 404:
                raise RegistryError(registry, f"{registry} is not a registry: it has no /v2/")
            raise session.unexpected(answer, "login attempt failed")

    # --- manifests ------------------------------------------------------------------------

    def get_manifest(self, name: Reference, *, tag_or_digest: str) -> RemoteDocument:
        """Get a manifest or an index, byte for byte; its digest is verified.

        Raises:
            RemoteImageNotFoundError: The registry does not have it.
            RegistryRefusedError: It lets us not see it.
            RegistryError: It cannot be had; its kind says why.
            ArchiveError: It is no manifest, or of schema 1.
            DigestMismatchError: It is another one than its digest says.
        """
        session = self._session(name.domain)
        answer, content = session.fetch(
            Question(
                method="GET",
                path=f"/v2/{name.path}/manifests/{tag_or_digest}",
                scopes=_pull_scopes(name),
                headers={"Accept": ACCEPTED_MANIFESTS},
                may_ask_mirrors=True,
            ),
            maximum_bytes=MAXIMUM_MANIFEST_BYTES,
        )
        with answer:
            if answer.status == 200:
                return read_document(name, tag_or_digest, answer, content)
            if answer.status == 404:
                raise RemoteImageNotFoundError(
                    name.domain, _shown(name, tag_or_digest), session.reason(answer)
                )
            if answer.status in {401, 403}:
                raise session.refused(answer, subject=name.familiar_repository)
            raise session.unexpected(answer, f"cannot get {_shown(name, tag_or_digest)}")

    def find_digest(
        self, name: Reference, *, tag_or_digest: str, may_ask_mirrors: bool = True
    ) -> Digest | None:
        """The digest that a name leads to now, without getting it; None if the registry has none.

        Does not count against the pulls of a registry that limits them. A mirror may be behind.

        Raises:
            RegistryError: It cannot be asked.
        """
        session = self._session(name.domain)
        with session.ask(
            Question(
                method="HEAD",
                path=f"/v2/{name.path}/manifests/{tag_or_digest}",
                scopes=_pull_scopes(name),
                headers={"Accept": ACCEPTED_MANIFESTS},
                may_ask_mirrors=may_ask_mirrors,
            )
        ) as answer:
            if answer.status == 404:
                return None
            if answer.status in {401, 403}:
                raise session.refused(answer, subject=name.familiar_repository)
            if answer.status != 200:
                raise session.unexpected(answer, f"cannot look for {_shown(name, tag_or_digest)}")
            digest = answer.header("Docker-Content-Digest")
        if is_digest(digest):
            return require_digest(digest)
        # A registry need not say it.
        return self.get_manifest(name, tag_or_digest=tag_or_digest).digest

    def choose(
        self, name: Reference, platform: Platform, *, known: KnownManifests | None = None
    ) -> ChosenManifest:
        """Get the manifest of a name for a platform, through indexes where there are some.

        A manifest that no index is before is taken as it is: its config says what it is for.
        What the name leads to is always asked for; what an index leads to, unless it is known.

        Raises:
            PlatformMismatchError: There is none for the platform.
            EngineError: As `get_manifest`.
        """
        return choose_manifest(self, name, platform, known)

    def put_manifest(
        self, name: Reference, *, tag_or_digest: str, media_type: str, content: bytes
    ) -> Digest:
        """Give a repository a manifest, whose blobs it has; returns its digest.

        Raises:
            RegistryError: It does not take it.
        """
        session = self._session(name.domain)
        digest = digest_of(content)
        with session.ask(
            Question(
                method="PUT",
                path=f"/v2/{name.path}/manifests/{tag_or_digest}",
                scopes=push_scopes(name),
                headers={"Content-Type": media_type},
                body=content,
            )
        ) as answer:
            if answer.status not in {200, 201, 202}:
                raise session.unexpected(answer, f"cannot push {_shown(name, tag_or_digest)}")
            session.check_taken(answer, digest)
        return digest

    def delete(self, name: Reference) -> Digest:
        """Take what a name leads to from its repository; returns its digest.

        Raises:
            RemoteImageNotFoundError: It does not have it.
            RegistryError: It deletes nothing, or not for us, or does not tell the digest.
        """
        wanted = name.digest or name.tag
        digest = name.digest or self.find_digest(name, tag_or_digest=wanted, may_ask_mirrors=False)
        if digest is None:
            raise RemoteImageNotFoundError(name.domain, _shown(name, wanted), "manifest unknown")
        self.delete_manifest(name, digest=digest)
        return digest

    def delete_manifest(self, name: Reference, *, digest: str) -> None:
        """Take a manifest, and every tag of it, from a repository.

        Raises:
            RemoteImageNotFoundError: It does not have it.
            RegistryError: It deletes nothing, or not for us.
        """
        session = self._session(name.domain)
        with session.ask(
            Question(
                method="DELETE",
                path=f"/v2/{name.path}/manifests/{digest}",
                scopes=(f"repository:{name.path}:delete", f"repository:{name.path}:pull"),
            )
        ) as answer:
            if answer.status == 404:
                raise RemoteImageNotFoundError(
                    name.domain, _shown(name, digest), session.reason(answer)
                )
            if answer.status == 405:
                raise RegistryError(name.domain, f"{name.domain} does not let images be deleted")
            if answer.status not in {200, 202}:
                raise session.unexpected(answer, f"cannot delete {_shown(name, digest)}")

    # --- blobs ----------------------------------------------------------------------------

    def open_blob(
        self,
        name: Reference,
        descriptor: Descriptor,
        *,
        offset: int = 0,
        on_retry: Callable[[float], None] | None = None,
    ) -> BlobStream:
        """A blob from an offset on; it has the descriptor's size, its digest is not verified.

        Args:
            name: Of the repository.
            descriptor: Digest and size.
            offset: How much of it is here already.
            on_retry: Told in seconds of each wait for a registry that does not answer.
        """
        session = self._session(name.domain)
        return BlobStream(session, name, descriptor, offset=offset, on_retry=on_retry)

    def get_small_blob(
        self, name: Reference, descriptor: Descriptor, *, maximum_bytes: int
    ) -> bytes:
        """A whole blob, such as a config; its digest is verified.

        Raises:
            RegistryError: It is larger than that, or cannot be had.
            DigestMismatchError: It is another one than its digest says.
        """
        if descriptor.size > maximum_bytes:
            raise RegistryError(
                name.domain, f"{descriptor.digest} is larger than {maximum_bytes} bytes"
            )
        with self.open_blob(name, descriptor) as stream:
            content = b"".join(iter(lambda: stream.read(maximum_bytes), b""))
        actual = digest_of(content)
        if actual != descriptor.digest:
            raise DigestMismatchError(
                f"{name.familiar_repository}@{descriptor.digest}",
                expected=descriptor.digest,
                actual=actual,
            )
        return content

    def has_blob(self, name: Reference, digest: str) -> bool:
        """Whether a repository has a blob.

        Raises:
            RegistryError: It cannot be asked.
        """
        session = self._session(name.domain)
        with session.ask(
            Question(
                method="HEAD", path=f"/v2/{name.path}/blobs/{digest}", scopes=push_scopes(name)
            )
        ) as answer:
            if answer.status in {200, 404}:
                return answer.status == 200
            raise session.unexpected(answer, f"cannot look for {digest}")

    def mount_blob(self, name: Reference, digest: str, *, source_repository: str) -> bool:
        """Have a repository take a blob from another one of the same registry.

        Args:
            name: Whose repository is to have it.
            digest: Of the blob.
            source_repository: Path of a repository that may have it: `library/debian`.

        Returns:
            False if it has to be uploaded: it is not there, or the registry does not do so.

        Raises:
            RegistryError: It cannot be asked, or does not take pushes from us.
        """
        session = self._session(name.domain)
        path = (
            f"/v2/{name.path}/blobs/uploads/?mount={digest.replace(':', '%3A')}"
            f"&from={source_repository}"
        )
        with session.ask(
            Question(
                method="POST",
                path=path,
                scopes=push_scopes(name, source_repository),
                headers={"Content-Length": "0"},
            )
        ) as answer:
            if answer.status == 201:
                return True
            if answer.status != 202:
                # Not allowed to read there, as a rule; the upload says what is wrong otherwise.
                return False
            location = answer.header("Location")
            url = answer.url
        session.abandon_upload(location, url, push_scopes(name))
        return False

    def upload_blob(
        self,
        name: Reference,
        source: BlobSource,
        *,
        digest: Digest | None = None,
        on_bytes: Callable[[int], None] = _ignore_bytes,
        on_retry: Callable[[float], None] | None = None,
    ) -> Digest:
        """Give a repository a blob; returns its digest.

        Args:
            name: Of the repository.
            source: The blob; it is opened again when a connection breaks.
            digest: What it has to be; None where that shows only at its end.
            on_bytes: Told how much was sent so far.
            on_retry: Told in seconds of each wait.

        Raises:
            RegistryError: It does not take it, or the blob is another one.
        """
        session = self._session(name.domain)
        return BlobUpload(
            session, name, source, digest=digest, on_bytes=on_bytes, on_retry=on_retry
        ).run()

    # --- lists ----------------------------------------------------------------------------

    def tags(self, name: Reference) -> tuple[str, ...]:
        """Every tag of a repository, in the registry's order.

        Raises:
            RemoteImageNotFoundError: There is no such repository.
            RegistryError: It cannot be asked.
        """
        return list_tags(self._session(name.domain), name)

    def search(self, term: str, *, limit: int) -> tuple[FoundImage, ...]:
        """Repositories whose name or description has a term, best first.

        Args:
            term: `HOST/TERM` searches another registry than Docker Hub.
            limit: How many at most.

        Raises:
            RegistryError: It cannot be asked, or does not answer such questions.
        """
        return search_registry(self._session, self.settings, term, limit)

    def _session(self, domain: str) -> RegistrySession:
        with self._lock:
            session = self._sessions.get(domain)
            if session is None:
                session = RegistrySession(
                    domain,
                    transport=self._transport,
                    authenticator=self._authenticator,
                    settings=self.settings,
                )
                self._sessions[domain] = session
            return session


def _pull_scopes(name: Reference) -> tuple[str, ...]:
    return (f"repository:{name.path}:pull",)


def _shown(name: Reference, tag_or_digest: str) -> str:
    joint = "@" if is_digest(tag_or_digest) else ":"
    return f"{name.familiar_repository}{joint}{tag_or_digest}"
