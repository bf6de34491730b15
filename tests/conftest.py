"""Leak checks around every test and around the run, and what tests share."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.accounts import NoAccountError, OrdinaryUser, ordinary_user
from tests.leaks import Traces, find_leaks, look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from engine.api import EngineApi
    from engine.types import LoadedImage

_STORE_PREFIX = f"/tmp/lamella-{os.getpid()}-"
_before_test = pytest.StashKey[Traces]()
_before_run = pytest.StashKey[Traces]()
_DEEP = ("tests/integration", "tests/tui")


def _places(config: pytest.Config) -> tuple[str, ...]:
    factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
    return (str(factory.getbasetemp()), _STORE_PREFIX)


def _is_deep(item: pytest.Item) -> bool:
    return item.nodeid.startswith(_DEEP)


def pytest_sessionstart(session: pytest.Session) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: programs under test would not hear it either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    session.config.stash[_before_run] = look(places=_places(session.config), is_deep=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    before = session.config.stash.get(_before_run, None)
    if before is None:
        return
    leaks = find_leaks(before, places=_places(session.config), is_deep=True)
    # Descriptors of libraries that stay for the life of the process are theirs to keep.
    leaks = [leak for leak in leaks if not leak.startswith("descriptors:")]
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            for leak in leaks:
                reporter.write_line(f"LEFT BEHIND {leak}", red=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    item.stash[_before_test] = look(places=_places(item.config), is_deep=_is_deep(item))
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Compare after every fixture of the test is gone.

    Fixtures of a larger scope may therefore hold files only: no process, mount or descriptor.
    """
    result = yield
    before = item.stash.get(_before_test, None)
    if before is not None:
        leaks = find_leaks(before, places=_places(item.config), is_deep=_is_deep(item))
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
def store_paths() -> Iterator[StorePaths]:
    """An empty store with a short path: the name of a socket has room for 107 bytes."""
    top = Path(tempfile.mkdtemp(prefix=_STORE_PREFIX, dir="/tmp"))
    try:
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


@pytest.fixture
async def starter_image(engine: EngineApi) -> LoadedImage:
    """The starter image, in the store of `engine`."""
    return await engine.make_starter_image()


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
