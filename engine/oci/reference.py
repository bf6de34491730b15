"""Image references, by the grammar and the normalisation of Docker (distribution/reference).

A name without a registry is Docker Hub's, a name there without an owner is `library`'s; people
see the familiar form, from which both are left out again.
"""

from __future__ import annotations

import re

from engine.errors import InvalidReferenceError
from engine.late_dataclasses import dataclass
from engine.oci.digests import is_digest
from engine.types import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_LIBRARY = "library/"
_MAXIMUM_NAME_LENGTH = 255

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(
    rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII
)
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID_BEGINNING = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed image name.

    Attributes:
        domain: Registry host and port: `docker.io`, `localhost:5000`.
        path: Repository below it: `library/debian`.
        tag: Empty when none was given.
        digest: Of a manifest; None when none was given.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def familiar_repository(self) -> str:
        """The repository as people write it: `debian`, `localhost:5000/web`."""
        if self.domain == DEFAULT_DOMAIN:
            return self.path.removeprefix(_LIBRARY) if self._is_short_library else self.path
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """With tag, `latest` if none was given (and no digest): `debian:bookworm`."""
        name = self.familiar_repository
        tag = self.tag or ("" if self.digest else DEFAULT_TAG)
        if tag:
            name = f"{name}:{tag}"
        return f"{name}@{self.digest}" if self.digest else name

    @property
    def canonical_name(self) -> str:
        """With everything written out: `docker.io/library/debian:bookworm`."""
        tag = self.tag or ("" if self.digest else DEFAULT_TAG)
        name = f"{self.domain}/{self.path}"
        if tag:
            name = f"{name}:{tag}"
        return f"{name}@{self.digest}" if self.digest else name

    @property
    def _is_short_library(self) -> bool:
        # docker.io/library/a/b would read as owner `a` without its `library/`.
        return self.path.startswith(_LIBRARY) and self.path.count("/") == 1


def parse_reference(text: str) -> Reference:
    """Parse what a person typed or an archive says.

    Raises:
        InvalidReferenceError: It does not follow the grammar; the reason says where.
    """
    if not text:
        raise InvalidReferenceError(text, "it is empty")
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReferenceError(text, "64 hexadecimal digits are an image id, not a name")
    name, _, digest_text = text.partition("@")
    if "@" in text and not is_digest(digest_text):
        raise InvalidReferenceError(text, "what follows @ is not a sha256 digest")
    # A colon before the last slash belongs to the registry's port.
    last = name.rpartition("/")[2]
    tag = ""
    if ":" in last:
        name, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise InvalidReferenceError(
                text,
                "a tag is 1-128 letters, digits, `_`, `.`, `-` and begins with neither . nor -",
            )
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain):
        raise InvalidReferenceError(text, "the registry is not a host name")
    if path != path.lower():
        raise InvalidReferenceError(text, "repository name must be lowercase")
    if not _PATH.fullmatch(path):
        raise InvalidReferenceError(
            text, "a repository is lowercase letters and digits, separated by / . _ __ or -"
        )
    if len(domain) + 1 + len(path) > _MAXIMUM_NAME_LENGTH:
        raise InvalidReferenceError(
            text, f"repository name must not be more than {_MAXIMUM_NAME_LENGTH} characters"
        )
    return Reference(
        domain=domain, path=path, tag=tag, digest=Digest(digest_text) if digest_text else None
    )


def id_beginning(text: str) -> str | None:
    """The hexadecimal digits of what may be an image id or its beginning; else None."""
    match = _ID_BEGINNING.fullmatch(text)
    return match.group(1) if match else None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _LIBRARY + path
    return domain, path
