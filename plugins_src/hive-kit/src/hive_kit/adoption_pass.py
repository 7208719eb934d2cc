"""One pass over the snapshot: rows that are new, changed or gone since the pass before, compared with what is here.

Of every row three versions matter: the snapshot's, the one that was taken before (its digest is the basis) and the
plugin's own. Where only the monolith changed a row, ours follows; where only the plugin did, ours stays; where both
did, ours stays and the monolith's goes into quarantine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hive_kit.adoption import MovedTable, Mover, Row
from hive_kit.adoption_record import ADOPTIONS, BASIS, QUARANTINE
from hive_kit.adoption_source import (
    BASIS_BYTES,
    BATCH,
    Source,
    TableDigest,
    key_text,
    row_digest,
    row_text,
    select_by_key,
    text_digest,
)
from hive_kit.errors import AdoptionError
from hive_kit.store import Store

OWN_ROW: Final = "the plugin has another row of its own under this key, which stays"
BOTH_CHANGED: Final = "changed by the monolith and by the plugin, whose version stays"
BOTH_DELETED: Final = "changed by the monolith, deleted by the plugin, so it stays deleted"
GONE: Final = "deleted by the monolith, changed by the plugin, so it stays"


@dataclass(frozen=True)
class Request:
    """What `--hive-adopt` is asked.

    Args:
        node_id, network: of the node that both databases belong to.
        signatures: message -> zbase signature by the node. Secret.
        identity: refuse, monolith or present: whose Nostr identity stays when both have one.
        final: the monolith has stopped, so this snapshot is the last.
    """

    node_id: str
    network: str
    signatures: Mapping[str, str] = field(repr=False)
    identity: str = "refuse"
    final: bool = False


@dataclass
class Tally:
    """What a pass did with one table. `adopted` counts the rows that are here from it, before and now."""

    source: int = 0
    adopted: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    quarantined: int = 0
    digest: TableDigest = field(default_factory=TableDigest)

    def describe(self) -> dict[str, Any]:
        """Its part of the answer."""
        counts = ("source", "adopted", "inserted", "updated", "deleted", "quarantined")
        return {**{name: getattr(self, name) for name in counts}, "digest": self.digest.hex()}


class Found(NamedTuple):
    """A row of the snapshot that is new or changed. `problem` is empty when it is valid."""

    key: Row
    text: str
    row: Row
    digest: bytes
    problem: str


class Pass:
    """The work on one table: snapshot, database and what was taken before."""

    def __init__(self, store: Store, source: Source, request: Request, mover: Mover, layout: str) -> None:
        self.store = store
        self.source = source
        self.request = request
        self.table = mover.table
        self.identity: dict[str, str] | None = None
        self._mover = mover
        self._time = int(time.time())
        self._id = int(
            store.value(f"SELECT adoption_id FROM {ADOPTIONS} WHERE table_name = ?", (self.table,))
            or store.insert(
                f"INSERT INTO {ADOPTIONS} (table_name, layout, source_rows, source_digest, final, adopted_at) "
                "VALUES (?, ?, 0, '', 0, ?)",
                (self.table, layout, self._time),
            )
        )
        self._layout = layout
        self.known = self.basis_count()
        self.met = 0
        store.execute(f"DELETE FROM {QUARANTINE} WHERE table_name = ?", (self.table,))

    def now(self) -> int:
        """Unix time in whole seconds, one for the whole pass."""
        return self._time

    # -- the snapshot --------------------------------------------------------------------------------------------------

    def found(
        self, tally: Tally, order: Sequence[str] = (), unchanged: bool = False
    ) -> Iterator[tuple[list[Found], dict[str, bytes]]]:
        """The rows of the snapshot in batches: those that are not as they were taken, and the basis of the batch.

        All are counted; the new and changed ones are checked, and the invalid of them are in quarantine already.

        Args:
            order: columns to sort by; none for the order in which they were written.
            unchanged: give those as well that are as they were taken.
        """
        if self.table not in self.source.tables:
            return
        columns = self.source.check_columns(self._mover)
        self.source.check_integrity(self.table)
        check = RowCheck(self._mover, columns)
        for batch in self.source.rows(self.table, columns, order):
            tally.source += len(batch)
            read = [check.read(number, row) for number, row in batch]
            tally.digest.add_all([one.digest for one in read])
            basis = self.basis([one.text for one in read])
            self.met += len(basis)
            changed = [one for one in read if unchanged or basis.get(one.text) != one.digest[:BASIS_BYTES]]
            fresh = [
                one._replace(problem=problem) if not one.problem and (problem := check.problem(one.row)) else one
                for one in changed
            ]
            self.quarantine(tally, [(one.text, one.problem, one.row) for one in fresh if one.problem])
            yield fresh, basis

    # -- the record ----------------------------------------------------------------------------------------------------

    def quarantine(self, tally: Tally, rows: Iterable[tuple[str, str, Row | None]]) -> None:
        """Put rows aside: key, reason, the row (None when there is none to keep)."""
        columns = self.source.columns(self.table)
        entries = [
            (
                self.table,
                text,
                reason,
                "null"
                if row is None or text in self._mover.secret_keys
                else row_text(dict(zip(columns, row, strict=True))),
                self._time,
            )
            for text, reason, row in rows
        ]
        tally.quarantined += len(entries)
        self.store.execute_many(f"INSERT OR REPLACE INTO {QUARANTINE} VALUES (?, ?, ?, ?, ?)", entries)

    def basis(self, texts: Sequence[str]) -> dict[str, bytes]:
        """Key -> what the row was when it was taken, for those that were."""
        if not self.known or not texts:
            return {}
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

    def remember(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Write down what rows are now: key and digest."""
        self.store.execute_many(
            f"INSERT INTO {BASIS} VALUES (?, ?, ?) "
            "ON CONFLICT (adoption_id, row_key) DO UPDATE SET digest = excluded.digest",
            [(self._id, text, digest[:BASIS_BYTES]) for text, digest in rows],
        )

    def forget(self, texts: Iterable[str]) -> None:
        """Rows that nobody has any more."""
        self.store.execute_many(
            f"DELETE FROM {BASIS} WHERE adoption_id = ? AND row_key = ?", [(self._id, text) for text in texts]
        )

    def basis_count(self) -> int:
        """How many rows were taken."""
        return int(self.store.value(f"SELECT count(*) FROM {BASIS} WHERE adoption_id = ?", (self._id,)))

    @property
    def detail(self) -> str:
        """A note of the table's own mover."""
        return str(self.store.value(f"SELECT detail FROM {ADOPTIONS} WHERE adoption_id = ?", (self._id,)))

    def set_detail(self, detail: str) -> None:
        """Replace the note. Never a secret."""
        self.store.execute(f"UPDATE {ADOPTIONS} SET detail = ? WHERE adoption_id = ?", (detail, self._id))

    def close(self, tally: Tally) -> None:
        """Write the marker of this table."""
        tally.adopted = self.basis_count()
        self.store.execute(
            f"UPDATE {ADOPTIONS} SET layout = ?, source_rows = ?, source_digest = ?, final = ?, adopted_at = ? "
            "WHERE adoption_id = ?",
            (self._layout, tally.source, tally.digest.hex(), int(self.request.final), self._time, self._id),
        )


class RowCheck:
    """Looks at the rows of one table; made for the order of columns that the snapshot has."""

    def __init__(self, mover: Mover, columns: Sequence[str]) -> None:
        by_name = {column.name: column for column in mover.columns}
        self._columns = [by_name[name] for name in columns]
        self._places = [columns.index(name) for name in mover.key]

    def read(self, number: int, row: Row) -> Found:
        """A row with its digest and key; its problem is only what makes it have no key."""
        encoded = row_text(row)
        key = tuple([row[place] for place in self._places])
        problem = ""
        if "\\udc" in encoded and _broken(row):
            problem = "holds text that is not UTF-8"
        for place, value in zip(self._places, key, strict=True):
            if not isinstance(value, str) or "\0" in value:
                problem = problem or self._columns[place].problem(value) or "its key holds a NUL"
        text = f"rowid:{number}" if problem else key_text(key)
        return Found(key, text, row, text_digest(encoded), problem)

    def problem(self, row: Row) -> str:
        """What is wrong with its values; "" for nothing."""
        for column, value in zip(self._columns, row, strict=True):
            # A million rows come by: only a value that is not plainly good is looked at in full.
            if value.__class__ is column.python and (column.check is None or not column.check(value)):
                continue
            if problem := column.problem(value):
                return problem
        return ""


def _broken(row: Row) -> bool:
    return any(isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value) for value in row)


# -- tables that are copied as they are -------------------------------------------------------------------------------


def copy_table(mover: MovedTable, work: Pass) -> Tally:
    """One pass over a table that exists here with the same columns."""
    tally = Tally()
    columns = work.source.columns(mover.table)
    here = _Here(mover, work.store, columns)
    empty = not work.known and not here.count()
    for batch, basis in work.found(tally):
        fresh = [found for found in batch if not found.problem]
        ours = {} if empty or not fresh else here.rows([found.key for found in fresh])
        _bring(work, tally, here, fresh, basis, ours)
    # A table that is not there any more was handed over: that deletes no row.
    if work.met < work.known and mover.table in work.source.tables:
        _delete(mover, work, tally, here)
    return tally


class _Here:
    """The plugin's table of the same name."""

    def __init__(self, mover: MovedTable, store: Store, columns: Sequence[str]) -> None:
        self._table = mover.table
        self._key = mover.key
        self._columns = tuple(columns) or tuple(column.name for column in mover.columns)
        self._store = store

    def count(self) -> int:
        return int(self._store.value(f"SELECT count(*) FROM {self._table}"))

    def rows(self, keys: Sequence[Row]) -> dict[str, Row]:
        if not keys:
            return {}
        width = len(self._key)
        statement = select_by_key(self._table, self._key, self._columns, len(keys))
        rows = self._store.query(statement, [value for key in keys for value in key])
        return {key_text(tuple(row)[:width]): tuple(row)[width:] for row in rows}

    def write(self, rows: Sequence[Row]) -> None:
        """Insert or replace, and read again: what is not there as it was given is an error."""
        names, marks = ", ".join(self._columns), ", ".join("?" * len(self._columns))
        rest = [name for name in self._columns if name not in self._key]
        changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
        self._store.execute_many(
            f"INSERT INTO {self._table} ({names}) VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(self._key)}) DO UPDATE SET {changes}",
            rows,
        )

    def check(self, found: Sequence[Found]) -> None:
        written = self.rows([one.key for one in found])
        for one in found:
            if written.get(one.text) != one.row:
                raise AdoptionError(
                    "verify-failed", f"{self._table} {one.text} is not here as it was read; nothing was kept, try again"
                )

    def delete(self, keys: Sequence[Row]) -> None:
        where = " AND ".join(f"{name} = ?" for name in self._key)
        self._store.execute_many(f"DELETE FROM {self._table} WHERE {where}", keys)


def _bring(
    work: Pass,
    tally: Tally,
    here: _Here,
    fresh: Sequence[Found],
    basis: Mapping[str, bytes],
    ours: Mapping[str, Row],
) -> None:
    write, same, conflicts = [], [], []
    for found in fresh:
        before, own = basis.get(found.text), ours.get(found.text)
        if own == found.row:
            same.append(found)
        elif before is None and own is None:
            write.append(found)
            tally.inserted += 1
        elif before is not None and own is not None and row_digest(own)[:BASIS_BYTES] == before:
            write.append(found)
            tally.updated += 1
        else:
            reason = OWN_ROW if before is None else BOTH_CHANGED if own is not None else BOTH_DELETED
            conflicts.append((found.text, reason, found.row))
    if write:
        here.write([found.row for found in write])
        here.check(write)
    if conflicts:
        work.quarantine(tally, conflicts)
    if write or same:
        work.remember([(found.text, found.digest) for found in (*write, *same)])


def _delete(mover: MovedTable, work: Pass, tally: Tally, here: _Here) -> None:
    """Rows that were taken before and are not in the snapshot any more."""
    for page in work.basis_pages():
        keys = {text: key_of(text, len(mover.key)) for text in page}
        there = work.source.by_key(mover.table, mover.key, (), list(keys.values()))
        gone = {text: key for text, key in keys.items() if text not in there}
        ours = here.rows(list(gone.values()))
        kept = [text for text in gone if text in ours and row_digest(ours[text])[:BASIS_BYTES] != page[text]]
        work.quarantine(tally, [(text, GONE, None) for text in kept])
        drop = [text for text in gone if text not in kept]
        here.delete([gone[text] for text in drop])
        work.forget(drop)
        tally.deleted += sum(text in ours for text in drop)


def key_of(text: str, width: int) -> Row:
    """The values of a primary key from their one text."""
    return (text,) if width == 1 else tuple(json.loads(text))
