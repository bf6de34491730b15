"""What is in an image's archive, read without anything of the engine."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_FIELDS = (
    "Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes", "WorkingDir", "User",
    "StopSignal", "Shell", "Healthcheck", "OnBuild", "author", "architecture", "os",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of an image; what a builder decides, and not when."""

    kind: str
    mode: str
    owner: str
    digest: str = ""
    text: str = ""
    link: str = ""
    device: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Member:
    """What a layer has: a file, another name of one, or a whiteout."""

    name: str
    entry: Entry | None = None
    hard_link: str = ""


@dataclass(frozen=True, kw_only=True)
class History:
    """One line of the history."""

    created_by: str
    is_empty: bool


@dataclass(frozen=True, kw_only=True)
class ImageContents:
    """All of an image that builders have in common."""

    files: dict[str, Entry]
    configuration: dict[str, object]
    history: list[History]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ImageContents:
        table = json.loads(text)
        return cls(
            files={
                path: Entry(**{**entry, "twins": tuple(entry["twins"])})
                for path, entry in table["files"].items()
            },
            configuration=table["configuration"],
            history=[History(**line) for line in table["history"]],
        )


def read_archive(path: Path) -> ImageContents:
    """Read an archive as `docker save` writes it, with one image."""
    (contents,) = read_archives(path).values()
    return contents


def read_archives(path: Path) -> dict[str, ImageContents]:
    """Read an archive as `docker save` writes it; by each name of each image."""
    layers: dict[str, list[_Member]] = {}
    with tarfile.open(path) as archive:
        manifest = json.load(_member(archive, "manifest.json"))
        for image in manifest:
            for name in image["Layers"]:
                if name not in layers:
                    with tarfile.open(fileobj=_member(archive, name)) as members:
                        layers[name] = [_read(members, member) for member in members]
        found: dict[str, ImageContents] = {}
        for image in manifest:
            below = [layers[name] for name in image["Layers"]]
            contents = _stack(below, _member(archive, image["Config"]))
            found |= dict.fromkeys(image.get("RepoTags") or [""], contents)
        return found


def _stack(layers: list[list[_Member]], config: tarfile.ExFileObject) -> ImageContents:
    document = json.load(config)
    files: dict[str, Entry] = {}
    inodes: dict[str, int] = {}
    for number, layer in enumerate(layers):
        _apply(layer, files, inodes, number << 32)
    twins: dict[int, list[str]] = {}
    for name, inode in inodes.items():
        if name in files:
            twins.setdefault(inode, []).append(name)
    for together in twins.values():
        if len(together) > 1:
            for name in together:
                files[name] = replace(files[name], twins=tuple(sorted(together)))
    configuration = {**document.get("config", {}), **document}
    return ImageContents(
        files=files,
        configuration={
            name: configuration[name] for name in _FIELDS if configuration.get(name) not in _NOTHING
        },
        history=[
            History(created_by=line.get("created_by", ""), is_empty=bool(line.get("empty_layer")))
            for line in document.get("history", ())
        ],
    )


_NOTHING: tuple[object, ...] = (None, "", [], {})


def _member(archive: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    file = archive.extractfile(name)
    assert file is not None, name
    assert isinstance(file, tarfile.ExFileObject)
    return file


def _read(layer: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    """What a member of a layer is, with the file's text and digest."""
    name = _absolute(member.name)
    if member.islnk():
        return _Member(name=name, hard_link=_absolute(member.linkname))
    if name.rpartition("/")[2].startswith(_WHITEOUT):
        return _Member(name=name)
    return _Member(name=name, entry=_entry(layer, member))


def _absolute(name: str) -> str:
    return "/" + name.removeprefix("./").strip("/")


def _apply(
    layer: list[_Member], files: dict[str, Entry], inodes: dict[str, int], first_inode: int
) -> None:
    """Put a layer over what is there, as the image-spec says (layer.md)."""
    fresh: dict[str, Entry] = {}
    removed: list[str] = []
    emptied: list[str] = []
    numbers: dict[str, int] = {}
    for number, member in enumerate(layer):
        name = member.name
        if name in ("/", "/."):
            continue
        parent, _slash, last = name.rpartition("/")
        if last == _OPAQUE:
            emptied.append(f"{parent}/")
        elif last.startswith(_WHITEOUT):
            removed.append(f"{parent}/{last.removeprefix(_WHITEOUT)}")
        elif member.hard_link:
            target = member.hard_link
            fresh[name] = fresh[target] if target in fresh else files[target]
            numbers[name] = numbers.get(target, first_inode + number)
        else:
            assert member.entry is not None
            fresh[name] = member.entry
            if member.entry.kind == "file":
                numbers[name] = first_inode + number
    gone = [name for name in files if name.startswith(tuple(emptied))] if emptied else []
    gone += [name for each in removed for name in _below(each, files)]
    for name, entry in fresh.items():
        if entry.kind != "directory" and name in files and files[name].kind == "directory":
            gone += _below(name, files)
    for name in gone:
        files.pop(name, None)
        inodes.pop(name, None)
    for name, entry in fresh.items():
        inodes.pop(name, None)
        files[name] = entry
    inodes.update(numbers)


def _below(path: str, files: dict[str, Entry]) -> list[str]:
    """A path and, where it is a directory, all in it."""
    if path not in files:
        return []
    if files[path].kind != "directory":
        return [path]
    return [path, *(name for name in files if name.startswith(f"{path}/"))]


def _entry(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    kinds = {
        tarfile.DIRTYPE: "directory",
        tarfile.SYMTYPE: "link",
        tarfile.FIFOTYPE: "fifo",
        tarfile.CHRTYPE: "character device",
        tarfile.BLKTYPE: "block device",
    }
    kind = kinds.get(member.type, "file")
    data = b""
    if kind == "file":
        file = layer.extractfile(member)
        assert file is not None
        data = file.read()
    prefix = "SCHILY.xattr."
    return Entry(
        kind=kind,
        # A link's mode means nothing.
        mode="" if kind == "link" else f"{member.mode & 0o7777:04o}",
        owner=f"{member.uid}:{member.gid}",
        digest=hashlib.sha256(data).hexdigest() if kind == "file" else "",
        text=data[:2000].decode(errors="replace") if kind == "file" else "",
        link=member.linkname if kind == "link" else "",
        device=f"{member.devmajor}:{member.devminor}" if "device" in kind else "",
        attributes={
            name.removeprefix(prefix): value
            for name, value in member.pax_headers.items()
            if name.startswith(prefix) and name != f"{prefix}security.selinux"
        },
    )
