"""The starter image: made offline, of the host's own programs, for a first look.

Two layers: a shell with the libraries and files that any program needs, and the tools. Programs
are the host's coreutils and friends; where the host has none, busybox stands in for all of them.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from engine.errors import FeatureUnavailableError
from engine.images.elf import ElfError, find_libraries, library_directories
from engine.images.layout import MadeImage, MadeLayer, write_layout
from engine.oci.documents import ConfigSection
from engine.snapshots.tar_writer import TarEntry

if TYPE_CHECKING:
    from pathlib import Path

STARTER_NAME = "starter:latest"
LARGEST_IMAGE_BYTES = 20_000_000

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELLS = ("dash", "bash", "ash", "sh")
# The first ones matter most: what does not fit into the size limit any more is left out.
_TOOLS = (
    *("ls", "cat", "cp", "mv", "rm", "mkdir", "rmdir", "ln", "chmod", "chown", "echo", "printf"),
    *("sleep", "date", "head", "tail", "wc", "sort", "uniq", "cut", "tr", "seq", "env", "id"),
    *("uname", "hostname", "pwd", "touch", "true", "false", "test", "dd", "df", "du", "stat"),
    *("sha256sum", "tee", "mktemp", "nice", "timeout", "kill", "basename", "dirname", "expr"),
    *("yes", "readlink", "realpath", "whoami", "nproc", "sync", "grep", "sed", "awk", "find"),
    *("ps", "xargs", "tar", "gzip", "bash", "less"),
)
_BUSYBOX_NAMES = ("sh", "ash", *(tool for tool in _TOOLS if tool != "bash"))

_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"
_OS_RELEASE = b'NAME="Lamella starter"\nID=lamella-starter\nPRETTY_NAME="Lamella starter image"\n'
_WELCOME = b"""This image was made on this machine, of its own programs.
Its files are in two layers; what you change here goes into a third, the container's own.
"""


class _Tree:
    """Entries of a layer, each path once, parents first; what the layers below have is known."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        self.known = set(known)
        self.entries: list[TarEntry] = []
        self.size_bytes = 0

    def add(self, entry: TarEntry) -> None:
        if entry.path in self.known:
            return
        parent = os.path.dirname(entry.path)
        if parent:
            self.directory(parent)
        self.known.add(entry.path)
        self.entries.append(entry)

    def directory(self, path: str, mode: int = 0o755) -> None:
        self.add(TarEntry(path=path, mode=stat.S_IFDIR | mode))

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self.add(TarEntry(path=path, mode=stat.S_IFREG | mode, content=content))
        self.size_bytes += len(content)

    def link(self, path: str, target: str) -> None:
        self.add(TarEntry(path=path, mode=stat.S_IFLNK | 0o777, link_target=target))

    def host_file(self, path: str, source: str) -> None:
        """A copy of what a path of the host's leads to, readable and executable by all."""
        if path not in self.known:
            self.add(TarEntry(path=path, mode=stat.S_IFREG | 0o755, source=source))
            self.size_bytes += os.stat(source).st_size


def write_starter_layout(directory: Path) -> None:
    """Write the starter image as an OCI layout; blocking, reads the host's programs.

    Raises:
        FeatureUnavailableError: The host has no shell whose libraries can be found.
        OSError: A file cannot be read, or the layout not be written.
    """
    write_layout(directory, [starter_image()])


def starter_image() -> MadeImage:
    """Choose the programs and their libraries; blocking, but copies nothing yet.

    Raises:
        FeatureUnavailableError: The host has no usable shell.
    """
    libraries = library_directories()
    base = _base_files()
    shell = _add_shell(base, libraries)
    base_known = frozenset(base.known)
    tools = _Tree(base_known)
    if shell == "busybox":
        for name in _BUSYBOX_NAMES:
            tools.link(f"bin/{name}", "busybox")
    else:
        _add_tools(tools, libraries, LARGEST_IMAGE_BYTES - base.size_bytes)
    return MadeImage(
        name=STARTER_NAME,
        layers=(
            MadeLayer(
                created_by=f"COPY {shell}, its libraries and /etc from the host",
                entries=tuple(base.entries),
            ),
            MadeLayer(
                created_by="COPY the host's command line tools to /bin",
                entries=tuple(tools.entries),
            ),
        ),
        config=ConfigSection(
            env=(f"PATH={_SEARCH_PATH}",),
            cmd=("/bin/sh",),
            labels={
                "org.opencontainers.image.title": "Lamella starter image",
                "org.opencontainers.image.description": (
                    "Made on this machine of its own programs, to explore and to run offline"
                ),
            },
        ),
        empty_steps=('CMD ["/bin/sh"]',),
    )


def _base_files() -> _Tree:
    tree = _Tree()
    for path in ("bin", "dev", "etc", "lib", "proc", "root", "run", "sys", "usr", "var"):
        tree.directory(path, 0o700 if path == "root" else 0o755)
    tree.directory("tmp", 0o1777)
    tree.link("usr/bin", "../bin")
    tree.file("etc/passwd", _PASSWD)
    tree.file("etc/group", _GROUP)
    tree.file("etc/os-release", _OS_RELEASE)
    tree.file("root/WELCOME", _WELCOME)
    return tree


def _add_shell(tree: _Tree, libraries: tuple[str, ...]) -> str:
    has_coreutils = _find_program("ls") is not None and not _is_busybox("ls")
    for name in _SHELLS if has_coreutils else ():
        path = _find_program(name)
        if path is not None and not _is_busybox(name) and _add_program(tree, name, libraries):
            if name != "sh":
                tree.link("bin/sh", name)
            return name
    if _add_program(tree, "busybox", libraries):
        return "busybox"
    raise FeatureUnavailableError(
        "the starter image",
        "this host has no shell whose libraries could be found",
        remedy="Install busybox-static (apt install busybox-static), or load an image instead",
    )


def _add_tools(tree: _Tree, libraries: tuple[str, ...], room_bytes: int) -> None:
    for name in _TOOLS:
        trial = _Tree(frozenset(tree.known))
        if _add_program(trial, name, libraries) and tree.size_bytes + trial.size_bytes < room_bytes:
            tree.entries += trial.entries
            tree.known |= trial.known
            tree.size_bytes += trial.size_bytes


def _add_program(tree: _Tree, name: str, libraries: tuple[str, ...]) -> bool:
    """Add a program with its libraries; False if the host does not have it, or it is a script."""
    path = _find_program(name)
    if path is None:
        return False
    try:
        needed = find_libraries(path, libraries)
    except (ElfError, OSError):
        return False
    for library in needed:
        # Where the loader looks for it: under the name that was searched for.
        tree.host_file(library.lstrip("/"), os.path.realpath(library))
    tree.host_file(f"bin/{name}", os.path.realpath(path))
    return True


def _find_program(name: str) -> str | None:
    return shutil.which(name, path=_SEARCH_PATH)


def _is_busybox(name: str) -> bool:
    return os.path.basename(os.path.realpath(_find_program(name) or "")) == "busybox"
