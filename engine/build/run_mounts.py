"""`RUN --mount`: what a step has while it runs, and what of it is part of its key."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

from engine.build.run_step import OwnedPath, StepMounts
from engine.build.stage_state import SCRIPTS
from engine.errors import BuildCopyError, InvalidInputError
from engine.late_dataclasses import dataclass
from engine.linux.mounts import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID
from engine.runtime.spec import MountSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.build.mounts import RunMount
    from engine.build.steps import RunStep
    from engine.types import BuildSecret, BuildSsh

_SECRETS = "/run/secrets"
_AGENTS = "/run/buildkit/ssh_agent"
_SECRET_MODE = 0o400
_SSH_MODE = 0o600
_MOST_SECRET_BYTES = 500 << 10
"""As BuildKit."""
_TMPFS_ATTRIBUTES = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTree:
    """What a bind mount leads to.

    Attributes:
        lowers: Directories of layers, topmost first; or one directory.
        digest: Of the files.
    """

    lowers: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSources:
    """What mounts of a step lead to.

    Attributes:
        trees: Of bind mounts, by their number among the step's mounts.
        caches: Directories of caches, in the same way.
        secrets: By id.
        ssh: By id.
        directory: Empty, of the step, on the disk.
        private_directory: Empty, of the step, in memory as a rule: secrets are put there.
        is_rootless: Overlay's marks are an ordinary user's.
    """

    trees: Mapping[int, BoundTree]
    caches: Mapping[int, Path]
    secrets: Mapping[str, BuildSecret]
    ssh: Mapping[str, BuildSsh]
    directory: Path
    private_directory: Path
    is_rootless: bool


def absolute_target(step: RunStep, target: str) -> str:
    """Where a mount goes: relative targets stand below the working directory."""
    return "/" + posixpath.normpath(posixpath.join(step.working_directory, target)).lstrip("/")


def mount_key(step: RunStep, mount: RunMount, files: str) -> str:
    """What of a mount makes a step another one: not a cache's id, not a secret's value.

    Args:
        step: For relative targets.
        mount: The mount.
        files: Digest of what a bind mount has.
    """
    fields = [mount.kind, absolute_target(step, mount.target) if mount.target else ""]
    if mount.kind == "bind":
        fields += [mount.source, files, "" if mount.is_read_only else "rw"]
    elif mount.kind == "tmpfs":
        fields.append(str(mount.size_bytes))
    elif mount.kind == "secret":
        fields += [mount.identifier or mount.source, mount.environment]
    return " ".join(field for field in fields if field)


def prepare_mounts(step: RunStep, sources: MountSources) -> StepMounts:
    """Make everything that is mounted into a step; blocking.

    Raises:
        InvalidInputError: A secret or an agent that it requires was not given.
        BuildCopyError: A secret cannot be read.
    """
    maker = _MountMaker(step, sources)
    for number, mount in enumerate(step.mounts):
        if mount.kind == "bind":
            maker.bind(number, mount)
        elif mount.kind == "cache":
            maker.cache(number, mount)
        elif mount.kind == "tmpfs":
            maker.tmpfs(mount)
        elif mount.kind == "secret":
            maker.secret(number, mount)
        else:
            maker.agent(number, mount)
    maker.scripts()
    return StepMounts(
        mounts=tuple(maker.mounts),
        environment=tuple(maker.environment),
        places=tuple(mount.target for mount in maker.mounts),
        owned=tuple(maker.owned),
    )


class _MountMaker:
    def __init__(self, step: RunStep, sources: MountSources) -> None:
        self._step = step
        self._sources = sources
        self.mounts: list[MountSpec] = []
        self.environment: list[str] = []
        self.owned: list[OwnedPath] = []

    def bind(self, number: int, mount: RunMount) -> None:
        tree = self._sources.trees[number]
        is_writable = not mount.is_read_only
        self.mounts.append(
            MountSpec(
                kind="layers",
                source="",
                target=self._target(mount),
                subpath=mount.source.strip("/"),
                is_read_only=mount.is_read_only,
                lowers=tree.lowers,
                # What is written there is for this step alone.
                scratch=str(self._new_directory(f"bind-{number}")) if is_writable else "",
                uses_user_xattrs=self._sources.is_rootless,
            )
        )

    def cache(self, number: int, mount: RunMount) -> None:
        self.mounts.append(
            MountSpec(
                kind="bind",
                source=str(self._sources.caches[number]),
                target=self._target(mount),
                is_read_only=mount.is_read_only,
                is_recursive=False,
            )
        )

    def tmpfs(self, mount: RunMount) -> None:
        options = (f"size={mount.size_bytes}",) if mount.size_bytes else ()
        self.mounts.append(
            MountSpec(
                kind="tmpfs",
                source="",
                target=self._target(mount),
                options=options,
                attributes=_TMPFS_ATTRIBUTES & ~MOUNT_ATTR_NOEXEC,
            )
        )

    def secret(self, number: int, mount: RunMount) -> None:
        identity = mount.identifier or mount.source or posixpath.basename(mount.target)
        secret = self._sources.secrets.get(identity)
        if secret is None:
            if mount.is_required:
                raise InvalidInputError(
                    f"secret {identity}: not found",
                    hint=f"Give it with --secret id={identity},src=FILE",
                )
            return
        content = _read_secret(secret)
        if mount.environment:
            value = content.decode("utf-8", "surrogateescape")
            self.environment.append(f"{mount.environment}={value}")
            if not mount.target:
                return
        target = self._target(mount) if mount.target else f"{_SECRETS}/{identity}"
        path = self._new_file(
            f"secret-{number}",
            content,
            mode=_SECRET_MODE if mount.mode is None else mount.mode,
        )
        if mount.user or mount.group:
            self.owned.append(
                OwnedPath(
                    path=path,
                    user_id=mount.user or 0,
                    group_id=mount.group or 0,
                    what=f"secret {identity}",
                )
            )
        self.mounts.append(
            MountSpec(kind="bind", source=str(path), target=target, is_read_only=True)
        )

    def agent(self, number: int, mount: RunMount) -> None:
        identity = mount.identifier or "default"
        agent = self._sources.ssh.get(identity)
        if agent is None:
            if mount.is_required:
                raise InvalidInputError(
                    f"no SSH key or agent forwarded for id {identity}",
                    hint=f"Give it with --ssh {identity}",
                )
            return
        target = self._target(mount) if mount.target else f"{_AGENTS}.{number}"
        self.mounts.append(MountSpec(kind="bind", source=str(agent.socket), target=target))
        self.environment.append(f"SSH_AUTH_SOCK={target}")

    def scripts(self) -> None:
        for file in self._step.scripts:
            path = self._new_file(f"script-{file.name}", file.content, mode=0o755)
            self.mounts.append(
                MountSpec(
                    kind="bind",
                    source=str(path),
                    target=f"{SCRIPTS}/{file.name}",
                    is_read_only=True,
                )
            )

    def _target(self, mount: RunMount) -> str:
        return absolute_target(self._step, mount.target)

    def _new_directory(self, name: str) -> Path:
        path = self._sources.directory / name
        path.mkdir(mode=0o700)
        return path

    def _new_file(self, name: str, content: bytes, *, mode: int) -> Path:
        path = self._sources.private_directory / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
        return path


def _read_secret(secret: BuildSecret) -> bytes:
    if secret.path is None:
        return secret.value
    try:
        # A FIFO whose other end nobody opens would keep the build for ever.
        descriptor = os.open(secret.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BuildCopyError(f"secret {secret.secret_id}: {secret.path} is no file")
            content = file.read(_MOST_SECRET_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BuildCopyError(f"secret {secret.secret_id}: {secret.path}: {reason}") from None
    if len(content) > _MOST_SECRET_BYTES:
        raise BuildCopyError(
            f"secret {secret.secret_id} is larger than {_MOST_SECRET_BYTES >> 10} KB"
        )
    return content


def script_key(step: RunStep) -> Sequence[tuple[str, str]]:
    """What scripts of a step make it another one."""
    return [
        (f"script {file.name}", file.content.decode("utf-8", "surrogateescape"))
        for file in step.scripts
    ]
