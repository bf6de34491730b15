"""The tables of the store's database, as numbered steps from an empty file.

A step never changes once released: a newer shape is a new step at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MIGRATIONS: tuple[str, ...] = (
    # 1: images, layers, tags, containers.
    """
    CREATE TABLE images (
        image_id TEXT PRIMARY KEY,
        manifest_digest TEXT NOT NULL,
        config BLOB NOT NULL,
        created_at REAL,
        operating_system TEXT NOT NULL,
        architecture TEXT NOT NULL,
        added_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE layers (
        chain_id TEXT PRIMARY KEY,
        diff_id TEXT NOT NULL,
        parent_chain_id TEXT REFERENCES layers (chain_id),
        size_bytes INTEGER NOT NULL,
        entry_count INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX layers_by_parent ON layers (parent_chain_id);
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images (image_id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        chain_id TEXT NOT NULL REFERENCES layers (chain_id),
        blob_digest TEXT,
        blob_media_type TEXT NOT NULL,
        blob_size_bytes INTEGER NOT NULL,
        PRIMARY KEY (image_id, position)
    ) STRICT;
    CREATE INDEX image_layers_by_chain ON image_layers (chain_id);
    CREATE TABLE tags (
        name TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images (image_id) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX tags_by_image ON tags (image_id);
    CREATE TABLE containers (
        container_id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image_id TEXT NOT NULL,
        image_name TEXT NOT NULL,
        chain_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        is_removed_on_exit INTEGER NOT NULL,
        config TEXT NOT NULL
    ) STRICT;
    CREATE INDEX containers_by_image ON containers (image_id);
    """,
    # 2: limits of a container are a record of their own.
    """
    UPDATE containers SET config = json_set(
        json_remove(config, '$.memory_bytes', '$.cpu_count', '$.pids'),
        '$.limits',
        json_object(
            'memory_bytes', json_extract(config, '$.memory_bytes'),
            'cpu_count', json_extract(config, '$.cpu_count'),
            'pids', json_extract(config, '$.pids')
        )
    ) WHERE json_extract(config, '$.limits') IS NULL
    """,
    # 3: volumes, and which container has which.
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        created_at REAL NOT NULL,
        is_anonymous INTEGER NOT NULL,
        labels TEXT NOT NULL
    ) STRICT;
    CREATE TABLE container_volumes (
        container_id TEXT NOT NULL REFERENCES containers (container_id) ON DELETE CASCADE,
        volume_name TEXT NOT NULL REFERENCES volumes (name),
        PRIMARY KEY (container_id, volume_name)
    ) STRICT;
    CREATE INDEX container_volumes_by_volume ON container_volumes (volume_name);
    """,
    # 4: what work in progress counts on, by the name of its place in staging; what a check found.
    """
    CREATE TABLE claims (
        holder TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (holder, digest)
    ) STRICT;
    CREATE INDEX claims_by_digest ON claims (digest);
    CREATE TABLE damaged_layers (
        chain_id TEXT PRIMARY KEY REFERENCES layers (chain_id) ON DELETE CASCADE
    ) STRICT;
    """,
    # 5: what registries call images, which may be the digest of an index above the manifest.
    """
    CREATE TABLE repository_digests (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images (image_id) ON DELETE CASCADE,
        PRIMARY KEY (repository, digest)
    ) STRICT;
    CREATE INDEX repository_digests_by_image ON repository_digests (image_id);
    """,
    # 6: networks, and the addresses that containers have in them.
    """
    CREATE TABLE networks (
        network_id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        subnets TEXT NOT NULL,
        config TEXT NOT NULL
    ) STRICT;
    CREATE TABLE network_leases (
        network_id TEXT NOT NULL REFERENCES networks (network_id) ON DELETE CASCADE,
        address TEXT NOT NULL,
        container_id TEXT NOT NULL REFERENCES containers (container_id) ON DELETE CASCADE,
        PRIMARY KEY (network_id, address)
    ) STRICT;
    CREATE INDEX network_leases_by_container ON network_leases (container_id);
    """,
    # 7: steps of builds, layers that may not be on the disk yet, how builds have ended; a lease
    # may be a build's, which has no record.
    """
    CREATE TABLE build_steps (
        step_key TEXT PRIMARY KEY,
        inputs_digest TEXT NOT NULL,
        parent_chain_id TEXT NOT NULL,
        chain_id TEXT REFERENCES layers (chain_id) ON DELETE CASCADE,
        is_empty INTEGER NOT NULL,
        place TEXT NOT NULL,
        text TEXT NOT NULL,
        inputs BLOB NOT NULL,
        created_at REAL NOT NULL,
        used_at REAL NOT NULL,
        use_count INTEGER NOT NULL,
        seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX build_steps_by_content ON build_steps (inputs_digest, parent_chain_id);
    CREATE INDEX build_steps_by_place ON build_steps (place, created_at);
    CREATE INDEX build_steps_by_text ON build_steps (text, created_at);
    CREATE INDEX build_steps_by_chain ON build_steps (chain_id);
    CREATE TABLE unsynced_layers (
        chain_id TEXT PRIMARY KEY REFERENCES layers (chain_id) ON DELETE CASCADE,
        boot_id TEXT NOT NULL
    ) STRICT;
    CREATE TABLE builds (
        build_id TEXT PRIMARY KEY,
        started_at REAL NOT NULL,
        document BLOB NOT NULL
    ) STRICT;
    CREATE INDEX builds_by_time ON builds (started_at);
    CREATE TABLE build_names (
        name TEXT NOT NULL,
        build_id TEXT NOT NULL REFERENCES builds (build_id) ON DELETE CASCADE,
        PRIMARY KEY (name, build_id)
    ) STRICT;
    CREATE INDEX build_names_by_build ON build_names (build_id);
    CREATE TABLE leases (
        network_id TEXT NOT NULL REFERENCES networks (network_id) ON DELETE CASCADE,
        address TEXT NOT NULL,
        container_id TEXT NOT NULL,
        PRIMARY KEY (network_id, address)
    ) STRICT;
    INSERT INTO leases SELECT network_id, address, container_id FROM network_leases;
    DROP TABLE network_leases;
    ALTER TABLE leases RENAME TO network_leases;
    CREATE INDEX network_leases_by_container ON network_leases (container_id);
    """,
)

SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """The number of the last step that a database has had."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(
    connection: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS
) -> tuple[int, int]:
    """Bring a database to the newest shape; returns the version before and after.

    Each step is one transaction, so that a crash leaves a whole version; two processes that open
    at once wait for each other, and the second finds nothing to do. Blocking.
    """
    before = schema_version(connection)
    version = before
    while version < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = schema_version(connection)  # Somebody may have been faster.
            if version < len(migrations):
                for statement in migrations[version].split(";"):
                    if statement.strip():
                        connection.execute(statement)
                version += 1
                connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return before, version
