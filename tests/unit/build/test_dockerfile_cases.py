"""The Dockerfiles that builders are compared with, as far as reading them goes."""

import re

from engine.build.parser import parse_dockerfile
from engine.errors import DockerfileError
from tests import dockerfile_cases

CASES = [dockerfile_cases.load(name) for name in dockerfile_cases.names()]


def test_there_are_enough_of_them():
    assert len(CASES) >= 120


def test_each_is_whole():
    for case in CASES:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", case.name)
        assert case.rule, case.name
        # Somebody is left to say what has to come of it.
        assert case.expect or case.configuration or case.fails or len(case.unsupported) < 2, case
        assert {each.builder for each in case.differences} <= {"buildah", "docker"}, case.name


def test_deliberate_differences_have_names_and_each_is_met():
    met = {each.name for case in CASES for each in case.differences}
    met |= {
        each.name
        for builder in ("buildah", "docker")
        for each in dockerfile_cases.general_differences(builder)
    }
    assert met == dockerfile_cases.difference_names().keys()


def test_each_can_be_read_unless_it_is_about_that():
    for case in CASES:
        try:
            dockerfile = parse_dockerfile(case.dockerfile, name=case.name)
        except DockerfileError as error:
            refused = error.message
        else:
            refused = ""
            assert dockerfile.stages

        assert not refused or (case.fails and case.fails in refused), case.name
