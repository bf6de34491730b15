"""What a registry has: tags, repositories, and what a search finds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import msgspec

from engine.errors import RegistryError, RemoteImageNotFoundError
from engine.oci.documents import has_too_many_parts
from engine.registry.endpoints import parse_http_url
from engine.registry.session import Question
from engine.registry.settings import DOCKER_HUB, DOCKER_HUB_SEARCH
from engine.types import FoundImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.oci.reference import Reference
    from engine.registry.endpoints import Url
    from engine.registry.session import RegistrySession
    from engine.registry.settings import RegistrySettings

_PAGE = 1000
_MOST_PAGES = 100
_LARGEST_PAGE = 8 << 20
_MOST_FOUND = 100
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_MOST_TAGS = 250_000
_LINK = re.compile(r"<([^<>]+)>([^<]*)")
_NEXT = re.compile(r""";\s*rel\s*=\s*"?next\b"?""", re.IGNORECASE)
_LONGEST_TEXT = 1000
# A host that cannot be taken for a repository with a tag, as `debian:12` is.
_HOST_WITH_PORT = re.compile(
    r"(?:localhost|\[[0-9a-f:.]+\]|[a-z0-9-]+(?:\.[a-z0-9-]+)+):\d{1,5}", re.IGNORECASE | re.ASCII
)
_Shape = TypeVar("_Shape")


class _Tags(msgspec.Struct, frozen=True, kw_only=True):
    tags: tuple[str, ...] | None = None


class _Catalog(msgspec.Struct, frozen=True, kw_only=True):
    repositories: tuple[str, ...] | None = None


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    description: str | None = None
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False
    pull_count: int = 0


class _Results(msgspec.Struct, frozen=True, kw_only=True):
    results: tuple[_Result, ...] | None = None


def list_tags(session: RegistrySession, name: Reference) -> tuple[str, ...]:
    """As RegistryClient.tags."""
    found: dict[str, None] = {}
    scopes = (f"repository:{name.path}:pull",)
    for content in _pages(session, f"/v2/{name.path}/tags/list?n={_PAGE}", scopes, name):
        document = _decode(session, content, _Tags)
        # What cannot be a tag is of no use to anybody.
        found.update(dict.fromkeys(tag for tag in document.tags or () if _TAG.fullmatch(tag)))
        if len(found) > _MOST_TAGS:
            raise RegistryError(
                session.domain, f"{name.familiar_repository} has more than {_MOST_TAGS:,} tags"
            )
    return tuple(found)


def search_registry(
    session_of: Callable[[str], RegistrySession],
    settings: RegistrySettings,
    term: str,
    limit: int,
) -> tuple[FoundImage, ...]:
    """As RegistryClient.search."""
    first, slash, rest = term.partition("/")
    is_domain = (
        ("." in first or ":" in first or first == "localhost")
        if slash
        else (_HOST_WITH_PORT.fullmatch(term) is not None)
    )
    domain, words = (first, rest) if is_domain else (DOCKER_HUB, term)
    if domain in {"index.docker.io", "registry-1.docker.io"}:
        domain = DOCKER_HUB
    session = session_of(domain)
    address = settings.of(domain).search_url or (DOCKER_HUB_SEARCH if domain == DOCKER_HUB else "")
    limit = max(1, min(limit, _MOST_FOUND))
    query = urlencode({"q": words, "n": limit})
    path: str | Url = f"/v1/search?{query}"
    if address:
        url = parse_http_url(f"{address}?{query}")
        if url is None:
            raise RegistryError(domain, f"the search of {domain} is no address: {address}")
        path = url
    answer, content = session.fetch(Question(method="GET", path=path), maximum_bytes=_LARGEST_PAGE)
    with answer:
        if answer.status == 200:
            document = _decode(session, content, _Results)
            prefix = "" if domain == DOCKER_HUB else f"{domain}/"
            found = (_found(result, prefix) for result in document.results or () if result.name)
            return tuple(found)[:limit]
        if address:
            raise session.unexpected(answer, f"cannot search for {words}")
    return _search_catalog(session, words, limit)


def _found(result: _Result, prefix: str) -> FoundImage:
    return FoundImage(
        name=prefix + result.name.removeprefix(prefix)[:_LONGEST_TEXT],
        description=(result.description or "")[:_LONGEST_TEXT],
        star_count=result.star_count,
        is_official=result.is_official,
        is_automated=result.is_automated,
        pull_count=result.pull_count,
    )


def _search_catalog(session: RegistrySession, words: str, limit: int) -> tuple[FoundImage, ...]:
    """Look through the names of all repositories, which is all that most registries can tell."""
    found: list[FoundImage] = []
    scopes = ("registry:catalog:*",)
    for content in _pages(session, f"/v2/_catalog?n={_PAGE}", scopes, None):
        document = _decode(session, content, _Catalog)
        for name in document.repositories or ():
            if words.lower() in name:
                shown = f"{session.domain}/{name[:_LONGEST_TEXT]}"
                found.append(FoundImage(name=shown, description=""))
            if len(found) == limit:
                return tuple(found)
    return tuple(found)


def _pages(
    session: RegistrySession, path: str, scopes: tuple[str, ...], name: Reference | None
) -> Iterator[bytes | None]:
    """Every page of a list (RFC 5988, `rel=next`); an address comes once."""
    place: str | Url = path
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        answer, content = session.fetch(
            Question(method="GET", path=place, scopes=scopes), maximum_bytes=_LARGEST_PAGE
        )
        with answer:
            if answer.status == 404 and name is not None:
                raise RemoteImageNotFoundError(
                    session.domain, name.familiar_repository, session.reason(answer)
                )
            if answer.status in {401, 403} and name is not None:
                raise session.refused(answer, subject=name.familiar_repository)
            if answer.status in {404, 405, 501}:
                raise RegistryError(session.domain, f"{session.domain} does not tell what it has")
            if answer.status != 200:
                raise session.unexpected(answer, "cannot list")
            link = next_link(answer.header("Link"))
            base = answer.url
        yield content
        if not link:
            return
        following = parse_http_url(link, base=base)
        if following is None or following.origin != base.origin or str(following) in seen:
            return
        seen.add(str(following))
        place = following


def next_link(header: str) -> str:
    """The address of the next page, as `Link` has it (RFC 8288); empty for none."""
    for link in _LINK.finditer(header):
        # Its parameters go on to where the next address begins.
        if _NEXT.search(link.group(2)):
            return link.group(1)
    return ""


def _decode(session: RegistrySession, content: bytes | None, shape: type[_Shape]) -> _Shape:
    if content is None:
        raise RegistryError(
            session.domain, f"{session.domain} answers with more than {_LARGEST_PAGE} bytes"
        )
    if has_too_many_parts(content):
        raise RegistryError(session.domain, f"{session.domain} answers with too long a list")
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(
            session.domain, f"{session.domain} does not answer in JSON: {error}"
        ) from error
