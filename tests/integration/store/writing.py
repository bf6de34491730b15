"""A process beside the test that writes into its store: `python -m ... <what> <store>`."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from engine.errors import EngineError, NameInUseError, NoSpaceError
from engine.events import Event, EventSubject
from engine.store.blobs import BlobStore
from engine.store.container_records import ContainerRecord, ContainerRecords
from engine.store.database import Database
from engine.store.durability import write_record
from engine.store.event_log import append_event
from engine.types import ChainId, ContainerId, ImageId


def record(container_id, name):
    return ContainerRecord(
        container_id=ContainerId(container_id),
        name=name,
        image_id=ImageId("sha256:" + "0" * 64),
        image_name="web:latest",
        chain_id=ChainId("sha256:" + "1" * 64),
        created_at=1.0,
        is_removed_on_exit=False,
        config="{}",
    )


def say(word):
    print(word, flush=True)


async def take_name(root, container_id):
    """Open, say so, wait for the word, and take the name `web`."""
    async with await Database.open(root / "lamella.db") as database:
        say("ready")
        sys.stdin.readline()
        try:
            await ContainerRecords(database).insert(record(container_id, "web"))
        except NameInUseError as error:
            say(f"lost to {error.container_id}")
        else:
            say("won")


async def hang_in_transaction(root):
    """Change much inside one transaction and stay there."""

    def change(connection):
        connection.execute("DELETE FROM containers")
        for number in range(2000):
            connection.execute(
                "INSERT INTO containers VALUES (?, ?, '', '', '', 0, 0, ?)",
                (f"{number:064}", f"name-{number}", "x" * 2000),
            )
        say("inside")
        sys.stdin.read()

    async with await Database.open(root / "lamella.db") as database:
        await database.write(change)


def tell(root, action):
    append_event(
        root / "events.jsonl",
        Event(time_ns=1, subject=EventSubject.CONTAINER, action=action, subject_id="a" * 64),
    )


async def fill_disk(root):
    """Run into the end of a small disk with everything that is written; print what came of it."""
    found = {}
    staging = root / "staging"
    staging.mkdir()
    blobs = BlobStore(root / "blobs")
    async with await Database.open(root / "lamella.db") as database:
        containers = ContainerRecords(database)
        await containers.insert(record("a" * 64, "web"))
        write_record(root / "record", b"old")
        filler = root / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        for name, work in (
            ("blob", lambda: blobs.add(bytes(1 << 20), staging)),
            ("record", lambda: write_record(root / "record", bytes(100_000))),
            ("event", lambda: tell(root, "x" * 100_000)),
        ):
            try:
                work()
            except NoSpaceError:
                found[name] = "no space"
        count = 1
        try:
            while count < 1000:
                await containers.insert(record(f"{count:064}", f"name-{count}"))
                count += 1
        except NoSpaceError:
            found["database"] = "no space"
        found["staging"] = [path.name for path in staging.iterdir()]
        found["kept"] = (root / "record").read_text()
        filler.unlink()
        await containers.insert(record("b" * 64, "after"))
        found["lost"] = count + 1 - await containers.count()
        found["check"] = await database.read(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0]
        )
    say(json.dumps(found))


def main():
    what, root, *rest = sys.argv[1:]
    try:
        if what == "tell":
            tell(Path(root), rest[0])
        else:
            work = {"name": take_name, "hang": hang_in_transaction, "fill": fill_disk}[what]
            asyncio.run(work(Path(root), *rest))
    except EngineError as error:
        say(f"failed: {error.message}")


if __name__ == "__main__":
    main()
