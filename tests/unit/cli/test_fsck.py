"""`fsck`: what it says of problems, and its exit codes."""

import json

import pytest

from engine.types import ProblemKind, StoreProblem
from tests.fakes import FakeEngine

PROBLEM = StoreProblem(
    kind=ProblemKind.LAYER,
    subject="sha256:" + "ab" * 32,
    text="the layer is damaged: 1 difference",
    details=("etc/\x1b[2Jpass\nwd has another content",),
    image_names=("web:1", "web:2"),
)


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_image("web:1")
    return fake


def test_a_clean_store_is_told_in_a_line_and_with_quiet_not_at_all(lamella):
    assert lamella("fsck") == (
        0,
        "Checked 1 image, 1 layer, 2 blobs: read 117 MB, no problems\n",
        "",
    )
    assert lamella("fsck", "-q") == (0, "", "")


def test_a_problem_is_told_with_its_details_and_nothing_of_a_path_is_obeyed(lamella, engine):
    engine.store_problems = (PROBLEM,)
    code, out, _ = lamella("fsck")
    assert code == 4
    assert out.splitlines() == [
        "PROBLEM: layer abababababab of web:1, web:2: the layer is damaged: 1 difference",
        "  etc/\N{REPLACEMENT CHARACTER}[2Jpass\N{REPLACEMENT CHARACTER}wd has another content",
        "Checked 1 image, 1 layer, 2 blobs: read 117 MB, 1 problem, 1 left",
    ]


def test_what_was_repaired_is_no_failure_but_is_told(lamella, engine):
    engine.store_problems = (PROBLEM,)
    code, out, _ = lamella("fsck", "--repair")
    assert code == 1
    assert out.startswith("repaired: layer abababababab")
    assert "  -> made again\n" in out
    assert lamella("fsck")[0] == 0


def test_json_has_every_problem(lamella, engine):
    engine.store_problems = (PROBLEM,)
    code, out, _ = lamella("fsck", "--format", "json")
    assert code == 4
    (problem,) = json.loads(out)["problems"]
    assert problem["kind"] == "layer"
    assert problem["image_names"] == ["web:1", "web:2"]
