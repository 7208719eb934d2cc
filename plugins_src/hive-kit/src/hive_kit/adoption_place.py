"""cl-hive goes on with the monolith's own file: the file is brought to our schema, its rows stay as they are.

`fit` decides statement by statement, so that a later migration meets the monolith's tables in the same way.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hive_kit.adoption_record import ADOPTIONS, CREATE_RECORD, IN_PLACE
from hive_kit.adoption_source import Source, TableDigest, row_digest, set_digest
from hive_kit.errors import AdoptionError
from hive_kit.files import PRIVATE_FILE
from hive_kit.migrations import CREATE_BOOKKEEPING, MIGRATIONS_TABLE, Migration
from hive_kit.ownership import table_owners, tables_of
from hive_kit.store import Store

if TYPE_CHECKING:
    from hive_kit.app import PluginSpec

Look = Callable[[str], Sequence[Sequence[Any]]]
_CREATE_TABLE: Final = re.compile(r"\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", re.IGNORECASE)
_CREATE_INDEX: Final = re.compile(
    r"\s*CREATE\s+(UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)\s+ON\s+(\w+)\s*\((.*)", re.IGNORECASE | re.DOTALL
)
_ADD_COLUMN: Final = re.compile(r"\s*ALTER\s+TABLE\s+(\w+)\s+ADD\s+(?:COLUMN\s+)?(\w+)", re.IGNORECASE)
_BUSY_SECONDS: Final = 5.0


def fit(statement: str, look: Look) -> list[str]:
    """What is left to do of one statement of a migration in a file that may have its tables already.

    Args:
        statement: of the migration.
        look: runs a reading statement on the file and gives all rows.

    Raises:
        AdoptionError: a table of that name is there and cannot serve.
    """
    if match := _CREATE_TABLE.match(statement):
        return _fit_table(match[1], statement, look)
    if match := _CREATE_INDEX.match(statement):
        return [] if _has_index(match, look) else [statement]
    if match := _ADD_COLUMN.match(statement):
        return [] if match[2] in {str(row[1]) for row in look(f'PRAGMA table_info("{match[1]}")')} else [statement]
    return [statement]


def adopt_in_place(spec: PluginSpec[Any], path: Path) -> dict[str, Any]:
    """Make the monolith's file one that `Store.open` takes. A file that is ours already stays as it is.

    Returns:
        `source` and `tables` of the answer.

    Raises:
        AdoptionError: the file is missing, damaged, in use, or has a layout that no known release made.
    """
    if not path.is_file():
        raise AdoptionError("no-monolith", f"{path} is missing; name the monolith's cl_hive.db")
    with Source.in_place(path) as source:
        layout = source.layout()
    owned = sorted(tables_of(spec.name))
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        before = _tables(connection)
        _prepare(spec, path, connection, before, layout)
        counts = {name: _count(connection, name) for name in owned if name in _tables(connection)}
    except sqlite3.DatabaseError as error:
        raise AdoptionError(
            "monolith-not-writable", f"{path}: {error}; stop the monolith, look at file and disk, try again"
        ) from error
    finally:
        connection.close()
    path.chmod(PRIVATE_FILE)
    with Store.open(path, spec.name, spec.migrations, spec.version):
        pass  # proves that the next start will take it
    return {
        "source": {"layout": layout, "sha256": set_digest({}), "tables": len(counts)},
        "tables": {
            name: {
                "source": rows,
                "adopted": rows,
                "inserted": 0,
                "updated": 0,
                "deleted": 0,
                "quarantined": 0,
                "digest": "",
            }
            for name, rows in counts.items()
        },
    }


def hand_over(plugin: str, path: Path, adopted: Mapping[str, Any]) -> dict[str, Any]:
    """Drop tables that moved, each only while its rows are those that were adopted; all of them or none.

    Args:
        plugin: who asks: the keeper of the file.
        path: the monolith's file.
        adopted: table -> {"rows": number, "digest": hex} as the adopting plugin said.

    Raises:
        AdoptionError: the file is missing or in use; nothing was dropped.
    """
    if not path.is_file():
        raise AdoptionError("no-monolith", f"{path} is missing; name the monolith's cl_hive.db")
    kept = {name: _reason_to_keep(plugin, name) for name in adopted}
    with Source.in_place(path) as source:
        for name, expected in adopted.items():
            kept[name] = kept[name] or _difference(source, name, expected)
        references = source.references()
    names = sorted(name for name in adopted if not kept[name] and name in source.tables)
    for name in _referenced_by_kept(references, names):
        kept[name] = "a table that stays refers to it"
    drop = [name for name in names if not kept[name]]
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("BEGIN IMMEDIATE")
        for name in drop:
            expected_rows = int(adopted[name]["rows"])
            if _count(connection, name) != expected_rows:
                raise AdoptionError("monolith-in-use", f"{name} changed while it was dropped; stop its writer")
            connection.execute(f"DROP TABLE {name}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.DatabaseError as error:
        raise AdoptionError(
            "monolith-not-writable", f"{path}: {error}; stop what uses the file, look at the disk, try again"
        ) from error
    finally:
        connection.close()
    return {
        "dropped": drop,
        "kept": [{"table": name, "reason": reason} for name, reason in sorted(kept.items()) if reason],
    }


# -- one table --------------------------------------------------------------------------------------------------------


def _fit_table(table: str, statement: str, look: Look) -> list[str]:
    found = look(f'PRAGMA table_info("{table}")')
    if not found:
        return [statement]
    model = sqlite3.connect(":memory:")
    try:
        model.execute(statement)
        wanted = model.execute(f'PRAGMA table_info("{table}")').fetchall()
        uniques = _uniques(table, lambda sql: model.execute(sql).fetchall())
    finally:
        model.close()
    there = {str(row[1]): row for row in found}
    for row in wanted:
        if str(row[1]) in there:
            _check_column(table, row, there[str(row[1])])
    additions = [_addition(table, row) for row in wanted if str(row[1]) not in there]
    known = {str(row[1]) for row in wanted}
    for row in found:
        if str(row[1]) not in known and row[3] and row[4] is None and not row[5]:
            raise _unknown(table, f"its column {row[1]} must have a value and is none of ours")
    if _uniques(table, look) != uniques:
        raise _unknown(table, "its rows are unique in another way")
    return additions


def _addition(table: str, row: Sequence[Any]) -> str:
    """The statement that adds a missing column; every release of the monolith adds its own in this way."""
    _, name, kind, required, default, key = row
    if key or (required and default is None) or (default is not None and "(" in str(default)):
        raise _unknown(table, f"it lacks {name}, which cannot be added")
    constraint = (" NOT NULL" if required else "") + ("" if default is None else f" DEFAULT {default}")
    return f"ALTER TABLE {table} ADD COLUMN {name} {kind}{constraint}"


def _check_column(table: str, wanted: Sequence[Any], found: Sequence[Any]) -> None:
    if _affinity(str(wanted[2])) != _affinity(str(found[2])):
        raise _unknown(table, f"its column {found[1]} is {found[2]} instead of {wanted[2]}")
    if wanted[5] != found[5]:
        raise _unknown(table, f"its primary key is another ({found[1]})")
    if found[3] and not wanted[3] and found[4] is None and not found[5]:
        raise _unknown(table, f"its column {found[1]} must have a value, which ours does not always give")


def _affinity(kind: str) -> str:
    """SQLite's own rule, https://www.sqlite.org/datatype3.html section 3.1."""
    upper = kind.upper()
    for affinity, parts in (
        ("INTEGER", ("INT",)),
        ("TEXT", ("CHAR", "CLOB", "TEXT")),
        ("BLOB", ("BLOB",)),
        ("REAL", ("REAL", "FLOA", "DOUB")),
    ):
        if any(part in upper for part in parts):
            return affinity
    return "NUMERIC" if upper else "BLOB"


def _uniques(table: str, look: Look) -> set[tuple[str, ...]]:
    """The column sets that must be unique, besides the primary key."""
    return {
        tuple(str(column[2]) for column in look(f'PRAGMA index_info("{row[1]}")'))
        for row in look(f'PRAGMA index_list("{table}")')
        if row[2] and row[3] != "pk"
    }


def _has_index(match: re.Match[str], look: Look) -> bool:
    table, terms = match[3], _folded(match[4])
    for name, sql in look(f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = '{table}'"):
        there = _CREATE_INDEX.match(str(sql)) if sql else None
        if there is not None and bool(there[1]) == bool(match[1]) and _folded(there[4]) == terms:
            return True
        if name == match[2]:
            raise _unknown(table, f"its index {name} is another than ours")
    return False


def _folded(terms: str) -> str:
    return "".join(terms.split()).lower()


def _unknown(table: str, what: str) -> AdoptionError:
    return AdoptionError(
        "layout-unknown",
        f"{table} was made by no release that is known: {what}; start release 2.10.0 of the monolith once, which "
        "brings its tables up to date, and adopt then",
    )


# -- the file ---------------------------------------------------------------------------------------------------------


def _prepare(
    spec: PluginSpec[Any], path: Path, connection: sqlite3.Connection, tables: frozenset[str], layout: str
) -> None:
    if MIGRATIONS_TABLE in tables:
        return
    findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise AdoptionError("snapshot-damaged", f"{path} is damaged ({findings[0]}); repair it or take a backup")
    now = int(time.time())
    connection.execute("BEGIN IMMEDIATE")
    for statement in (CREATE_BOOKKEEPING, *CREATE_RECORD):
        connection.execute(statement)
    for migration in spec.migrations:
        _satisfy(spec, connection, migration, now)
    connection.execute(
        f"INSERT INTO {ADOPTIONS} (table_name, layout, source_rows, source_digest, final, adopted_at) "
        "VALUES (?, ?, 0, '', 1, ?)",
        (IN_PLACE, layout, now),
    )
    connection.execute(f"PRAGMA user_version = {spec.migrations[-1].version:d}")
    connection.execute("COMMIT")


def _satisfy(spec: PluginSpec[Any], connection: sqlite3.Connection, migration: Migration, now: int) -> None:
    """Do what a migration asks for as far as it is not there, and record that it ran."""
    for statement in migration.statements:
        for step in fit(statement, lambda sql: connection.execute(sql).fetchall()):
            connection.execute(step)
    connection.execute(
        f"INSERT INTO {MIGRATIONS_TABLE} VALUES (?, ?, ?, ?, ?, ?)",
        (migration.version, migration.name, migration.digest, migration.readable_by, spec.version, now),
    )


def _tables(connection: sqlite3.Connection) -> frozenset[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return frozenset(str(row[0]) for row in rows)


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])


def _reason_to_keep(plugin: str, table: str) -> str:
    owner = table_owners().get(table)
    if owner is None:
        return "nobody owns a table of that name"
    return f"it belongs to {plugin}" if owner == plugin else ""


def _difference(source: Source, table: str, expected: Any) -> str:
    if not isinstance(expected, dict) or not isinstance(expected.get("rows"), int):
        raise AdoptionError("bad-request", f"{table} comes without rows and digest")
    if table not in source.tables:
        return "it is not there"
    digest, rows = TableDigest(), 0
    for batch in source.rows(table, source.columns(table)):
        rows += len(batch)
        digest.add_all(row_digest(row) for _, row in batch)
    if (rows, digest.hex()) == (expected["rows"], expected.get("digest")):
        return ""
    return (
        f"its {rows} rows are not the {expected['rows']} that were adopted, so somebody has written to it since; look "
        "what is missing in its new owner"
    )


def _referenced_by_kept(references: Mapping[str, frozenset[str]], drop: Sequence[str]) -> list[str]:
    """Of the tables to drop, those that a table which stays refers to; and what these refer to."""
    kept: set[str] = set()
    while more := {
        name
        for name in drop
        if name not in kept
        for other in references
        if name in references[other] and (other not in drop or other in kept)
    }:
        kept |= more
    return sorted(kept)
