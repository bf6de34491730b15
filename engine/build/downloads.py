"""What ADD takes from the web: one file for each address, checked when it says what to expect."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import os
import posixpath
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from engine.build.file_tree import SourceFile
from engine.build.selection import SelectedSource
from engine.errors import BuildDownloadError, NoSpaceError
from engine.registry.endpoints import parse_http_url
from engine.registry.transport import ConnectionFailedError
from engine.snapshots.file_content import write_all
from engine.types import FileKind

if TYPE_CHECKING:
    from engine.registry.endpoints import Url
    from engine.registry.transport import Answer, Transport

_MODE = 0o600
_NO_NAME = "__unnamed__"
_CHECKSUM = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)")
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 10
_TRIES = 4
_PIECE_BYTES = 1 << 18
_RESERVE_BYTES = 64 << 20
_LARGEST_TIME_NS = (1 << 62) - 1


def download(
    address: str, directory: int, name: str, *, root: int, checksum: str, transport: Transport
) -> SelectedSource:
    """Fetch a file; blocking, until the transport's breaker is cut.

    Args:
        address: Of the file.
        directory: Where it is written (descriptor).
        name: What it is called there.
        root: How the directory is counted among the roots of the instruction.
        checksum: What the content must have, as `sha256:…`; empty for anything.
        transport: Asks.

    Returns:
        The file as a source, called by the last name in the address.

    Raises:
        BuildDownloadError: It cannot be had, or is not what it should be.
        NoSpaceError: The disk is full.
        CancelledRead: The breaker was cut.
    """
    algorithm, _, expected = checksum.partition(":")
    if checksum and _CHECKSUM.fullmatch(checksum) is None:
        raise BuildDownloadError(
            address,
            f"the checksum {checksum!r} is none",
            hint="`--checksum=sha256:` and 64 hexadecimal digits, in small letters",
        )
    for attempt in range(1, _TRIES + 1):
        try:
            file, actual = _fetch(address, directory, name, algorithm or "sha256", transport)
            break
        except ConnectionFailedError as error:
            if error.is_final or attempt == _TRIES:
                raise BuildDownloadError(
                    address, error.reason, hint="Look at the address, and at the proxy if any"
                ) from None
            transport.breaker.wait(attempt)
    if expected and actual != expected:
        raise BuildDownloadError(
            address,
            f"digest mismatch {algorithm}:{actual}: {checksum}",
            hint="The file is another one than before: look at it before you trust it",
        )
    return SelectedSource(
        text=address,
        name=os.fsencode(_name_of(address)),
        is_directory=False,
        files=[file],
        root=root,
    )


def _name_of(address: str) -> str:
    name = posixpath.basename(unquote(urlsplit(address).path, errors="surrogateescape"))
    return _NO_NAME if name in {"", ".", ".."} or "\0" in name else name


def _fetch(
    address: str, directory: int, name: str, algorithm: str, transport: Transport
) -> tuple[SourceFile, str]:
    """One try; also the digest that was asked for."""
    answer = _ask(address, transport)
    with answer:
        length = answer.content_length
        disk = os.fstatvfs(directory)
        room = disk.f_bavail * disk.f_frsize - _RESERVE_BYTES
        if (length or 0) > room:
            raise NoSpaceError(address)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=directory)
        content, wanted = hashlib.sha256(), hashlib.new(algorithm)
        size = 0
        try:
            while piece := answer.read(_PIECE_BYTES):
                size += len(piece)
                if size > room:
                    raise NoSpaceError(address)
                write_all(target, piece)
                content.update(piece)
                if algorithm != "sha256":
                    wanted.update(piece)
        finally:
            os.close(target)
        if length is not None and size != length:
            raise ConnectionFailedError(f"it ended after {size:,} of {length:,} bytes")
        modified_ns = _time_of(answer.header("Last-Modified"))
    digest = content.digest()
    file = SourceFile(
        path=os.fsencode(name),
        kind=FileKind.FILE,
        mode=_MODE,
        user_id=0,
        group_id=0,
        size_bytes=size,
        mtime_ns=modified_ns,
        content_digest=digest,
    )
    return file, digest.hex() if algorithm == "sha256" else wanted.hexdigest()


def _ask(address: str, transport: Transport) -> Answer:
    url: Url | None = parse_http_url(address.partition("#")[0])
    for _ in range(_MOST_REDIRECTS + 1):
        if url is None:
            raise BuildDownloadError(address, "it is no address that can be asked")
        answer = transport.send("GET", url, headers={})
        if answer.status == 200:
            return answer
        location, status = answer.header("Location"), answer.status
        answer.finish()
        if status not in _REDIRECTS or not location:
            if status >= 500 or status == 429:
                raise ConnectionFailedError(f"invalid response status {status}")
            raise BuildDownloadError(address, f"invalid response status {status}")
        url = parse_http_url(location, base=url)
    raise BuildDownloadError(address, f"it leads on more than {_MOST_REDIRECTS} times")


def _time_of(text: str) -> int:
    """When a file was changed, as its server says; 1970 if it says nothing."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = email.utils.parsedate_to_datetime(text).timestamp()
        if 0 <= seconds < time.time() + (1 << 32):
            return min(int(seconds) * 1_000_000_000, _LARGEST_TIME_NS)
    return 0
