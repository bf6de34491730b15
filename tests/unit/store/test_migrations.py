import json
import sqlite3

import pytest

from engine.store.migrations import MIGRATIONS, SCHEMA_VERSION, migrate, schema_version

FIRST = "CREATE TABLE images (name TEXT) STRICT; INSERT INTO images VALUES ('web')"
SECOND = "ALTER TABLE images ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 7"


@pytest.fixture
def connection(tmp_path):
    opened = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    yield opened
    opened.close()


def test_an_older_database_is_brought_to_the_newest_shape_with_what_is_in_it(connection):
    assert migrate(connection, (FIRST,)) == (0, 1)
    assert migrate(connection, (FIRST, SECOND)) == (1, 2)
    assert connection.execute("SELECT name, size_bytes FROM images").fetchall() == [("web", 7)]


def test_a_database_of_this_shape_is_left_alone(connection):
    migrate(connection, (FIRST, SECOND))
    assert migrate(connection, (FIRST, SECOND)) == (2, 2)
    assert connection.execute("SELECT count(*) FROM images").fetchone() == (1,)


def test_a_step_that_fails_leaves_the_version_before_it_whole(connection):
    broken = f"{SECOND}; INSERT INTO nowhere VALUES (1)"
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, (FIRST, broken))
    assert schema_version(connection) == 1
    assert not connection.in_transaction
    columns = [row[1] for row in connection.execute("PRAGMA table_info(images)")]
    assert columns == ["name"]


def test_an_opening_that_was_overtaken_finds_nothing_to_do(connection, tmp_path):
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    try:
        assert schema_version(other) == 0
        migrate(connection)
        assert migrate(other) == (SCHEMA_VERSION, SCHEMA_VERSION)
    finally:
        other.close()


def test_every_step_can_be_told_apart_by_its_semicolons():
    for step in MIGRATIONS:
        assert all(sqlite3.complete_statement(f"{part};") for part in step.split(";"))


def test_limits_of_older_containers_are_kept(connection):
    migrate(connection, MIGRATIONS[:1])
    connection.execute(
        "INSERT INTO containers VALUES ('c', 'web', 'i', 'web', 'l', 0.0, 0, ?)",
        ('{"name":"web","memory_bytes":33554432,"cpu_count":1.5,"pids":null}',),
    )
    migrate(connection, MIGRATIONS[:2])
    (config,) = connection.execute("SELECT config FROM containers").fetchone()
    assert json.loads(config) == {
        "name": "web",
        "limits": {"memory_bytes": 33554432, "cpu_count": 1.5, "pids": None},
    }
