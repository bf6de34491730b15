"""A registry in memory that can be cut, held up and damaged, and counts what is fetched of it."""

from __future__ import annotations

import gzip
import hashlib
import stat
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import RegistryUnreachableError, RemoteImageNotFoundError
from engine.oci.documents import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    ImageDocument,
    Manifest,
    RootFsDocument,
    decode_manifest,
    encode_document,
)
from engine.oci.platforms import host_platform
from engine.operations import CancelledRead
from engine.registry.manifests import ChosenManifest, RemoteDocument
from engine.snapshots.tar_writer import TarEntry, TarWriter
from engine.types import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.oci.documents import Platform
    from engine.oci.reference import Reference
    from engine.registry.manifests import KnownManifests


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


@dataclass
class MemoryRegistry:
    """What is in it, and what goes wrong.

    Attributes:
        cuts: How many bytes of a blob come before the connection is lost, once each.
        damages: Blobs of which the last byte is wrong, how often.
        gates: Blobs that come when their event is set.
        fetched: Bytes that were given of each blob.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    damages: Counter[str] = field(default_factory=Counter)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    fetched: Counter[str] = field(default_factory=Counter)
    has_begun: threading.Event = field(default_factory=threading.Event)

    def add_layer(self, path: Path, files: dict[str, bytes]) -> tuple[str, str]:
        """Make a layer; returns diff id and the digest of its blob."""
        with path.open("wb") as target:
            writer = TarWriter(target, modified_at=0)
            for name, content in files.items():
                writer.add(TarEntry(path=name, mode=stat.S_IFREG | 0o644, content=content))
            writer.close()
        tar = path.read_bytes()
        blob = gzip.compress(tar, 1, mtime=0)
        self.blobs[digest_of(blob)] = blob
        return digest_of(tar), digest_of(blob)

    def add_image(self, name: str, layers: list[tuple[str, str]]) -> str:
        """Make an image of layers; returns its id."""
        platform = host_platform()
        config = encode_document(
            ImageDocument(
                architecture=platform.architecture,
                os=platform.os,
                rootfs=RootFsDocument(
                    type="layers", diff_ids=tuple(diff_id for diff_id, _ in layers)
                ),
            )
        )
        self.blobs[digest_of(config)] = config
        self.manifests[name] = encode_document(
            Manifest(
                schema_version=2,
                media_type=OCI_MANIFEST,
                config=Descriptor(
                    media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)
                ),
                layers=tuple(
                    Descriptor(
                        media_type=OCI_LAYER_GZIP, digest=digest, size=len(self.blobs[digest])
                    )
                    for _, digest in layers
                ),
            )
        )
        return digest_of(config)

    def connect(self) -> MemoryConnection:
        return MemoryConnection(self)


class MemoryConnection:
    """An `ImageSource`: one client of the registry."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self._cancelled = threading.Event()

    def choose(
        self, name: Reference, _platform: Platform, *, known: KnownManifests | None = None
    ) -> ChosenManifest:
        del known  # no name leads to an index here
        content = self._registry.manifests.get(name.familiar_name)
        if content is None:
            raise RemoteImageNotFoundError(name.domain, name.familiar_name, "manifest unknown")
        document = RemoteDocument(
            media_type=OCI_MANIFEST, digest=digest_of(content), content=content
        )
        return ChosenManifest(
            named=document,
            document=document,
            manifest=decode_manifest(content, name.familiar_name),
        )

    def get_small_blob(
        self, _name: Reference, descriptor: Descriptor, *, maximum_bytes: int
    ) -> bytes:
        content = self._registry.blobs[descriptor.digest]
        assert len(content) <= maximum_bytes
        return content

    def open_blob(
        self,
        name: Reference,
        descriptor: Descriptor,
        *,
        offset: int = 0,
        on_retry: Callable[[float], None] | None = None,
    ) -> MemoryStream:
        del on_retry
        return MemoryStream(self._registry, name, descriptor.digest, offset, self._cancelled)

    @property
    def warnings(self) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        pass

    def cancel(self) -> None:
        self._cancelled.set()


class MemoryStream:
    def __init__(
        self,
        registry: MemoryRegistry,
        name: Reference,
        digest: str,
        offset: int,
        cancelled: threading.Event,
    ) -> None:
        self._registry = registry
        self._name = name
        self._digest = digest
        self._cancelled = cancelled
        content = registry.blobs[digest]
        if registry.damages[digest] > 0:
            registry.damages[digest] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._content = content
        self._position = offset
        self._end = registry.cuts.pop(digest, len(content))

    def read(self, size: int, /) -> bytes:
        self._registry.has_begun.set()
        gate = self._registry.gates.get(self._digest)
        while gate is not None and not gate.wait(0.01):
            if self._cancelled.is_set():
                raise CancelledRead
        if self._cancelled.is_set():
            raise CancelledRead
        # Small pieces, as a network has them.
        end = min(self._end, self._position + min(size, 10_000))
        piece = self._content[self._position : end]
        self._position = end
        self._registry.fetched[self._digest] += len(piece)
        if not piece and self._position < len(self._content):
            raise RegistryUnreachableError(self._name.domain, "the connection was lost")
        return piece

    def __enter__(self) -> MemoryStream:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass
