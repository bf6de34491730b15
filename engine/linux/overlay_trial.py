"""Whether an ordinary user can have a user namespace and an overlay in it, found out by trying.

Runs as a program of its own (`python -I -S`), because a process with threads cannot enter a user
namespace, and because nothing of the trial may stay. Version numbers tell too little: some
distributions switched either off, some switched it on early.
"""

from __future__ import annotations

import json
import os
import sys

from engine.errors import SyscallError
from engine.linux.mounts import (
    MS_PRIVATE,
    attach_mount,
    new_filesystem,
    set_root_propagation,
)
from engine.linux.process import CLONE_NEWNS, CLONE_NEWUSER, leave_namespaces


def try_overlay(directory: str, *, uses_user_xattrs: bool) -> int:
    """Mount two layers and a writable one below a directory; return the detached mount.

    Raises:
        SyscallError: The kernel or the directory's file system does not do it.
    """
    for name in ("low", "middle", "upper", "work", "root"):
        os.makedirs(f"{directory}/{name}", exist_ok=True)
    os.makedirs(f"{directory}/low/folder", exist_ok=True)
    with open(f"{directory}/low/file", "wb"):
        pass
    top = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Always short, and without colons: an option's text has room for 255 bytes.
        base = f"/proc/self/fd/{top}"
        options: list[tuple[str, str | None]] = [
            ("lowerdir", f"{base}/middle:{base}/low"),
            ("upperdir", f"{base}/upper"),
            ("workdir", f"{base}/work"),
        ]
        if uses_user_xattrs:
            options.append(("userxattr", None))
        return new_filesystem("overlay", options)
    finally:
        os.close(top)


def main(arguments: list[str]) -> None:
    """Try both below the directory given and print what failed as a JSON object of texts."""
    failed = {"user_namespace": "", "overlay": ""}
    step = "user_namespace"
    try:
        user, group = os.getuid(), os.getgid()
        leave_namespaces(CLONE_NEWUSER | CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {user} 1")
        _write("/proc/self/gid_map", f"0 {group} 1")
        set_root_propagation(MS_PRIVATE)
        step = "overlay"
        _use_overlay(arguments[0])
    except SyscallError as error:
        failed[step] = str(error)
    except OSError as error:
        failed[step] = f"{error.filename or step}: {error.strerror}"
    sys.stdout.write(json.dumps(failed))


def _use_overlay(directory: str) -> None:
    mount = try_overlay(directory, uses_user_xattrs=True)
    root = os.open(f"{directory}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    attach_mount(mount, root)
    os.close(root)
    os.close(mount)
    # A whiteout and an opaque directory are what kernels without the feature refuse.
    os.unlink(f"{directory}/root/file")
    os.rmdir(f"{directory}/root/folder")
    os.mkdir(f"{directory}/root/folder")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
