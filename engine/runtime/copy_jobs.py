"""Jobs that copy into a container and out of it, at the container's side.

The container's root is a descriptor, and every path is resolved below it by the kernel, links and
all: whoever swaps names while this runs leads nowhere but inside. Nothing of the container is
executed or loaded. Of a running container the root comes with the request; of one that does not
run it is mounted here, in a mount namespace that ends with this process.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

import msgspec

from engine.errors import (
    CopyRefusedError,
    FeatureUnavailableError,
    FileNotInContainerError,
    NoSpaceError,
    ReaderGoneError,
    SyscallError,
)
from engine.linux.files import open_in_root
from engine.linux.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_SLAVE,
    set_mount_attributes,
    set_root_propagation,
)
from engine.linux.process import CLONE_NEWNS, leave_namespaces
from engine.runtime.mounting import attach_mounts, open_sources
from engine.runtime.rootfs import mount_root
from engine.runtime.spec import ContainerSpec
from engine.snapshots.copies import name_in_archive, receive
from engine.snapshots.destinations import ContainerPaths
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.streams import StreamSource
from engine.snapshots.tar import TarReader
from engine.snapshots.tar_writer import TarStream
from engine.snapshots.tree_extraction import ExtractionPolicy, LinkedParents, TreeExtractor
from engine.snapshots.tree_tar import TreePacker, pack_tree
from engine.snapshots.writable_jobs import WRITE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRESS_BYTES = 1 << 20
_KERNEL_DIRECTORIES = (b"proc", b"sys", b"dev")


class CopyOutArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Pack a path of a container. Descriptors: what is written to, the root if it runs.

    Attributes:
        container: Its name, for messages.
        path_hex: As it was typed.
        spec: The container's, as JSON, if it does not run; else empty.
        is_following_link: Pack what the path leads to when it is a link.
        name_hex: What the path is called in the tar; empty takes the path's own name.
    """

    container: str
    path_hex: str
    spec: str
    is_following_link: bool
    name_hex: str = ""


class CopyInArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Extract a tar into a container. Descriptors: what is read, the root if it runs.

    Attributes:
        container: As CopyOutArguments.
        path_hex: Where to, as it was typed.
        spec: As CopyOutArguments.
        source_name_hex: What the copied thing is called where it comes from; empty for an archive
            whose entries are extracted as they are.
        copies_content: Only what is in the directory, not itself.
        keeps_owners: Keep owners and all that depends on them.
    """

    container: str
    path_hex: str
    spec: str
    source_name_hex: str
    copies_content: bool
    keeps_owners: bool


class CopyJobResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied."""

    size_bytes: int
    entry_count: int
    warnings: tuple[str, ...]


def copy_out(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Write a path of a container as a tar.

    Raises:
        FileNotInContainerError: There is no such path.
        ReaderGoneError: Nobody reads it any more.
    """
    request = msgspec.json.decode(arguments, type=CopyOutArguments)
    path = bytes.fromhex(request.path_hex)
    with (
        _container_root(request.spec, descriptors[1:]) as (root, _spec),
        _said_plainly(request.container, path, is_read_only=False),
    ):
        flags = os.O_PATH if request.is_following_link else os.O_PATH | os.O_NOFOLLOW
        top = open_in_root(root, path, flags)
        try:
            with open(descriptors[0], "wb", buffering=WRITE_BYTES, closefd=False) as target:
                stream = TarStream(target.write)
                packer = TreePacker(stream)
                meter = _Meter(report, lambda: stream.written_bytes)
                name = bytes.fromhex(request.name_hex) or name_in_archive(path)
                pack_tree(
                    packer, top, name, is_skipped=_kernel_places(root, top), on_entry=meter.tick
                )
                stream.close()
        finally:
            os.close(top)
    warnings: tuple[str, ...] = ()
    if packer.shrunk_count:
        warnings = (f"{packer.shrunk_count:,} files became shorter while they were read",)
    return msgspec.json.encode(
        CopyJobResult(
            size_bytes=stream.written_bytes, entry_count=meter.entry_count, warnings=warnings
        )
    )


def copy_in(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Extract a tar at a path of a container.

    Raises:
        FileNotInContainerError: The directory that the path is in is missing.
        CopyRefusedError: Source and destination do not fit each other.
        ArchiveError: What is read is no tar, or damaged.
    """
    request = msgspec.json.decode(arguments, type=CopyInArguments)
    path = bytes.fromhex(request.path_hex)
    source_name = bytes.fromhex(request.source_name_hex)
    label = "the archive" if not source_name else os.fsdecode(source_name)
    with (
        _container_root(request.spec, descriptors[1:]) as (root, spec),
        _said_plainly(
            request.container,
            path,
            is_read_only=spec is not None and spec.rootfs.is_read_only,
        ),
        StreamSource(descriptors[0], label=label) as source,
    ):
        reader = TarReader(source, label=label)
        policy = ExtractionPolicy(
            keeps_owners=request.keeps_owners or not source_name, makes_devices=True, label=label
        )
        meter = _Meter(report, lambda: source.consumed_bytes)
        paths = ContainerPaths(root, container=request.container)
        if source_name:
            extractor = receive(
                reader,
                paths,
                path,
                policy,
                source_name=source_name,
                copies_content=request.copies_content,
                on_entry=meter.tick,
            )
        else:
            extractor = _extract_archive(reader, root, path, policy, meter.tick)
        source.drain()
    return msgspec.json.encode(
        CopyJobResult(
            size_bytes=extractor.size_bytes,
            entry_count=extractor.entry_count,
            warnings=extractor.warnings,
        )
    )


def _extract_archive(
    reader: TarReader,
    root: int,
    path: bytes,
    policy: ExtractionPolicy,
    on_entry: Callable[[], None],
) -> TreeExtractor:
    """Extract an archive of somebody's into a directory, following links as the container does."""
    try:
        directory = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise CopyRefusedError("extraction point is not a directory") from None
    try:
        linked = LinkedParents(root=root, path=path)
        extractor = TreeExtractor(directory, policy, linked_parents=linked)
        extractor.extract(reader, reader, rename=lambda name: name, on_entry=on_entry)
        return extractor
    finally:
        os.close(directory)


# --- the root ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _container_root(
    spec_document: str, descriptors: list[int]
) -> Iterator[tuple[int, ContainerSpec | None]]:
    if not spec_document:
        yield descriptors[0], None
        return
    spec = msgspec.json.decode(spec_document, type=ContainerSpec)
    root = mount_stopped_root(spec)
    try:
        yield root, spec
    finally:
        os.close(root)


def mount_stopped_root(spec: ContainerSpec) -> int:
    """Mount a container's root as its init would, where nobody else sees it.

    The calling thread gets a mount namespace of its own; the kernel takes the mounts down with it.

    Raises:
        FeatureUnavailableError: The host does not let us mount it.
    """
    # As in an init: the modes of what is made to mount on are those that are asked for.
    os.umask(0)
    try:
        leave_namespaces(CLONE_NEWNS)
        set_root_propagation(MS_SLAVE)
        # A tmpfs is there while the container runs; what is copied to its place stays below it.
        sources = open_sources(tuple(mount for mount in spec.mounts if mount.kind != "tmpfs"))
        root = mount_root(spec.rootfs)
        files = tuple(mount for mount in spec.file_mounts if os.path.exists(mount.source))
        attach_mounts(root, sources, files)
        if spec.rootfs.is_read_only:
            set_mount_attributes(root, MOUNT_ATTR_RDONLY)
    except SyscallError as error:
        raise FeatureUnavailableError(
            "copying from and to a container that does not run",
            str(error),
            remedy="Start the container and copy then",
        ) from None
    return root


def _kernel_places(root: int, top: int) -> Callable[[int, bytes], bool]:
    """Whether a directory below `top` is the kernel's: /proc, /sys or /dev of a running container.

    They are named by what they are and not by their path, which says nothing when the walk began
    somewhere below the root.
    """
    own = os.fstat(root)
    places = set()
    for name in _KERNEL_DIRECTORIES:
        with contextlib.suppress(OSError):
            descriptor = open_in_root(root, name, os.O_PATH | os.O_DIRECTORY)
            try:
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            if status.st_dev != own.st_dev:
                places.add((status.st_dev, status.st_ino))
    above = os.fstat(top)
    places.discard((above.st_dev, above.st_ino))

    def is_kernel_place(directory: int, _path: bytes) -> bool:
        status = os.fstat(directory)
        return (status.st_dev, status.st_ino) in places

    return is_kernel_place


class _Meter:
    """Tells progress after every so many bytes."""

    def __init__(self, report: Reporter, bytes_so_far: Callable[[], int]) -> None:
        self._report = report
        self._bytes_so_far = bytes_so_far
        self._reported = 0
        self.entry_count = 0

    def tick(self) -> None:
        self.entry_count += 1
        done = self._bytes_so_far()
        if done - self._reported >= _PROGRESS_BYTES:
            self._reported = done
            self._report(msgspec.json.encode(JobProgress(done=done, total=0)))


@contextlib.contextmanager
def _said_plainly(container: str, path: bytes, *, is_read_only: bool) -> Iterator[None]:
    """What the file system says, in the words that people know from Docker."""
    shown = os.fsdecode(path)
    try:
        yield
    except FileNotFoundError:
        raise FileNotInContainerError(shown, container) from None
    except NotADirectoryError:
        raise CopyRefusedError(f"{shown}: not a directory") from None
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(f"{container}:{shown}") from error
        if error.errno == errno.EROFS:
            raise CopyRefusedError(
                "container rootfs is marked read-only"
                if is_read_only
                else "the container's file system is read-only there",
                hint="Copy into a volume of the container, or make it without --read-only",
            ) from None
        raise CopyRefusedError(
            f"{container}:{shown}: {os.strerror(error.errno or errno.EIO)}"
        ) from error


JOBS: dict[str, Callable[[bytes, list[int], Reporter], bytes]] = {
    "copy-out": copy_out,
    "copy-in": copy_in,
}
