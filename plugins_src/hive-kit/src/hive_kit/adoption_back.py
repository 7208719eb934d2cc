"""The way back: what the plugin changed since adoption is written into the monolith's tables.

The monolith's file is committed first; then the plugin's record says that both agree on these rows, so that a later
adoption knows who changed them. Killed in between, the next run finds the rows equal and only writes the record.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from hive_kit.adoption import MovedTable, Row
from hive_kit.adoption_pass import Request, key_of
from hive_kit.adoption_record import ADOPTIONS, BASIS
from hive_kit.adoption_source import BASIS_BYTES, BATCH, decode_text, key_text, row_digest, select_by_key
from hive_kit.errors import AdoptionError
from hive_kit.store import Store

T = TypeVar("T")
NO_TABLE: Final = "the monolith has no such table"
BOTH_CHANGED: Final = "changed here and by the monolith since adoption; the monolith's version stays"
NOT_ADOPTED: Final = "was never adopted from the monolith"
_BUSY_SECONDS: Final = 5.0
_WRITES: Final = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_READS: Final = frozenset(
    {
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)


@dataclass
class BackTally:
    """What was written into one table of the monolith, and what could not be, by reason."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def describe(self) -> dict[str, int]:
        """Its part of the answer."""
        return {"inserted": self.inserted, "updated": self.updated, "deleted": self.deleted}

    def leave(self, reason: str, rows: int = 1) -> None:
        """Rows that stay behind."""
        if rows:
            self.left[reason] = self.left.get(reason, 0) + rows


class Monolith:
    """cl_hive.db, to be written; only in the tables that were adopted. Use as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection, tables: Iterable[str]) -> None:
        self.path = path
        self._connection = connection
        connection.text_factory = decode_text  # a row that was put aside for its text must not bar the way back
        self._writable = frozenset(tables)
        self.tables = frozenset(
            str(row[0]) for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")
        )
        self._columns = {table: self._columns_of(table) for table in self._writable & self.tables}
        connection.execute("PRAGMA foreign_keys=ON")
        connection.set_authorizer(self._authorize)

    @classmethod
    def open(cls, path: Path, tables: Iterable[str]) -> Self:
        """Open the monolith's file, which nobody else may have open for writing.

        Raises:
            AdoptionError: it is missing or no database.
        """
        if not path.is_file():
            raise AdoptionError("no-monolith", f"{path} is missing; name the monolith's cl_hive.db")
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
        )
        return cls(path, connection, tables)

    def columns(self, table: str) -> tuple[str, ...]:
        """The columns of a table in their order; empty when it does not exist."""
        return self._columns.get(table, ())

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a SELECT."""
        return self._guarded(lambda: self._connection.execute(sql, parameters).fetchall())

    def write(self, sql: str, rows: Sequence[Row]) -> None:
        """Run one writing statement for each row."""
        self._guarded(lambda: self._connection.executemany(sql, rows))

    def begin(self) -> None:
        """Nobody else writes from here to the end; leaving without `commit` undoes everything."""
        self._guarded(lambda: self._connection.execute("BEGIN IMMEDIATE"))

    def commit(self) -> None:
        """Keep what was written."""
        self._guarded(lambda: self._connection.execute("COMMIT"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.close()

    def _columns_of(self, table: str) -> tuple[str, ...]:
        return tuple(str(row[1]) for row in self.query(f'PRAGMA table_info("{table}")'))

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.DatabaseError as error:
            raise AdoptionError(
                "monolith-not-writable", f"{self.path}: {error}; stop the monolith, look at file and disk, try again"
            ) from error

    def _authorize(self, action: int, first: str | None, *_: str | None) -> int:
        allowed = action in _READS or (action in _WRITES and first in self._writable)
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


class Back:
    """The work on one table: the plugin's database, what was taken then, and the monolith's file."""

    def __init__(self, store: Store, monolith: Monolith, request: Request, table: str) -> None:
        self.store = store
        self.monolith = monolith
        self.request = request
        self.table = table
        self.now = int(time.time())
        row = store.one(f"SELECT adoption_id, detail FROM {ADOPTIONS} WHERE table_name = ?", (table,))
        self.adopted = row is not None
        self.detail = "" if row is None else str(row["detail"])
        self._id = -1 if row is None else int(row["adoption_id"])
        self._agreed: list[tuple[str, bytes]] = []
        self._gone: list[str] = []

    def agree(self, text: str, digest: bytes) -> None:
        """A row is, or will be, the same in both."""
        self._agreed.append((text, digest[:BASIS_BYTES]))

    def gone(self, texts: Iterable[str]) -> None:
        """Rows that neither has, or will have."""
        self._gone.extend(texts)

    def record(self) -> None:
        """Write down what was agreed; after the monolith's file was committed."""
        if self.adopted:
            self.store.execute_many(
                f"INSERT INTO {BASIS} VALUES (?, ?, ?) "
                "ON CONFLICT (adoption_id, row_key) DO UPDATE SET digest = excluded.digest",
                [(self._id, text, digest) for text, digest in self._agreed],
            )
            self.store.execute_many(
                f"DELETE FROM {BASIS} WHERE adoption_id = ? AND row_key = ?", [(self._id, text) for text in self._gone]
            )
            self.store.execute(f"UPDATE {ADOPTIONS} SET detail = ? WHERE adoption_id = ?", (self.detail, self._id))

    def basis(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Key -> what the row was when it was taken, for those that were."""
        marks = ", ".join("?" * len(texts))
        rows = self.store.query(
            f"SELECT row_key, digest FROM {BASIS} WHERE adoption_id = ? AND row_key IN ({marks})", (self._id, *texts)
        )
        return {str(row[0]): bytes(row[1]) for row in rows}

    def basis_pages(self) -> Iterator[dict[str, bytes]]:
        """All that was taken, in pages."""
        last = ""
        while rows := self.store.query(
            f"SELECT row_key, digest FROM {BASIS} WHERE adoption_id = ? AND row_key > ? ORDER BY row_key LIMIT {BATCH}",
            (self._id, last),
        ):
            yield {str(row[0]): bytes(row[1]) for row in rows}
            last = str(rows[-1][0])


def give_back_table(mover: MovedTable, back: Back) -> BackTally:
    """Carry one table back that has the same columns in both databases."""
    tally = BackTally()
    columns = back.monolith.columns(mover.table)
    if not back.adopted or not columns:
        count = int(back.store.value(f"SELECT count(*) FROM {mover.table}"))
        tally.leave(NO_TABLE if back.adopted else NOT_ADOPTED, count)
        return tally
    there = _There(mover, back.monolith, columns)
    width = len(mover.key)
    for batch in _pages(back.store, mover, columns):
        rows = {key_text(row[:width]): row for row in batch}
        basis = back.basis(list(rows))
        changed = {text: row for text, row in rows.items() if row_digest(row[width:])[:BASIS_BYTES] != basis.get(text)}
        theirs = there.rows([row[:width] for row in changed.values()])
        _write(back, tally, there, {text: row[width:] for text, row in changed.items()}, basis, theirs)
    for page in back.basis_pages():
        keys = {text: key_of(text, width) for text in page}
        here = {
            key_text(tuple(row))
            for row in back.store.query(
                select_by_key(mover.table, mover.key, (), len(keys)), [v for key in keys.values() for v in key]
            )
        }
        gone = {text: key for text, key in keys.items() if text not in here}
        theirs = there.rows(list(gone.values()))
        drop = [text for text, row in theirs.items() if row_digest(row)[:BASIS_BYTES] == page[text]]
        tally.leave(BOTH_CHANGED, len(theirs) - len(drop))
        there.delete([gone[text] for text in drop])
        back.gone([text for text in gone if text not in theirs or text in drop])
        tally.deleted += len(drop)
    return tally


class _There:
    """The monolith's table of the same name."""

    def __init__(self, mover: MovedTable, monolith: Monolith, columns: Sequence[str]) -> None:
        self._table = mover.table
        self._key = mover.key
        self._columns = columns
        self._monolith = monolith

    def rows(self, keys: Sequence[Row]) -> dict[str, Row]:
        if not keys:
            return {}
        statement = select_by_key(self._table, self._key, self._columns, len(keys))
        width = len(self._key)
        rows = self._monolith.query(statement, [value for key in keys for value in key])
        return {key_text(row[:width]): row[width:] for row in rows}

    def write(self, rows: Sequence[Row]) -> None:
        names, marks = ", ".join(self._columns), ", ".join("?" * len(self._columns))
        changes = ", ".join(f"{name} = excluded.{name}" for name in self._columns if name not in self._key)
        self._monolith.write(
            f"INSERT INTO {self._table} ({names}) VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(self._key)}) DO UPDATE SET {changes}",
            rows,
        )

    def delete(self, keys: Sequence[Row]) -> None:
        where = " AND ".join(f"{name} = ?" for name in self._key)
        self._monolith.write(f"DELETE FROM {self._table} WHERE {where}", keys)


def _pages(store: Store, mover: MovedTable, columns: Sequence[str]) -> Iterator[list[Row]]:
    """The plugin's rows, key first, in pages."""
    last, wanted = -1, ", ".join([*mover.key, *columns])
    while rows := store.query(
        f"SELECT rowid, {wanted} FROM {mover.table} WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}", (last,)
    ):
        yield [tuple(row)[1:] for row in rows]
        last = int(rows[-1][0])


def _write(
    back: Back,
    tally: BackTally,
    there: _There,
    changed: Mapping[str, Row],
    basis: Mapping[str, bytes],
    theirs: Mapping[str, Row],
) -> None:
    write: list[Row] = []
    for text, row in changed.items():
        before, their = basis.get(text), theirs.get(text)
        if their == row:
            back.agree(text, row_digest(row))
            continue
        if their is None and before is None:
            tally.inserted += 1
        elif their is not None and before is not None and row_digest(their)[:BASIS_BYTES] == before:
            tally.updated += 1
        else:
            tally.leave(BOTH_CHANGED)
            continue
        write.append(row)
        back.agree(text, row_digest(row))
    there.write(write)
