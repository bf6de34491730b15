"""Whether an image's documents say the same as its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import ArchiveError
from engine.oci.digests import digest_of
from engine.oci.documents import chain_ids, decode_config, decode_manifest
from engine.types import ImageId

if TYPE_CHECKING:
    from engine.store.check_records import CheckedImage
    from engine.store.image_records import ImageRecord

_SHORT_ID_DIGITS = 12


def image_label(image: CheckedImage) -> str:
    """What people call an image: its first name, else its short id."""
    if image.names:
        return image.names[0]
    return image.record.image_id.removeprefix("sha256:")[:_SHORT_ID_DIGITS]


def bring_again(label: str) -> str:
    """What a person can do to get an image once more."""
    return f"bring the image again: `lamella load FILE`, or `lamella pull {label}`"


def check_image(record: ImageRecord, manifest: bytes | None) -> tuple[str, ...]:
    """What is wrong with an image, one sentence each.

    Args:
        record: As the database has it.
        manifest: The document, whose digest was verified; None when there is none to look at.
    """
    return (
        *_check_config(record),
        *(() if manifest is None else _check_manifest(record, manifest)),
    )


def _check_config(record: ImageRecord) -> tuple[str, ...]:
    if ImageId(digest_of(record.config)) != record.image_id:
        return ("its config in the database has another digest than its id",)
    try:
        document = decode_config(record.config, record.image_id)
    except ArchiveError as error:
        return (f"its config cannot be read: {error.reason}",)
    recorded = tuple(part.layer.diff_id for part in record.layers)
    if document.diff_ids != recorded:
        return ("its config names other layers than are recorded",)
    found = []
    parent = None
    for part, chain_id in zip(record.layers, chain_ids(recorded), strict=True):
        if part.layer.chain_id != chain_id or part.layer.parent_chain_id != parent:
            found.append(f"layer {part.layer.chain_id} is recorded in another place of the stack")
        parent = part.layer.chain_id
    return tuple(found)


def _check_manifest(record: ImageRecord, manifest: bytes) -> tuple[str, ...]:
    try:
        document = decode_manifest(manifest, record.manifest_digest)
    except ArchiveError as error:
        return (f"its manifest cannot be read: {error.reason}",)
    found = []
    if document.config is None or document.config.digest != record.image_id:
        found.append("its manifest is of another config")
    if len(document.layers or ()) != len(record.layers):
        found.append("its manifest names another number of layers than are recorded")
    return tuple(found)
