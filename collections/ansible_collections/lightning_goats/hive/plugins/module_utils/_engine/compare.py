"""What a database has that another one has not: row by row, read-only, and quick where little has changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._sqlite import open_read_only, quoted, tables
from .errors import HiveError
from .files import Owner

if TYPE_CHECKING:
    import sqlite3

Difference = dict[str, dict[str, int]]


def differences(present: Path, older: Path, owner: Owner) -> Difference:
    """Return, per table, what putting an older copy in the place of the present database does to its rows.

    `now` and `then` are how many there are; `lost` those that are there now and not in the copy, or are different
    there; `back` those of the copy that are not there now. An empty answer means that the present one cannot be read.
    """
    import sqlite3  # imported late: most calls never open a database

    try:
        connection = open_read_only(present, owner)
    except HiveError:
        return {}
    try:
        connection.execute("ATTACH ? AS older", (f"{older.as_uri()}?mode=ro&immutable=1",))
        connection.execute("BEGIN")
        here, there = set(tables(connection)), set(tables(connection, "older"))
        return {name: _difference(connection, name, here, there) for name in sorted(here | there)}
    except sqlite3.DatabaseError:
        return {}
    finally:
        connection.close()


def lost_values(present: Path, older: Path, owner: Owner, table: str, column: str, limit: int = 5) -> list[str]:
    """Return the newest values of a column that the present database has and the copy has not; none when unreadable."""
    import sqlite3  # imported late, as above

    try:
        connection = open_read_only(present, owner)
    except HiveError:
        return []
    try:
        connection.execute("ATTACH ? AS older", (f"{older.as_uri()}?mode=ro&immutable=1",))
        name, value = quoted(table), quoted(column)
        query = f"SELECT {value} FROM main.{name}"
        if table in tables(connection, "older"):
            query += f" EXCEPT SELECT {value} FROM older.{name}"
        return [str(row[0]) for row in connection.execute(f"{query} ORDER BY 1 DESC LIMIT {int(limit)}")]
    except sqlite3.DatabaseError:
        return []
    finally:
        connection.close()


def _difference(connection: sqlite3.Connection, name: str, here: set[str], there: set[str]) -> dict[str, int]:
    table = quoted(name)
    now = _count(connection, f"SELECT count(*) FROM main.{table}") if name in here else 0
    then = _count(connection, f"SELECT count(*) FROM older.{table}") if name in there else 0
    if name not in here or name not in there:
        return {"now": now, "then": then, "lost": now, "back": then}
    mine, theirs = _columns(connection, "main", name), _columns(connection, "older", name)
    shared = [column for column in mine if column in theirs]
    lost = _only_in(connection, "main", "older", name, shared)
    if set(mine) - set(theirs):
        # Values of columns that the copy does not know cannot come back, whatever the rest of the row says.
        lost = now
    return {"now": now, "then": then, "lost": lost, "back": _only_in(connection, "older", "main", name, shared)}


def _only_in(connection: sqlite3.Connection, this: str, other: str, name: str, columns: list[str]) -> int:
    """Return how many rows of a table only one side has.

    A copy keeps the row numbers, so nearly all rows are found by theirs; only the rest is compared by content.
    """
    table, listed = quoted(name), ", ".join(quoted(column) for column in columns)
    here, there = f"{this}.{table}", f"{other}.{table}"
    if not columns:
        return _count(connection, f"SELECT count(*) FROM {here}")
    moved = f"SELECT {listed} FROM {here}"
    if _numbered(connection, this, name) and _numbered(connection, other, name):
        same = " AND ".join(f"t.{quoted(column)} IS h.{quoted(column)}" for column in columns)
        listed_here = ", ".join(f"h.{quoted(column)}" for column in columns)
        moved = (
            f"SELECT {listed_here} FROM {here} AS h WHERE NOT EXISTS "
            f"(SELECT 1 FROM {there} AS t WHERE t.rowid = h.rowid AND {same})"
        )
        if connection.execute(f"SELECT 1 FROM ({moved}) LIMIT 1").fetchone() is None:
            return 0
    found = _count(connection, f"SELECT count(*) FROM ({moved} EXCEPT SELECT {listed} FROM {there})")
    # Rows that are equal to each other count once above, and each of them is a row.
    more = _count(connection, f"SELECT (SELECT count(*) FROM {here}) - (SELECT count(*) FROM {there})")
    return max(found, more)


def _columns(connection: sqlite3.Connection, schema: str, name: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA {schema}.table_info({quoted(name)})")]


def _numbered(connection: sqlite3.Connection, schema: str, name: str) -> bool:
    """Whether a table has row numbers; one made WITHOUT ROWID, or with a column of that name, has none to rely on."""
    if "rowid" in [column.lower() for column in _columns(connection, schema, name)]:
        return False
    row = connection.execute(
        f"SELECT sql FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?", (name,)
    ).fetchone()
    return row is not None and "WITHOUT ROWID" not in " ".join(str(row[0]).upper().split())


def _count(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
