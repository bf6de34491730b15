import os

import pytest

from engine.errors import BuildSourceChangedError
from tests.unit.build.layers import (
    copy_context,
)
from tests.unit.build.trees import write_files


@pytest.mark.parametrize("size", [10, 3 << 20])
@pytest.mark.parametrize(
    "change", ["content", "longer", "shorter", "gone", "link", "pipe", "directory"]
)
def test_a_file_that_is_not_what_was_selected_is_said_to_have_changed(
    tmp_path, context, layer, size, change
):
    path = context / "a"
    path.write_bytes(bytes(size))
    (tmp_path / "secret").write_bytes(bytes(size))

    def change_it(_selection):
        if change == "content":
            path.write_bytes(b"x" + bytes(size - 1))
        elif change == "longer":
            path.write_bytes(bytes(size + 1))
        elif change == "shorter":
            path.write_bytes(bytes(size - 1))
        else:
            path.unlink()
        if change == "link":
            path.symlink_to("../secret")
        elif change == "pipe":
            os.mkfifo(path)
        elif change == "directory":
            path.mkdir()

    with pytest.raises(BuildSourceChangedError, match="a changed while it was read"):
        copy_context(context, layer, "/", ".", before_copy=change_it)

    assert os.listdir(layer) == ["diff"]
    assert os.listdir(layer / "diff") == []


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path, context, layer):
    write_files(context, "d/a")
    write_files(tmp_path, "outside/a = d/a")

    def replace(_selection):
        (context / "d").rename(tmp_path / "moved")
        (context / "d").symlink_to("../outside")

    with pytest.raises(BuildSourceChangedError):
        copy_context(context, layer, "/", ".", before_copy=replace)
