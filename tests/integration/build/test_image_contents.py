"""What looks into images sees what is in them, and what compares them sees what differs."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.dockerfile_cases import Difference, GeneralDifference
from tests.integration.build.base_images import NAMES, write_base_images
from tests.integration.build.comparing import compare, compare_histories
from tests.integration.build.image_contents import History, ImageContents, read_archive

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY, SYMBOLIC, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def layer(*members: tuple[str, bytes, str]) -> bytes:
    """Members as name, type and what they hold or lead to."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (SYMBOLIC, HARD):
                info.linkname = content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return data.getvalue()


def image(path: Path, *layers: bytes) -> ImageContents:
    blobs = {f"{number}.tar": data for number, data in enumerate(layers)}
    config = {"config": {"Env": ["a=1"]}, "history": [{"created_by": "x"}], "os": "linux"}
    manifest = [{"Config": "config", "Layers": list(blobs)}]
    blobs |= {"config": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as archive:
        for name, data in blobs.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return read_archive(path)


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    contents = image(
        tmp_path / "image.tar",
        layer(
            ("d/", DIRECTORY, ""),
            ("d/old", tarfile.REGTYPE, "1"),
            ("gone/", DIRECTORY, ""),
            ("gone/deep", tarfile.REGTYPE, "2"),
            ("turns/", DIRECTORY, ""),
            ("turns/in", tarfile.REGTYPE, "3"),
            ("twin", tarfile.REGTYPE, "4"),
            ("other", HARD, "twin"),
        ),
        layer(
            ("d/.wh..wh..opq", tarfile.REGTYPE, ""),
            ("d/new", tarfile.REGTYPE, "5"),
            (".wh.gone", tarfile.REGTYPE, ""),
            ("turns", SYMBOLIC, "/d"),
        ),
    )

    assert sorted(contents.files) == ["/d", "/d/new", "/other", "/turns", "/twin"]
    assert contents.files["/turns"].link == "/d"
    assert contents.files["/twin"].twins == ("/other", "/twin")
    assert contents.configuration == {"Env": ["a=1"], "os": "linux"}
    assert ImageContents.from_json(contents.to_json()) == contents


def test_the_base_images_are_images(tmp_path: Path) -> None:
    write_base_images(tmp_path / "bases.tar")
    with tarfile.open(tmp_path / "bases.tar") as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert [each["RepoTags"] for each in json.load(manifest)] == [[name] for name in NAMES]


def test_what_differs_is_found_unless_it_was_announced(tmp_path: Path) -> None:
    mine = image(tmp_path / "image.tar", layer(("f", tarfile.REGTYPE, "1"), ("g", DIRECTORY, "")))
    file = mine.files["/f"]
    other = replace(
        mine,
        files={"/f": replace(file, mode="0600"), "/h": file},
        configuration={**mine.configuration, "Env": ["a=2"]},
    )

    assert compare(mine, mine, [], []).unexpected == []
    assert compare(mine, other, [], []).unexpected == [
        "/f: mode '0644', theirs '0600'",
        "/g: only in ours",
        "/h: only in theirs",
        "Env: ['a=1'], theirs ['a=2']",
    ]
    announced = Difference(
        builder="x", name="y", paths=("/f", "/g", "/h", "/i"), configuration=("Env",)
    )
    assert compare(mine, other, [announced], []).unexpected == ["/i was to differ"]


def test_paths_that_only_others_have_may_be_announced_for_all_images(tmp_path: Path) -> None:
    mine = image(tmp_path / "image.tar", layer(("f", tarfile.REGTYPE, "1")))
    file = mine.files["/f"]
    general = [GeneralDifference(builder="x", name="stubs", added=("/f", "/stub"))]

    found = compare(mine, replace(mine, files={"/f": file, "/stub": file}), [], general)
    assert (found.unexpected, found.met) == ([], {"stubs"})
    assert compare(mine, mine, [], general).met == set()
    assert compare(mine, replace(mine, files={}), [], general).unexpected == ["/f: only in ours"]


@pytest.mark.parametrize(("mine", "theirs", "same"), [("e", "f", True), ("e", None, False)])
def test_a_build_that_fails_alone_is_found(
    mine: str, theirs: str | None, *, same: bool, tmp_path: Path
) -> None:
    other = image(tmp_path / "image.tar") if theirs is None else theirs
    announced = [Difference(builder="x", name="y", outcome=True)]

    assert (compare(mine, other, [], []).unexpected == []) is same
    assert (compare(other, mine, [], []).unexpected == []) is same
    assert (compare(mine, other, announced, []).unexpected == []) is not same


def test_histories_are_compared() -> None:
    lines = [History(created_by="EXPOSE [80/tcp]", is_empty=True)]
    other = [History(created_by="EXPOSE [81/tcp]", is_empty=True)]

    assert compare_histories(lines, lines, [], []).unexpected == []
    assert compare_histories(lines, other, [], []).unexpected
    announced = [Difference(builder="x", name="y", history=True)]
    assert compare_histories(lines, other, announced, []).unexpected == []
    assert compare_histories(lines, lines, announced, []).unexpected == [
        "the history was to differ"
    ]


@pytest.mark.parametrize(
    ("name", "mine", "theirs"),
    [
        ("history-says-flags", "COPY --chown=1 a /b # buildkit", "COPY a /b # buildkit"),
        ("history-lists-ports", "EXPOSE [1/tcp 2/udp]", "EXPOSE map[1/tcp:{} 2/udp:{}]"),
        ("history-says-health-checks", "HEALTHCHECK {Test:[NONE]}", "HEALTHCHECK &{[]}"),
    ],
)
def test_lines_of_an_older_history_are_known(name: str, mine: str, theirs: str) -> None:
    general = [GeneralDifference(builder="x", name=name, is_of_history=True)]
    lines = [History(created_by=mine, is_empty=True)]
    older = [History(created_by=theirs, is_empty=True)]

    found = compare_histories(lines, older, [], general)
    assert (found.unexpected, found.met) == ([], {name})
    other = [History(created_by="RUN x", is_empty=True)]
    assert compare_histories(lines, other, [], general).unexpected


def test_a_layer_that_holds_nothing_may_be_announced() -> None:
    general = [GeneralDifference(builder="x", name="y", keeps_empty_layers=True)]
    none, empty = (History(created_by="RUN x", is_empty=is_empty) for is_empty in (True, False))

    assert compare_histories([none], [empty], [], general).unexpected == []
    assert compare_histories([empty], [none], [], general).unexpected
