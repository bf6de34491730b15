"""Leak checks around every test and around the run, and what tests share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.accounts import NoAccountError, OrdinaryUser, ordinary_user
from tests.leaks import Traces, bridges_of, containers_of, find_leaks, look
from tests.namespaces import Namespace
from tests.workers import (
    STORE_PREFIX,
    count_workers,
    keep_compiled_modules,
    places,
    stores,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling
    from xdist.workermanage import WorkerController

    from engine.api import EngineApi
    from engine.types import LoadedImage

_before_test = pytest.StashKey[Traces]()
_before_run = pytest.StashKey[Traces]()
_left_by_workers = pytest.StashKey[list[str]]()
_containers = pytest.StashKey[set[str]]()
_bridges = pytest.StashKey[set[str]]()
_DEEP = ("tests/integration", "tests/tui")
_WITH_ENGINES = (*_DEEP, "tests/contracts")


def _is_deep(item: pytest.Item) -> bool:
    return item.nodeid.startswith(_DEEP)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peers",
        choices=("some", "all"),
        default="some",
        help="Dockerfiles that buildah builds too: some, or all (`make compare-builders`)",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return count_workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    from tests.scheduling import GroupScheduling

    return GroupScheduling(config, log)


# Before the workers are started: they inherit the environment.
@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    keep_compiled_modules(session.config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: programs under test would not hear it either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    session.config.stash[_left_by_workers] = []
    session.config.stash[_containers] = set()
    session.config.stash[_bridges] = set()
    session.config.stash[_before_run] = look(places=places(session.config), is_deep=True)


# After the workers have been told to end: what they leave has to be gone then.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    before = config.stash.get(_before_run, None)
    if before is None:
        return
    # Descriptors of libraries that stay for the life of the process are theirs to keep.
    leaks = find_leaks(
        before,
        places=places(config),
        is_deep=True,
        containers=frozenset(config.stash[_containers]) | containers_of(stores()),
        bridges=frozenset(config.stash[_bridges]) | bridges_of(stores()),
        has_descriptors=False,
    )
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_behind"] = leaks
        return
    leaks += config.stash[_left_by_workers]
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            for leak in leaks:
                reporter.write_line(f"LEFT BEHIND {leak}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take what a worker says at its end; one that crashed says nothing, but its traces do."""
    said = getattr(node, "workeroutput", {})
    node.config.stash[_left_by_workers] += said.get("left_behind", [])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[_before_test] = look(places=places(item.config), is_deep=_is_deep(item))
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Compare after every fixture of the test is gone.

    Fixtures of a larger scope may therefore hold files only: no process, mount or descriptor.
    """
    funcargs: dict[str, object] = getattr(item, "funcargs", {})
    own = [str(funcargs["tmp_path"])] if "tmp_path" in funcargs else []
    # Now: with the fixtures the stores go.
    containers = containers_of([*stores(), *own]) if _is_deep(item) else frozenset()
    bridges = bridges_of([*stores(), *own]) if _is_deep(item) else frozenset()
    item.config.stash[_containers] |= containers
    item.config.stash[_bridges] |= bridges
    result = yield
    before = item.stash.get(_before_test, None)
    if before is not None:
        leaks = find_leaks(
            before,
            places=places(item.config),
            is_deep=_is_deep(item),
            containers=containers,
            bridges=bridges,
        )
        if leaks:
            pytest.fail("left behind:\n" + "\n".join(leaks), pytrace=False)
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skipped = pytest.mark.skip(
        reason="needs root (`sudo make test`); this run is an ordinary user's"
    )
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skipped)


# By itself, and first: an engine that a test opens makes bridges and rules.
@pytest.fixture(autouse=True)
def own_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the test, and all that it starts, in a network namespace of its own.

    Nothing of this host is touched, and the kernel takes down with it whatever is left in it.
    """
    is_deep = request.node.nodeid.startswith(_WITH_ENGINES)
    if os.geteuid() != 0 or not is_deep or request.node.get_closest_marker("host_network"):
        yield
        return
    with contextlib.closing(Namespace("test")) as namespace, namespace.entered():
        yield


@dataclass(frozen=True)
class StorePaths:
    """A store of a test's own."""

    root: Path
    run: Path

    @property
    def options(self) -> tuple[str, ...]:
        """The same for a command line."""
        return ("--root", str(self.root), "--run", str(self.run))


@pytest.fixture
def store_paths(request: pytest.FixtureRequest) -> Iterator[StorePaths]:
    """A store with a short path: the name of a socket has room for 107 bytes.

    It is empty, or has the starter image if the test asks for `starter_image`.
    """
    top = Path(tempfile.mkdtemp(prefix=STORE_PREFIX, dir="/tmp"))
    try:
        if "starter_image" in request.fixturenames:
            starter_store: StarterStore = request.getfixturevalue("starter_store")
            starter_store.copy_to(top / "root")
        yield StorePaths(root=top / "root", run=top / "run")
    finally:
        remove_store(top)


def remove_store(top: Path) -> None:
    """Remove a store, also one with files of ids that only its user namespace may touch."""
    shutil.rmtree(top, ignore_errors=True)
    if not top.exists():
        return
    from engine.runtime.id_mapping import find_mapping
    from engine.runtime.supervisor import Supervisor
    from engine.snapshots.writable import remove_tree

    async def remove_in_user_namespace() -> None:
        async with Supervisor.open(None if os.geteuid() == 0 else find_mapping()) as supervisor:
            await remove_tree(supervisor, top)

    asyncio.run(remove_in_user_namespace())


@pytest.fixture
async def engine(store_paths: StorePaths) -> AsyncIterator[EngineApi]:
    """A real engine over a store of its own; its containers are removed at the end."""
    from engine.api import open_engine

    async with open_engine(root=store_paths.root, run=store_paths.run) as opened:
        try:
            yield opened
        finally:
            for summary in await opened.list_containers():
                await opened.remove_container(summary.container_id, is_forced=True)


@dataclass(frozen=True)
class StarterStore:
    """A store that nobody has open, with the starter image and nothing else."""

    root: Path
    image: LoadedImage

    def copy_to(self, root: Path) -> None:
        """Make a store of the same content; files of layers, which nobody writes, are linked."""
        shutil.copytree(
            self.root, root, symlinks=True, ignore=shutil.ignore_patterns("layers", "reserve")
        )
        shutil.copytree(self.root / "layers", root / "layers", symlinks=True, copy_function=os.link)


@pytest.fixture(scope="session")
def starter_store(tmp_path_factory: pytest.TempPathFactory) -> StarterStore:
    """Made once a run: it takes longer than most tests."""
    from engine.api import open_engine

    top = tmp_path_factory.mktemp("starter")

    async def make() -> LoadedImage:
        async with open_engine(root=top / "root", run=top / "run") as engine:
            return await engine.make_starter_image()

    return StarterStore(root=top / "root", image=asyncio.run(make()))


@pytest.fixture
def starter_image(store_paths: StorePaths, starter_store: StarterStore) -> LoadedImage:
    """The starter image, in the store of `store_paths` and so of `engine`."""
    del store_paths
    return starter_store.image


@pytest.fixture(scope="session")
def unprivileged_user() -> Iterator[OrdinaryUser]:
    """An ordinary user with subordinate ids, for tests of rootless engines in a run as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user; the other tests run as this one")
    try:
        with ordinary_user(f"lamella-test-{os.getpid()}") as user:
            yield user
    except NoAccountError as error:
        pytest.skip(f"no ordinary user: {error}")
