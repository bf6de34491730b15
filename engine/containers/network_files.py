"""hosts, hostname and resolv.conf of a container, which are bound over those of its image.

Their inodes stay for the container's life: a bind mount follows the inode, not the name, so a
later change must write into the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.runtime.spec import FileMount

if TYPE_CHECKING:
    from pathlib import Path

_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
# A container that has only its loopback can ask nobody.
_RESOLV_CONF = "# This container has no network\n"
_FILES = ("hosts", "hostname", "resolv.conf")


def write_network_files(directory: Path, *, hostname: str, name: str) -> None:
    """Write the three files of a container that has only its loopback; blocking.

    Everybody in the container may read them, whatever the umask here.
    """
    names = dict.fromkeys((hostname, name))
    contents = (_HOSTS + f"127.0.0.1\t{' '.join(names)}\n", hostname + "\n", _RESOLV_CONF)
    for file_name, content in zip(_FILES, contents, strict=True):
        descriptor = os.open(
            directory / file_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)
            file.write(content)


def network_file_mounts(directory: Path, *, is_read_only: bool) -> tuple[FileMount, ...]:
    """Where the three files appear in the container; writable like its root, as Docker has them."""
    return tuple(
        FileMount(source=str(directory / name), target=f"/etc/{name}", is_read_only=is_read_only)
        for name in _FILES
    )
