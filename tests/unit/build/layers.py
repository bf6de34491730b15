"""Layers that the job of COPY makes, in directories of a test."""

import io
import os
import tarfile

import msgspec

from engine.build.copy_jobs import CopiedLayer, CopyArguments, CopyRoot, copy_files
from engine.build.selection import Selection, SourceQuery, digest_selection, select_sources
from engine.snapshots.layer_tar import write_layer_tar
from tests.unit.build.trees import opened_context


def make_layer(directory):
    """An empty layer's directory, as a draft of a build is."""
    (directory / "diff").mkdir(parents=True)
    return directory


def run_copy(arguments, layer, selection, roots=()):
    """Run the job as a worker does, but for the process."""
    document = os.memfd_create("selection")
    os.write(document, msgspec.msgpack.encode(selection))
    os.lseek(document, 0, os.SEEK_SET)
    directory = os.open(layer, os.O_RDONLY | os.O_DIRECTORY)
    umask = os.umask(0o022)
    try:
        result = copy_files(
            msgspec.json.encode(arguments), [directory, document, *roots], lambda _progress: None
        )
    finally:
        os.umask(umask)
        os.close(directory)
        os.close(document)
    return msgspec.json.decode(result, type=CopiedLayer)


def copy_context(
    context,
    layer,
    destination,
    *sources,
    lowers=(),
    ignored=(),
    before_copy=None,
    query=None,
    **options,
):
    """Select sources of a context and make the layer of their copies."""
    with opened_context(context) as tree:
        selection = select_sources(tree, SourceQuery(sources=sources, **(query or {})))
        digest_selection(tree, selection)
        if before_copy is not None:
            before_copy(selection)
        arguments = CopyArguments(
            label="COPY",
            lower_paths=tuple(str(lower / "diff") for lower in lowers),
            destination_hex=destination.encode().hex(),
            roots=(CopyRoot(),),
            **{"latest_seconds": 0, **options},
        )
        return run_copy(arguments, make_layer(layer), selection, (tree.root,))


def make_directory(layer, destination, *, lowers=(), **options):
    """What WORKDIR does."""
    arguments = CopyArguments(
        label="WORKDIR",
        lower_paths=tuple(str(lower / "diff") for lower in lowers),
        destination_hex=destination.encode().hex(),
        makes_directory=True,
        latest_seconds=0,
        **options,
    )
    return run_copy(arguments, make_layer(layer), Selection(sources=[], warnings=[]))


def tar_of(layer):
    """The layer's tar, made again of what is kept of it."""
    directory = os.open(layer, os.O_RDONLY | os.O_DIRECTORY)
    content = io.BytesIO()
    try:
        write_layer_tar(directory, content.write, "the layer")
    finally:
        os.close(directory)
    return content.getvalue()


def members_of(layer):
    """What the standard library reads in the layer's tar."""
    with tarfile.open(fileobj=io.BytesIO(tar_of(layer))) as archive:
        return {member.name: member for member in archive.getmembers()}


def shown(layer):
    """The tar's entries in a line each: name, kind and mode, owner, and a link's target."""
    kinds = {tarfile.DIRTYPE: "d", tarfile.REGTYPE: "-", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "h"}
    return [
        f"{kinds.get(member.type, '?')}{member.mode:o} {member.uid}:{member.gid} {name}"
        + (f" -> {member.linkname}" if member.linkname else "")
        for name, member in members_of(layer).items()
    ]
