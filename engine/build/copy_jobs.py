"""The job that makes the layers of COPY, ADD and WORKDIR, where files have a container's ids.

Nothing is mounted for it: what is below is looked at layer by layer, and only what is written is
written, so it is the same on hosts that have no overlay.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from engine.build.copy_plan import CopyLook, CopyPlan
from engine.build.file_tree import SourceFile
from engine.build.image_files import ImageFiles
from engine.build.layer_writing import LayerWriting
from engine.build.modes import parse_mode
from engine.build.selection import SelectedSource, Selection
from engine.build.source_roots import SourceRoots, file_pieces
from engine.linux.files import open_beneath
from engine.linux.tree_removal import remove_tree
from engine.snapshots.base import DIFF_NAME, LAYER_PARTS
from engine.snapshots.job_parts import JobProgress, Reporter
from engine.snapshots.lowers import LowerLayers
from engine.snapshots.packing import SealedLayer  # noqa: TC001 - msgspec reads the annotation
from engine.snapshots.removal import engine_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRESS_BYTES = 4 << 20
_PROGRESS_FILES = 2000


class CopyRoot(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of some sources are.

    Attributes:
        layer_paths: `diff` of the layers of an image, bottom first; empty for a directory, which
            is the next of the job's descriptors.
    """

    layer_paths: tuple[str, ...] = ()


class CopyArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Make a layer. Descriptors: its directory with an empty `diff`, the selection, the roots.

    Attributes:
        label: What errors call it.
        lower_paths: `diff` of the layers below, topmost first.
        destination_hex: Absolute; a slash at its end says that it is a directory.
        owner: `user[:group]`; empty keeps owners, and new directories are root's.
        mode: As `--chmod`; empty keeps modes.
        is_link: `--link`: nothing of what is below shows in the layer.
        makes_directory: The destination is made in any case: WORKDIR.
        latest_seconds: No time stamp is later; None for any.
        roots: As the sources count them.
    """

    label: str
    lower_paths: tuple[str, ...]
    destination_hex: str
    owner: str = ""
    mode: str = ""
    is_link: bool = False
    makes_directory: bool = False
    latest_seconds: int | None = None
    roots: tuple[CopyRoot, ...] = ()


class CopiedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What was made.

    Attributes:
        layer: None if nothing changes; then the layer's directory is as it was.
        warnings: What the host could not make, one sentence each.
    """

    layer: SealedLayer | None
    warnings: tuple[str, ...] = ()


def copy_files(arguments: bytes, descriptors: list[int], report: Reporter) -> bytes:
    """Make the layer of one instruction.

    On any error the layer's directory has nothing but an empty `diff` again.

    Raises:
        BuildSourceChangedError: A file is not what it was when it was selected.
        BuildCopyError: Sources and destination do not fit each other.
        NoSpaceError: The disk is full.
    """
    request = msgspec.json.decode(arguments, type=CopyArguments)
    directory, document, *opened = descriptors
    # Modes are those that are asked for.
    os.umask(0)
    try:
        selection = _read_selection(document)
        with _opened_roots(request.roots, opened) as roots:
            result = _copy(request, selection, directory, roots, report)
    except BaseException as error:
        _clear(directory)
        if isinstance(error, OSError):
            raise engine_error(error, request.label) from error
        raise
    return msgspec.json.encode(result)


def _read_selection(document: int) -> Selection:
    with open(document, "rb", closefd=False) as file:
        return msgspec.msgpack.decode(file.read(), type=Selection)


@contextlib.contextmanager
def _opened_roots(given_roots: tuple[CopyRoot, ...], opened: list[int]) -> Iterator[SourceRoots]:
    given = iter(opened)
    layers: list[int] = []
    roots = []
    try:
        for root in given_roots:
            if not root.layer_paths:
                roots.append([next(given)])
                continue
            first = len(layers)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            layers.extend(os.open(path, flags) for path in root.layer_paths)
            roots.append(layers[first:])
        yield SourceRoots(roots)
    finally:
        for descriptor in layers:
            os.close(descriptor)


def _copy(
    request: CopyArguments,
    selection: Selection,
    directory: int,
    roots: SourceRoots,
    report: Reporter,
) -> CopiedLayer:
    with contextlib.ExitStack() as stack:
        lowers = LowerLayers(request.lower_paths)
        stack.callback(lowers.close)
        image = ImageFiles(lowers)
        latest = request.latest_seconds
        look = CopyLook(
            owner=image.owner(request.owner) if request.owner else None,
            change_mode=parse_mode(request.mode) if request.mode else None,
            latest_ns=None if latest is None else latest * 1_000_000_000,
            now_ns=time.time_ns(),
        )
        if request.is_link:
            lowers = LowerLayers(())
            image = ImageFiles(lowers)
        destination = bytes.fromhex(request.destination_hex)
        if any(source.is_archive for source in selection.sources):
            return _unpack(request.label, selection, destination, directory, look, lowers, roots)
        plan = CopyPlan(image, look, destination=destination)
        if request.makes_directory:
            plan.make_destination()
        for source in selection.sources:
            plan.add(source)
    if plan.is_empty:
        return CopiedLayer(layer=None)
    writing = LayerWriting(directory, roots)
    files = plan.files()
    layer = writing.write(files, on_file=_meter(writing, len(files), report))
    return CopiedLayer(layer=layer, warnings=writing.warnings)


def _unpack(
    label: str,
    selection: Selection,
    destination: bytes,
    directory: int,
    look: CopyLook,
    lowers: LowerLayers,
    roots: SourceRoots,
) -> CopiedLayer:
    """Make a layer with archives in it: a directory that they are unpacked into."""
    # Loading it, with every kind of compression, takes longer than most copies.
    from engine.build.archive_layer import ArchiveLayer

    image = ImageFiles(lowers)
    destination = destination.rstrip(b"/") + b"/"
    parts: list[CopyPlan | SelectedSource] = []
    for source in selection.sources:
        if source.is_archive:
            parts.append(source)
            continue
        if not parts or not isinstance(parts[-1], CopyPlan):
            parts.append(CopyPlan(image, look, destination=destination))
        plan = parts[-1]
        assert isinstance(plan, CopyPlan)
        plan.add(source)
    unpacking = ArchiveLayer(
        directory, image=image, look=look, lowers=lowers, roots=roots, label=label
    )
    layer = unpacking.write(parts, image.resolve(destination))
    return CopiedLayer(layer=layer, warnings=unpacking.warnings)


def _meter(writing: LayerWriting, total: int, report: Reporter) -> Callable[[], None]:
    """Tells how many of the files are written, now and then."""
    count = told_count = told_bytes = 0

    def tick() -> None:
        nonlocal count, told_count, told_bytes
        count += 1
        if count - told_count >= _PROGRESS_FILES or (
            writing.written_bytes - told_bytes >= _PROGRESS_BYTES
        ):
            told_count, told_bytes = count, writing.written_bytes
            report(msgspec.json.encode(JobProgress(done=count, total=total)))

    return tick


def _clear(directory: int) -> None:
    for part in LAYER_PARTS:
        if part != DIFF_NAME:
            remove_tree(directory, part.encode())
    with contextlib.suppress(FileNotFoundError):
        diff = open_beneath(directory, DIFF_NAME.encode(), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(diff):
                remove_tree(diff, os.fsencode(name))
        finally:
            os.close(diff)


class DigestArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Digest files of layers. Descriptor: the files, as a list of SourceFile.

    Attributes:
        layer_paths: `diff` of the layers, bottom first.
    """

    layer_paths: tuple[str, ...]


def digest_layer_files(arguments: bytes, descriptors: list[int], _report: Reporter) -> bytes:
    """Digests of files in their order, as hexadecimal.

    Raises:
        BuildSourceChangedError: The store lacks one.
    """
    request = msgspec.json.decode(arguments, type=DigestArguments)
    with open(descriptors[0], "rb", closefd=False) as document:
        files = msgspec.msgpack.decode(document.read(), type=list[SourceFile])
    digests = []
    root = CopyRoot(layer_paths=request.layer_paths)
    with _opened_roots((root,), []) as roots:
        try:
            for file in files:
                descriptor = roots.open(0, file.layer, file.path)
                try:
                    digest = hashlib.sha256()
                    for piece in file_pieces(descriptor, file.size_bytes):
                        digest.update(piece)
                finally:
                    os.close(descriptor)
                digests.append(digest.hexdigest())
        except OSError as error:
            raise engine_error(error, "a layer") from error
        finally:
            roots.close()
    return msgspec.json.encode(digests)


JOBS: dict[str, Callable[[bytes, list[int], Reporter], bytes]] = {
    "copy-files": copy_files,
    "digest-files": digest_layer_files,
}
