"""What images occupy: what they share counts once."""

from engine.images.usage import usage_of_images
from engine.store.image_records import LayerUse
from engine.types import ChainId, Digest, ImageId, ImageSummary


def image(name, *, container_count=0):
    return ImageSummary(
        image_id=ImageId(name),
        names=(f"{name}:1",),
        created_at=1.0,
        size_bytes=0,
        layer_count=1,
        container_count=container_count,
    )


def use(name, chain, size_bytes, *, blob=None, blob_size_bytes=0):
    return LayerUse(
        image_id=ImageId(name),
        chain_id=ChainId(chain),
        size_bytes=size_bytes,
        blob_digest=None if blob is None else Digest(blob),
        blob_size_bytes=blob_size_bytes,
    )


def test_layers_and_kept_blobs_of_several_images_are_shared():
    usage = usage_of_images(
        [image("web", container_count=1), image("job"), image("bare")],
        [
            use("web", "base", 1000, blob="base.gz", blob_size_bytes=400),
            use("web", "top", 200, blob="top.gz", blob_size_bytes=80),
            use("job", "base", 1000, blob="base.gz", blob_size_bytes=400),
            # The same layer once more, compressed by somebody else.
            use("job", "top", 200, blob="top.zst", blob_size_bytes=70),
            use("job", "own", 30),
        ],
        layers_bytes=1230,
    )
    assert {one.image.image_id: (one.shared_bytes, one.own_bytes) for one in usage.images} == {
        "web": (1600, 80),
        "job": (1600, 100),
        "bare": (0, 0),
    }
    assert usage.unused_layers_bytes == 30
    assert usage.unused_blobs_bytes == 70


def test_a_blob_that_one_image_has_twice_is_its_own():
    usage = usage_of_images(
        [image("web")],
        [
            use("web", "a", 5, blob="same.gz", blob_size_bytes=3),
            use("web", "b", 5, blob="same.gz", blob_size_bytes=3),
        ],
        layers_bytes=10,
    )
    (only,) = usage.images
    assert (only.shared_bytes, only.own_bytes) == (0, 13)
    assert (usage.unused_layers_bytes, usage.unused_blobs_bytes) == (10, 3)
