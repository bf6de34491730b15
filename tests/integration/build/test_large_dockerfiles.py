"""Dockerfiles as large and as odd as those of well-known images, on a Debian, by every builder."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from tests import dockerfile_cases
from tests.conftest import remove_store
from tests.integration.build.comparing import compare_case, without_contents
from tests.integration.build.debian_image import debian
from tests.integration.build.expectations import unmet
from tests.integration.build.image_contents import ImageContents
from tests.integration.build.mirror import need_package_mirror
from tests.integration.build.other_builders import Outcomes, outcomes
from tests.integration.build.our_builder import build_all
from tests.workers import STORE_PREFIX

# The first test waits until everything was built.
pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

NAMES = dockerfile_cases.names(dockerfile_cases.LARGE)
WITH_PACKAGES = {"like-nginx", "like-postgres", "like-python"}
BUILDERS = ("buildah", "docker")
VARYING = frozenset(dockerfile_cases.varying_paths())


def asked_names(request: pytest.FixtureRequest) -> list[str]:
    """All, or those that need no packages, which three builders would fetch for each."""
    if request.config.getoption("--peers") == "all":
        return NAMES
    return [name for name in NAMES if name not in WITH_PACKAGES]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, debian_corpus: Path) -> dict[str, Outcomes]:
    """What each builder makes of the Dockerfiles, ours by the name `ours`."""
    need_package_mirror()
    cases = [dockerfile_cases.load(name, dockerfile_cases.LARGE) for name in asked_names(request)]
    bases = debian(debian_corpus)
    top = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        ours = asyncio.run(build_all(cases, top, bases, network="host"))
    finally:
        remove_store(top)
    return {
        "ours": ours,
        **{
            builder: outcomes(
                builder, [case for case in cases if builder not in case.unsupported], bases
            )
            for builder in BUILDERS
        },
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_makes_the_same_image(name: str, made: dict[str, Outcomes]) -> None:
    case = dockerfile_cases.load(name, dockerfile_cases.LARGE)
    if name not in made["ours"]:
        pytest.skip("it takes packages for each builder (`make compare-builders` builds it)")
    ours = made["ours"][name]
    assert isinstance(ours, ImageContents), ours

    assert unmet(case, ours) == []
    found: dict[str, list[str]] = {}
    for builder in BUILDERS:
        if name in made[builder]:
            theirs = made[builder][name]
            if isinstance(theirs, ImageContents):
                theirs = without_contents(theirs, VARYING)
            comparison = compare_case(case, builder, without_contents(ours, VARYING), theirs)
            found[builder] = comparison.unexpected
    assert not any(found.values()), found
