"""What the tables of a database copy hold, in a form that can be compared: rows and a digest of them per table."""

from __future__ import annotations

import hashlib
import marshal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._sqlite import quoted, tables

if TYPE_CHECKING:
    import sqlite3

# Of all versions the one that writes a value the same way wherever it comes from, and on every Python we run on.
PLAIN = 2


def table_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Return `rows` and `sha256` of every table of a database that nobody writes any more.

    A digest is over the rows in the order of the table's own tree (by rowid, or by primary key where there is none),
    each row as marshal writes its values: indexes, free pages and the page size do not count, and no more than one row
    is in memory at a time.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    import sqlite3  # imported late: most calls never open a database

    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        return {name: table_digest(connection, name) for name in tables(connection)}
    finally:
        connection.close()


def table_digest(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return `rows` and `sha256` of one table."""
    import sqlite3  # imported late, as above

    try:
        return _digest(connection, name)
    except sqlite3.OperationalError:
        # Text that is no UTF-8 is no reason to leave a table without a digest; it is only slower to read this way.
        connection.text_factory = _text
        return _digest(connection, name)
    finally:
        connection.text_factory = str


def _digest(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    update, dumps, count = digest.update, marshal.dumps, 0
    for row in connection.execute(f"SELECT * FROM {quoted(name)} NOT INDEXED"):
        update(dumps(row, PLAIN))
        count += 1
    return {"rows": count, "sha256": digest.hexdigest()}


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
