"""Images of the Dockerfiles in tests/dockerfiles: as each says, and as other builders make them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import dockerfile_cases
from tests.conftest import remove_store
from tests.integration.build.base_images import SMALL
from tests.integration.build.comparing import compare_case
from tests.integration.build.expectations import unmet
from tests.integration.build.other_builders import Outcomes, outcomes
from tests.integration.build.our_builder import build_all
from tests.workers import STORE_PREFIX

if TYPE_CHECKING:
    from tests.dockerfile_cases import Case

# The first test waits until every case was built: by us, and by the others if they never did.
pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

CASES = dockerfile_cases.names()
BUILDERS = ("buildah", "docker")
COMPARED = [name for name in CASES if len(dockerfile_cases.load(name).unsupported) < len(BUILDERS)]
"""Those that one of the others is new enough for."""


def wanted(request: pytest.FixtureRequest) -> list[Case]:
    """The cases of the tests that were asked for; all, if one is about all."""
    if any(
        item.name.startswith(test_general_differences_are_still_there.__name__)
        for item in request.session.items
    ):
        return [dockerfile_cases.load(name) for name in CASES]
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == Path(__file__)
        and hasattr(item, "callspec")
    }
    return [dockerfile_cases.load(name) for name in sorted(chosen)]


@pytest.fixture(scope="module")
def ours(request: pytest.FixtureRequest) -> Outcomes:
    """What this engine makes of every case, in one store that is gone again."""
    top = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        return asyncio.run(build_all(wanted(request), top, SMALL, network="none"))
    finally:
        remove_store(top)


@pytest.fixture(scope="module")
def others(request: pytest.FixtureRequest) -> dict[str, Outcomes]:
    """What other builders make of the cases that they can read."""
    asked = dict.fromkeys(BUILDERS, wanted(request))
    if request.config.getoption("--peers") != "all":
        # It is slow: what it does otherwise, and a part of the others.
        asked["buildah"] = [
            case
            for number, case in enumerate(asked["buildah"])
            if case.of("buildah") or number % 4 == 0
        ]
    return {
        builder: outcomes(
            builder, [case for case in cases if builder not in case.unsupported], SMALL
        )
        for builder, cases in asked.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_an_image_is_as_its_dockerfile_says(name: str, ours: Outcomes) -> None:
    case, outcome = dockerfile_cases.load(name), ours[name]

    if case.fails:
        assert isinstance(outcome, str), case.rule
        assert case.fails in outcome
    else:
        assert not isinstance(outcome, str), outcome
        assert unmet(case, outcome) == [], case.rule


# One test for all builders: a test that looks for leaks takes longer than a comparison.
@pytest.mark.parametrize("name", COMPARED)
def test_other_builders_make_the_same_image(
    name: str, ours: Outcomes, others: dict[str, Outcomes]
) -> None:
    case = dockerfile_cases.load(name)
    found = {
        builder: compare_case(case, builder, ours[name], made[name]).unexpected
        for builder, made in others.items()
        if name in made
    }
    assert not any(found.values()), (case.rule, found)


@pytest.mark.parametrize("builder", BUILDERS)
def test_general_differences_are_still_there(
    builder: str, ours: Outcomes, others: dict[str, Outcomes]
) -> None:
    met: set[str] = set()
    for name, theirs in others[builder].items():
        met |= compare_case(dockerfile_cases.load(name), builder, ours[name], theirs).met

    assert met == {each.name for each in dockerfile_cases.general_differences(builder)}
