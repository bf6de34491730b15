"""The Dockerfiles of tests/dockerfiles: each is about one rule, and says what else it needs.

A directory has a `Dockerfile` and a `case.toml`:

    rule = "What this is about"
    build_arguments = ["NAME=value"]
    target = "a stage"
    fails = "a part of the error that there has to be"

    [unsupported]           # peers that are too old for it, and why
    buildah = "reason"

    [context]               # the files of the build context: a text, or a table
    "a.txt" = "text"
    "b" = { kind = "directory", mode = "0700", owner = "1:2" }      # also "fifo"
    "c" = { link = "a.txt" }                                        # also hard_link = "a.txt"
    "d.tar.gz" = { archive = ["directory/", "directory/file=text"] }

    [expect]                # files of the image, as far as the rule is about them
    "/f" = { text = "x", mode = "0644", owner = "0:0" }             # also kind, link, absent

    [configuration]         # fields of the image's configuration, in the same way
    Cmd = ["a"]

    [[differences]]         # deliberate ones, by name (differences.toml says why)
    builder = "docker"
    name = "sources-need-a-directory"
    outcome = true          # one succeeds and the other does not; or paths, configuration, history

What a builder does otherwise in many images, whatever they are about, stands in `differences.toml`
itself: paths that only it has, or what it writes into the history.
"""

from __future__ import annotations

import io
import os
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

DIRECTORY = Path(__file__).parent / "dockerfiles"
LARGE = Path(__file__).parent / "large_dockerfiles"
"""As large and as odd as those of well-known images, on a Debian."""
_TIME = 1_600_000_000
_COMPRESSIONS = {".gz": "gz", ".bz2": "bz2", ".xz": "xz"}

Table = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What another builder does otherwise, on purpose."""

    builder: str
    name: str
    outcome: bool = False
    history: bool = False
    paths: tuple[str, ...] = ()
    configuration: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GeneralDifference:
    """What another builder does otherwise whenever it comes to it."""

    builder: str
    name: str
    added: tuple[str, ...] = ()
    """Paths that only it has."""
    is_of_history: bool = False
    """It writes lines of the history in another way, which the comparison knows."""
    keeps_empty_layers: bool = False
    """Its history has layers that hold nothing, where ours says that there is none."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One Dockerfile."""

    name: str
    rule: str
    dockerfile: bytes
    build_arguments: tuple[str, ...]
    target: str
    fails: str
    unsupported: dict[str, str]
    context: dict[str, Table]
    expect: dict[str, Table]
    configuration: Table
    differences: tuple[Difference, ...]

    def of(self, builder: str) -> list[Difference]:
        """What a builder does otherwise."""
        return [each for each in self.differences if each.builder == builder]

    def write_context(self, directory: Path) -> None:
        """Make the build context, with its Dockerfile."""
        directory.mkdir()
        (directory / "Dockerfile").write_bytes(self.dockerfile)
        for name, entry in self.context.items():
            _make(directory, directory / name, entry)
        paths = sorted(directory.rglob("*"), key=lambda path: len(path.parts), reverse=True)
        for path in (*paths, directory):
            os.utime(path, (_TIME, _TIME), follow_symlinks=False)


def names(directory: Path = DIRECTORY) -> list[str]:
    """The name of every case."""
    return sorted(path.parent.name for path in directory.glob("*/case.toml"))


def load(name: str, top: Path = DIRECTORY) -> Case:
    """Read a case; what is unknown in it is an error."""
    directory = top / name
    table = tomllib.loads((directory / "case.toml").read_text())
    case = Case(
        name=name,
        rule=table.pop("rule"),
        dockerfile=(directory / "Dockerfile").read_bytes(),
        build_arguments=tuple(table.pop("build_arguments", ())),
        target=table.pop("target", ""),
        fails=table.pop("fails", ""),
        unsupported=table.pop("unsupported", {}),
        context=_entries(table.pop("context", {})),
        expect=_entries(table.pop("expect", {})),
        configuration=table.pop("configuration", {}),
        differences=tuple(_difference(Difference, each) for each in table.pop("differences", ())),
    )
    assert not table, f"unknown in {name}: {', '.join(table)}"
    return case


def difference_names() -> dict[str, str]:
    """The deliberate differences, and why they are."""
    return {str(name): str(why) for name, why in _differences()["names"].items()}


def varying_paths() -> dict[str, str]:
    """Files that a step of a large one writes otherwise each time, and why."""
    return {
        str(path): str(why)
        for path, why in tomllib.loads((LARGE / "varying.toml").read_text()).items()
    }


def general_differences(builder: str) -> list[GeneralDifference]:
    """Those of a builder that no case names."""
    tables = _differences()["general"]
    return [_difference(GeneralDifference, one) for one in tables if one["builder"] == builder]


def _differences() -> Table:
    return tomllib.loads((DIRECTORY / "differences.toml").read_text())


_Record = TypeVar("_Record", Difference, GeneralDifference)


def _difference(kind: type[_Record], table: Table) -> _Record:
    return kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    )


def _entries(table: dict[str, str | Table]) -> dict[str, Table]:
    return {
        name: {"text": entry} if isinstance(entry, str) else entry for name, entry in table.items()
    }


def _make(top: Path, path: Path, entry: Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = entry.get("kind", "file")
    if "link" in entry:
        path.symlink_to(str(entry["link"]))
        return
    if "hard_link" in entry:
        os.link(top / str(entry["hard_link"]), path)
        return
    if kind == "directory":
        path.mkdir(exist_ok=True)
    elif kind == "fifo":
        os.mkfifo(path)
    elif "archive" in entry:
        members = entry["archive"]
        assert isinstance(members, list)
        path.write_bytes(_archive(path.suffix, members))
    else:
        path.write_text(str(entry["text"]))
    if "owner" in entry:
        user, group = str(entry["owner"]).split(":")
        os.chown(path, int(user), int(group))
    default = "0755" if kind == "directory" else "0644"
    os.chmod(path, int(str(entry.get("mode", default)), 8))


def _archive(suffix: str, members: list[str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{_COMPRESSIONS.get(suffix, '')}") as archive:
        for member in members:
            name, _equals, text = member.partition("=")
            info = tarfile.TarInfo(name.rstrip("/"))
            info.uid, info.gid, info.mtime = 7, 8, _TIME
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o750
                archive.addfile(info)
            else:
                info.size, info.mode = len(text), 0o640
                archive.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()
