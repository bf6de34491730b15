"""Every error that the engine raises.

EngineError
+ NotFoundError ........ ContainerNotFoundError, ImageNotFoundError, FileNotInContainerError,
|                        VolumeNotFoundError, NetworkNotFoundError, BuildNotFoundError,
|                        BuildSourceNotFoundError
+ ConflictError ........ NameInUseError, ContainerStateError, ImageInUseError,
|                        VolumeInUseError, OperationInProgressError, CopyRefusedError,
|                        NetworkInUseError, NetworkNameInUseError, AddressInUseError,
|                        PoolExhaustedError, PortInUseError, AttachmentError,
|                        BuildSourceChangedError, BuildCopyError
+ InvalidInputError .... InvalidReferenceError, LimitError, AmbiguousReferenceError,
|                        PathPatternError, IgnoreFileError, DockerfileError
| + ArchiveError ....... DigestMismatchError, UnsafePathError, LayerLimitError,
|                        PlatformMismatchError
+ RegistryError ........ RegistryUnreachableError, RegistryRefusedError, RemoteImageNotFoundError,
|                        RateLimitedError
+ HostError ............ SyscallError, FeatureUnavailableError, StoreError, NoSpaceError
+ BuildStepError
+ ProcessError ......... LauncherError, MonitorLostError, ReaderGoneError, SessionLostError,
                         StartError

An error carries its facts as attributes, reads as one sentence without a full stop, and may
carry a `hint`: what the person can do about it. Nothing else is imported here, so that launcher,
monitor and init can raise the same errors.
"""

from __future__ import annotations

import os

from engine.errors.build_sources import (
    BuildCopyError,
    BuildDownloadError,
    BuildSourceChangedError,
    BuildSourceNotFoundError,
    IgnoreFileError,
    PathPatternError,
)
from engine.errors.builds import BuildNotFoundError, BuildStepError, DockerfileError
from engine.errors.kinds import (
    ConflictError,
    EngineError,
    HostError,
    InvalidInputError,
    NotFoundError,
    ProcessError,
    RegistryError,
)
from engine.errors.networks import (
    AddressInUseError,
    AttachmentError,
    NetworkInUseError,
    NetworkNameInUseError,
    NetworkNotFoundError,
    PoolExhaustedError,
    PortInUseError,
)

__all__ = [
    "AddressInUseError",
    "AmbiguousReferenceError",
    "ArchiveError",
    "AttachmentError",
    "BuildCopyError",
    "BuildDownloadError",
    "BuildNotFoundError",
    "BuildSourceChangedError",
    "BuildSourceNotFoundError",
    "BuildStepError",
    "ConflictError",
    "ContainerNotFoundError",
    "ContainerStateError",
    "CopyRefusedError",
    "DigestMismatchError",
    "DockerfileError",
    "EngineError",
    "FeatureUnavailableError",
    "FileNotInContainerError",
    "FileNotInLayerError",
    "HostError",
    "IgnoreFileError",
    "ImageForPlatformNotFoundError",
    "ImageInUseError",
    "ImageNotFoundError",
    "InvalidInputError",
    "InvalidReferenceError",
    "LauncherError",
    "LayerLimitError",
    "LimitError",
    "MonitorLostError",
    "NameInUseError",
    "NetworkInUseError",
    "NetworkNameInUseError",
    "NetworkNotFoundError",
    "NoSpaceError",
    "NotFoundError",
    "OperationInProgressError",
    "PathPatternError",
    "PlatformMismatchError",
    "PoolExhaustedError",
    "PortInUseError",
    "ProcessError",
    "RateLimitedError",
    "ReaderGoneError",
    "RegistryError",
    "RegistryRefusedError",
    "RegistryUnreachableError",
    "RemoteImageNotFoundError",
    "SessionLostError",
    "StartError",
    "StoreError",
    "SyscallError",
    "UnsafePathError",
    "VolumeInUseError",
    "VolumeNotFoundError",
]


class ContainerNotFoundError(NotFoundError):
    """No container matches the id, the id's beginning, or the name."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"No such container: {reference}",
            hint="`lamella ps -a` lists every container",
        )
        self.reference = reference


class ImageNotFoundError(NotFoundError):
    """No image matches the name, digest or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"No such image: {reference}",
            hint="`lamella images` lists what is here, `lamella load FILE` adds an archive",
        )
        self.reference = reference


class ImageForPlatformNotFoundError(NotFoundError):
    """The image is here, and for another platform than the one asked for."""

    def __init__(self, reference: str, *, platform: str) -> None:
        super().__init__(
            f"image with reference {reference} was found but does not provide the specified "
            f"platform ({platform})",
            hint=f"`lamella pull --platform {platform} {reference}` brings that one",
        )
        self.reference = reference
        self.platform = platform


class VolumeNotFoundError(NotFoundError):
    """No volume has the name; the text is Docker's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"get {name}: no such volume", hint="`lamella volume ls` lists every volume"
        )
        self.name = name


class FileNotInContainerError(NotFoundError):
    """A path is not in a container; the text is Docker's."""

    def __init__(self, path: str, container: str) -> None:
        super().__init__(
            f"Could not find the file {path} in container {container}",
            hint="The directory that something is copied into must exist",
        )
        self.path = path
        self.container = container


class FileNotInLayerError(NotFoundError):
    """A layer of an image in a registry does not have a path."""

    def __init__(self, path: str, layer: str, *, hint: str) -> None:
        super().__init__(
            f"Could not find the file {path} in {layer}",
            hint=hint,
        )
        self.path = path
        self.layer = layer


class NameInUseError(ConflictError):
    """A container name is taken; the text is Docker's."""

    exit_code = 125

    def __init__(self, name: str, container_id: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container '
            f'"{container_id}". You have to remove (or rename) that container to be able to '
            "reuse that name.",
            hint=f"`lamella rm {name}` removes it, `--name` chooses another name",
        )
        self.name = name
        self.container_id = container_id


class ContainerStateError(ConflictError):
    """An operation is not legal in the state that the container is in.

    Attributes:
        status: The state it is in, as a word.
        operation: What was asked for.
        is_already_done: The container already is what the caller wants (Docker answers 304).
    """

    def __init__(
        self,
        message: str,
        *,
        container_id: str,
        status: str,
        operation: str,
        is_already_done: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.container_id = container_id
        self.status = status
        self.operation = operation
        self.is_already_done = is_already_done


class ImageInUseError(ConflictError):
    """An image cannot be removed because containers or other names need it."""

    def __init__(self, reference: str, *, users: tuple[str, ...], hint: str) -> None:
        super().__init__(
            f"conflict: unable to remove image {reference}: used by {', '.join(users)}", hint=hint
        )
        self.reference = reference
        self.users = users


class VolumeInUseError(ConflictError):
    """A volume cannot be removed because containers have it; the text is Docker's."""

    def __init__(self, name: str, *, container_ids: tuple[str, ...]) -> None:
        super().__init__(
            f"remove {name}: volume is in use - [{', '.join(container_ids)}]",
            hint="Remove the containers first (`lamella rm`), running or not",
        )
        self.name = name
        self.container_ids = container_ids


class OperationInProgressError(ConflictError):
    """Another process holds the lock that this operation needs."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is already in progress", hint="Wait for it to end, then try again"
        )
        self.what = what


class CopyRefusedError(ConflictError):
    """Source and destination do not fit each other; the texts are Docker's."""


class InvalidReferenceError(InvalidInputError):
    """A text is not a valid image reference or container name."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"invalid reference format: {reference!r}: {reason}")
        self.reference = reference
        self.reason = reason


class AmbiguousReferenceError(InvalidInputError):
    """The beginning of an id matches more than one."""

    def __init__(self, reference: str, count: int) -> None:
        super().__init__(
            f"{reference} matches {count} ids", hint="Give more characters of the id, or the name"
        )
        self.reference = reference
        self.count = count


class LimitError(InvalidInputError):
    """A limit or option has a value outside its range."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(f"invalid value for {option}: {value!r}: expected {expected}")
        self.option = option
        self.value = value
        self.expected = expected


class ArchiveError(InvalidInputError):
    """An image archive cannot be read.

    Attributes:
        path: The archive, or the member in it, that is at fault.
    """

    exit_code = 1

    def __init__(self, path: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"cannot load {path}: {reason}", hint=hint)
        self.path = path
        self.reason = reason


class DigestMismatchError(ArchiveError):
    """Content does not have the digest that its name promises."""

    def __init__(self, path: str, *, expected: str, actual: str) -> None:
        super().__init__(
            path,
            f"content has digest {actual}, expected {expected}",
            hint="The archive is damaged or was changed; get it again from its source",
        )
        self.expected = expected
        self.actual = actual


class UnsafePathError(ArchiveError):
    """A layer tries to write outside its own directory."""

    def __init__(self, path: str, member: str, reason: str) -> None:
        super().__init__(
            path,
            f"unsafe entry {member!r}: {reason}",
            hint="Do not use this image: no build tool makes such a layer",
        )
        self.member = member


class LayerLimitError(ArchiveError):
    """A layer is larger than what is taken from elsewhere."""


class PlatformMismatchError(ArchiveError):
    """The image is for another operating system or architecture."""

    def __init__(
        self, path: str, *, platforms: tuple[str, ...], wanted: str, is_host: bool
    ) -> None:
        """Say which platforms differ.

        Args:
            path: The archive or the name.
            platforms: What there is, as far as it is known.
            wanted: What it was to be for.
            is_host: Nobody asked for that: it is what this host is.
        """
        image_platform = ", ".join(platforms[:10]) or "no platform that it names"
        reason = f"this host is {wanted}" if is_host else f"{wanted} was asked for"
        hint = f"Get the image for {wanted}"
        if platforms:
            hint = f"`--platform {platforms[0]}` takes what is there"
        super().__init__(path, f"the image is for {image_platform}, {reason}", hint=hint)
        self.platforms = platforms
        self.wanted = wanted


class RegistryUnreachableError(RegistryError):
    """No connection, or none that lasted: tried again until that made no sense any more."""


class RegistryRefusedError(RegistryError):
    """The registry does not know who asks, or does not let them (HTTP 401 and 403)."""

    def __init__(self, registry: str, message: str, *, hint: str = "") -> None:
        host = "" if registry == "docker.io" else f" {registry}"
        super().__init__(registry, message, hint=hint or f"`lamella login{host}` says who you are")


class RemoteImageNotFoundError(RegistryError):
    """The registry has no such repository, tag or manifest."""

    def __init__(self, registry: str, name: str, reason: str) -> None:
        super().__init__(
            registry,
            f"manifest for {name} not found: {reason}",
            hint="`lamella search --list-tags REPOSITORY` lists the tags that are there",
        )
        self.name = name
        self.reason = reason


class RateLimitedError(RegistryError):
    """The registry lets no more requests through for now (HTTP 429)."""


class SyscallError(HostError):
    """A system call failed.

    Attributes:
        call: The system call's name.
        errno: The error number.
        detail: What it was called on.
    """

    def __init__(self, call: str, errno: int, detail: str = "", *, hint: str = "") -> None:
        about = f" ({detail})" if detail else ""
        super().__init__(f"{call}{about}: {os.strerror(errno)}", hint=hint)
        self.call = call
        self.errno = errno
        self.detail = detail


class FeatureUnavailableError(HostError):
    """The host does not give what an operation needs; `hint` is the remedy."""

    def __init__(self, feature: str, reason: str, *, remedy: str) -> None:
        super().__init__(f"{feature} is not available here: {reason}", hint=remedy)
        self.feature = feature
        self.reason = reason


class StoreError(HostError):
    """The store on disk cannot be opened or is damaged."""


class NoSpaceError(StoreError):
    """The disk is full, or the quota is used up."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no space left on device: {path}",
            hint="Remove images or containers (`lamella rmi`, `lamella rm`), or free disk space",
        )
        self.path = path


class LauncherError(ProcessError):
    """The launcher cannot be started, or ended while it was needed."""


class ReaderGoneError(ProcessError):
    """Whoever was to read an archive has gone."""

    def __init__(self) -> None:
        super().__init__("nobody reads the archive any more")


class MonitorLostError(ProcessError):
    """A container's monitor ended before it answered."""

    def __init__(self, container_id: str) -> None:
        super().__init__(
            f"lost the monitor of container {container_id[:12]}",
            hint="`lamella ps -a` shows what became of the container",
        )
        self.container_id = container_id


class SessionLostError(ProcessError):
    """The connection to a program ended before the program did, as far as is known."""

    def __init__(self, container_id: str) -> None:
        super().__init__(
            "the session was lost",
            hint=f"`lamella attach {container_id[:12]}` connects again, if it runs still",
        )
        self.container_id = container_id


class StartError(ProcessError):
    """A container's program could not be started.

    Attributes:
        exit_code: 126 (not executable), 127 (not found), 128 or 125, as Docker has them.
        step: What the container's init was doing.
    """

    def __init__(self, message: str, *, exit_code: int, step: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.step = step
