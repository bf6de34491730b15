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
"""The suite compares with the last of them; `make compare-builders` with all."""
VARYING = frozenset(dockerfile_cases.varying_paths())


def asked_names(config: pytest.Config) -> list[str]:
    """All, or those that need no packages, which every builder would fetch for each."""
    return [name for name in NAMES if asks_all(config) or name not in WITH_PACKAGES]


def asks_all(config: pytest.Config) -> bool:
    return bool(config.getoption("--peers") == "all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("name", asked_names(metafunc.config))


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, debian_corpus: Path) -> dict[str, Outcomes]:
    """What each builder makes of the Dockerfiles, ours by the name `ours`."""
    need_package_mirror()
    names = asked_names(request.config)
    cases = [dockerfile_cases.load(name, dockerfile_cases.LARGE) for name in names]
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
            for builder in (BUILDERS if asks_all(request.config) else BUILDERS[-1:])
        },
    }


def test_every_builder_makes_the_same_image(name: str, made: dict[str, Outcomes]) -> None:
    case = dockerfile_cases.load(name, dockerfile_cases.LARGE)
    ours = made["ours"][name]
    assert isinstance(ours, ImageContents), ours

    assert unmet(case, ours) == []
    found: dict[str, list[str]] = {}
    for builder in made.keys() - {"ours"}:
        if name in made[builder]:
            theirs = made[builder][name]
            if isinstance(theirs, ImageContents):
                theirs = without_contents(theirs, VARYING)
            comparison = compare_case(case, builder, without_contents(ours, VARYING), theirs)
            found[builder] = comparison.unexpected
    assert not any(found.values()), found
