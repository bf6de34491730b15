"""Saving and importing: the real engine and the one of memory."""

import io
import os
import tarfile

import pytest

from engine.errors import (
    ArchiveError,
    CopyRefusedError,
    ImageForPlatformNotFoundError,
    ImageNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
)
from engine.types import ArchiveFormat, Compression, ImportRequest, SaveOptions


def root_tar(path):
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("etc/motd")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    return path


async def test_a_saved_image_is_in_a_file_that_appears_whole(any_engine, image, tmp_path):
    target = tmp_path / "saved.tar"
    steps = []

    saved = await any_engine.save_images([image], target, progress=steps.append)

    details = await any_engine.inspect_image(image)
    assert saved.image_ids == (details.summary.image_id,)
    assert saved.layer_count == details.summary.layer_count
    assert saved.size_bytes == target.stat().st_size > 0
    assert saved.warnings == ()
    assert steps
    assert [path.name for path in tmp_path.iterdir() if "saved" in path.name] == ["saved.tar"]


async def test_an_image_that_is_not_there_leaves_no_file(any_engine, image, tmp_path):
    target = tmp_path / "saved.tar"
    with pytest.raises(ImageNotFoundError):
        await any_engine.save_images([image, "not-there:1"], target)
    assert not target.exists()


async def test_images_are_saved_into_a_pipe(any_engine, image):
    descriptor = os.memfd_create("pipe")
    try:
        await any_engine.save_images([image], descriptor)
        assert os.fstat(descriptor).st_size > 0
    finally:
        os.close(descriptor)


async def test_a_place_that_cannot_be_written_is_refused(any_engine, image, tmp_path):
    with pytest.raises(CopyRefusedError):
        await any_engine.save_images([image], tmp_path / "not-there" / "saved.tar")
    with pytest.raises(CopyRefusedError):
        await any_engine.save_images([image], tmp_path)


async def test_a_layout_is_written_into_an_empty_directory_only(any_engine, image, tmp_path):
    options = SaveOptions(format=ArchiveFormat.OCI_DIRECTORY)
    target = tmp_path / "layout"

    await any_engine.save_images([image], target, options=options)

    assert (target / "oci-layout").is_file()
    with pytest.raises(CopyRefusedError):
        await any_engine.save_images([image], target, options=options)
    with pytest.raises(InvalidInputError):
        await any_engine.save_images(
            [image],
            tmp_path / "other",
            options=SaveOptions(
                format=ArchiveFormat.OCI_DIRECTORY, archive_compression=Compression.GZIP
            ),
        )
    assert not (tmp_path / "other").exists()


async def test_an_imported_root_is_an_image_of_one_layer(any_engine, tmp_path):
    made = await any_engine.import_image(
        root_tar(tmp_path / "root.tar"),
        ImportRequest(
            name="mine", message="by hand", changes=('CMD ["cat", "/etc/motd"]',),
            platform="linux/riscv64",
        ),
    )  # fmt: skip

    details = await any_engine.inspect_image("mine:latest")
    assert made.name == "mine:latest"
    assert details.summary.image_id == made.image_id
    assert details.config.command == ("cat", "/etc/motd")
    assert details.architecture == "riscv64"
    assert [layer.comment for layer in details.layers] == ["by hand"]


async def test_a_root_can_be_imported_from_a_stream_and_without_a_name(any_engine, tmp_path):
    with root_tar(tmp_path / "root.tar").open("rb") as file:
        made = await any_engine.import_image(file.fileno(), ImportRequest())

    assert made.name is None
    assert (await any_engine.inspect_image(made.image_id)).summary.layer_count == 1


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (ImportRequest(name="Not A Name"), InvalidReferenceError),
        (ImportRequest(changes=("RUN something",)), InvalidInputError),
        (ImportRequest(platform="windows/amd64"), InvalidInputError),
    ],
)
async def test_an_import_that_makes_no_sense_is_refused(any_engine, tmp_path, wanted, error):
    with pytest.raises(error):
        await any_engine.import_image(root_tar(tmp_path / "root.tar"), wanted)
    assert await any_engine.list_images() == ()


async def test_what_is_no_tar_is_not_imported(any_engine, tmp_path):
    (tmp_path / "text").write_text("no tar at all" * 100)
    with pytest.raises(ArchiveError):
        await any_engine.import_image(tmp_path / "text", ImportRequest())
    with pytest.raises(ArchiveError):
        await any_engine.import_image(tmp_path / "not-there", ImportRequest())
    assert await any_engine.list_images() == ()


async def test_an_image_for_another_platform_is_not_saved(any_engine, image, tmp_path):
    details = await any_engine.inspect_image(image)
    own = f"{details.operating_system}/{details.architecture}"
    target = tmp_path / "saved.tar"
    with pytest.raises(
        ImageForPlatformNotFoundError,
        match=rf"{image} was found but does not provide the specified platform \(linux/s390x\)",
    ):
        await any_engine.save_images([image], target, options=SaveOptions(platform="linux/s390x"))
    assert not target.exists()
    with pytest.raises(InvalidInputError, match="invalid platform"):
        await any_engine.save_images([image], target, options=SaveOptions(platform="a/b/c/d"))
    saved = await any_engine.save_images([image], target, options=SaveOptions(platform=own))
    assert saved.image_ids == (details.summary.image_id,)
