"""Which tests a worker of a run gets: any, as it asks for them, but for those that share much."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

_GROUPS = {
    # One ordinary user, made for the run.
    "tests/integration/rootless/": "rootless",
    # An image of Debian, made by other tools.
    # Images of all of them together.
    "tests/integration/build/test_dockerfiles.py": "dockerfiles",
    "tests/integration/build/test_large_dockerfiles.py": "large dockerfiles",
    "tests/integration/images/test_debian_in_the_engine.py": "debian",
    "tests/integration/images/test_loading_archives.py": "debian",
}


class GroupScheduling(LoadScopeScheduling):
    """Gives the tests of one group to one worker, the largest group first, and then the others."""

    def _split_scope(self, nodeid: str) -> str:
        groups = (group for start, group in _GROUPS.items() if nodeid.startswith(start))
        return next(groups, nodeid)
