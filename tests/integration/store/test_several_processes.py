import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.events import EventBus
from engine.store.container_records import ContainerRecords
from engine.store.database import Database
from engine.store.event_log import EventTail
from engine.store.locks import LockFile, is_locked
from tests.integration.store.writing import record

CHECKOUT = Path(__file__).resolve().parents[3]
COMMAND = (sys.executable, "-m", "tests.integration.store.writing")


@contextlib.contextmanager
def writer(what, root, *rest, before=()):
    process = subprocess.Popen(
        [*before, *COMMAND, what, str(root), *rest],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_of_two_that_want_a_name_one_gets_it_and_the_other_hears_who_has_it(tmp_path):
    ids = ("a" * 64, "b" * 64)
    with writer("name", tmp_path, ids[0]) as one, writer("name", tmp_path, ids[1]) as two:
        assert [one.stdout.readline(), two.stdout.readline()] == ["ready\n", "ready\n"]
        for process in (one, two):
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [one.stdout.readline().strip(), two.stdout.readline().strip()]
    winner = answers.index("won")
    assert answers[1 - winner] == f"lost to {ids[winner]}"
    async with await Database.open(tmp_path / "lamella.db") as database:
        (kept,) = await ContainerRecords(database).list_containers()
    assert kept.container_id == ids[winner]


async def test_who_looks_waits_neither_for_another_process_nor_for_a_write_of_its_own(tmp_path):
    async with await Database.open(tmp_path / "lamella.db") as database:
        containers = ContainerRecords(database)
        await containers.insert(record("a" * 64, "web"))
        with writer("hang", tmp_path) as process:
            assert process.stdout.readline() == "inside\n"
            writing = asyncio.create_task(containers.insert(record("b" * 64, "job")))
            async with asyncio.timeout(10):
                for _ in range(100):
                    (found,) = await containers.list_containers()
            assert found.name == "web"
            assert not writing.done()
            process.send_signal(signal.SIGKILL)
            process.wait()
        await writing
        assert await containers.count() == 2


async def test_a_process_killed_inside_a_transaction_has_changed_nothing(tmp_path):
    async with await Database.open(tmp_path / "lamella.db") as database:
        await ContainerRecords(database).insert(record("a" * 64, "web"))
    with writer("hang", tmp_path) as process:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    async with await Database.open(tmp_path / "lamella.db") as database:
        containers = ContainerRecords(database)
        assert [found.name for found in await containers.list_containers()] == ["web"]
        await containers.insert(record("b" * 64, "job"))
        checked = await database.read(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchone()
        )
    assert checked == ("ok",)


async def test_what_another_process_tells_reaches_the_bus(tmp_path):
    bus = EventBus()
    async with EventTail(tmp_path / "events.jsonl", bus):
        with bus.subscribe() as subscription, writer("tell", tmp_path, "start"):
            event = await anext(aiter(subscription))
    assert event.action == "start"


def test_a_lock_goes_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "lock"
    script = (
        "import sys\nfrom pathlib import Path\nfrom engine.store.locks import LockFile\n"
        "lock = LockFile(Path(sys.argv[1]))\nlock.acquire_now()\nprint('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        assert not LockFile(path).try_acquire()
        holder.kill()
        holder.wait()
    assert not is_locked(path)
    with LockFile(path) as lock:
        assert lock.has_lock


@pytest.mark.root
def test_a_full_disk_is_said_and_leaves_the_store_whole(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux) for a small disk of its own")
    small_disk = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", small_disk)
    with writer("fill", tmp_path, before=(*before, str(tmp_path))) as process:
        line = process.stdout.readline()
    found = json.loads(line)
    for name in ("blob", "record", "event", "database"):
        assert found[name] == "no space", name
    assert found["staging"] == []
    assert found["kept"] == "old"
    assert found["lost"] == 0
    assert found["check"] == "ok"


async def test_all_that_open_a_new_store_at_once_get_in(tmp_path):
    for number in range(40):
        path = tmp_path / str(number) / "lamella.db"
        opened = await asyncio.gather(*(Database.open(path) for _ in range(6)))
        for database in opened:
            await database.close()
