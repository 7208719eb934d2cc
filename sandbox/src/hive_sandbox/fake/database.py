"""lightningd.sqlite3: the state that outlives the process, and the version number that grows with every change."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import StartError

FILE = "lightningd.sqlite3"

# Names and columns of version, vars and db_upgrades are lightningd's; the rest holds what the fake needs.
_TABLES = """
CREATE TABLE version (version INTEGER);
CREATE TABLE db_upgrades (upgrade_from INTEGER, lightning_version TEXT);
CREATE TABLE vars (name VARCHAR(32), val VARCHAR(255), intval INTEGER, blobval BLOB, PRIMARY KEY (name));
CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash TEXT);
CREATE TABLE datastore (key BLOB PRIMARY KEY, data BLOB, generation INTEGER);
CREATE TABLE runes (id INTEGER PRIMARY KEY, rune TEXT);
CREATE TABLE runes_blacklist (start_index INTEGER, end_index INTEGER);
CREATE TABLE peers (node_id TEXT PRIMARY KEY, address TEXT);
CREATE TABLE outputs (txid TEXT, outnum INTEGER, document TEXT, PRIMARY KEY (txid, outnum));
CREATE TABLE channels (channel_id TEXT PRIMARY KEY, document TEXT);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, payment_hash TEXT UNIQUE, label TEXT UNIQUE, document TEXT);
CREATE TABLE offers (id INTEGER PRIMARY KEY, document TEXT);
CREATE TABLE payments (id INTEGER PRIMARY KEY, payment_hash TEXT, document TEXT);
CREATE TABLE forwards (id INTEGER PRIMARY KEY, document TEXT);
"""


class Database:
    """The open database. All writing happens inside `transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    def open(cls, path: Path, version: int, release: str, *, may_upgrade: bool) -> tuple[Database, bool]:
        """Open or create the database; return it and whether it is new.

        Raises:
            StartError: it belongs to a later version, or to an earlier one and must not be upgraded.
        """
        new = not path.exists()
        connection = sqlite3.connect(path, isolation_level=None)
        # Only a power cut could lose what the kernel has not yet written, and a sandbox has none.
        connection.execute("PRAGMA synchronous = OFF")
        database = cls(connection)
        if new:
            connection.executescript("BEGIN;" + _TABLES)
            connection.execute("INSERT INTO version VALUES (?)", (version,))
            connection.execute("INSERT INTO db_upgrades VALUES (-1, ?)", (release,))
            connection.execute("INSERT INTO vars (name, intval) VALUES ('data_version', 0), ('next_pay_index', 1)")
            connection.execute("COMMIT")
            return database, True
        found = connection.execute("SELECT version FROM version").fetchone()[0]
        if found > version:
            raise StartError(f"Refusing to migrate down from version {found} to {version}")
        if found < version and not may_upgrade:
            raise StartError(f"Refusing to upgrade db from version {found} to {version} (database-upgrade=false)")
        if found < version:
            with database.transaction():
                connection.execute("UPDATE version SET version = ?", (version,))
                connection.execute("INSERT INTO db_upgrades VALUES (?, ?)", (found, release))
        return database, False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one change; `data_version` grows by one with it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version'")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(query, values).fetchall()

    def variable(self, name: str) -> tuple[int | None, bytes | None]:
        """Return the number and the bytes kept under a name in `vars`."""
        row = self.connection.execute("SELECT intval, blobval FROM vars WHERE name = ?", (name,)).fetchone()
        return (row[0], row[1]) if row else (None, None)

    def set_variable(self, name: str, *, number: int | None = None, blob: bytes | None = None) -> None:
        """Keep a number or bytes under a name in `vars`."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO vars (name, intval, blobval) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET intval = excluded.intval, blobval = excluded.blobval",
                (name, number, blob),
            )

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
