"""Tars made by hand, so that they can be wrong in exactly one way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from engine.snapshots import unpacking
from engine.snapshots.index import LayerIndex, decode_index

if TYPE_CHECKING:
    from pathlib import Path


def header(
    name: bytes,
    *,
    flag: bytes = b"0",
    size: int = 0,
    link: bytes = b"",
    mode: int = 0o644,
    mtime: int = 0,
    owner: int | None = None,
    device: tuple[int, int] = (0, 0),
) -> bytes:
    user = os.geteuid() if owner is None else owner
    group = os.getegid() if owner is None else owner
    fields = (
        name.ljust(100, b"\0")[:100],
        b"%07o\0" % mode,
        b"%07o\0" % user,
        b"%07o\0" % group,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,
        flag,
        link.ljust(100, b"\0")[:100],
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % device[0],
        b"%07o\0" % device[1],
    )
    block = b"".join(fields).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def entry(name: bytes, content: bytes = b"", **fields) -> bytes:
    return header(name, size=len(content), **fields) + content + bytes(-len(content) % 512)


def directory(name: bytes, **fields) -> bytes:
    return header(name, flag=b"5", **{"mode": 0o755, **fields})


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, flag=b"2", link=target)


def hard_link(name: bytes, target: bytes) -> bytes:
    return header(name, flag=b"1", link=target)


def pax(flag: bytes = b"x", **records: bytes) -> bytes:
    data = b""
    for key, value in records.items():
        record = b" " + key.replace("__", ".").encode() + b"=" + value + b"\n"
        length = len(record) + 1
        while length != len(record) + len(str(length)):
            length = len(record) + len(str(length))
        data += str(length).encode() + record
    return entry(b"pax", data, flag=flag)


END = bytes(1024)


class Layer:
    """A directory that a layer is unpacked into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.diff = path / "diff"
        path.mkdir(parents=True)

    def unpack(
        self, content: bytes, *, lowers: tuple[Layer, ...] = (), diff_id: str = ""
    ) -> unpacking.UnpackResult:
        blob = os.memfd_create("blob")
        parent = os.open(self.path, os.O_RDONLY)
        try:
            os.write(blob, content)
            arguments = unpacking.UnpackArguments(
                label="layer",
                offset=0,
                size=len(content),
                blob_digest="",
                diff_id=diff_id,
                lower_paths=tuple(str(lower.diff) for lower in lowers),
                uses_user_xattrs=True,
            )
            result = unpacking.unpack_layer(
                msgspec.json.encode(arguments), [blob, parent], lambda _: None
            )
        finally:
            os.close(blob)
            os.close(parent)
        return msgspec.json.decode(result, type=unpacking.UnpackResult)

    @property
    def index(self) -> LayerIndex:
        return decode_index((self.path / "index").read_bytes(), "layer")

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.diff)) for path in self.diff.rglob("*"))
