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
from typing import Any, Final

from hive_kit.adoption import AdoptionError, MovedTable, Mover, Row, problem_of
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
)
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


@dataclass(frozen=True)
class Found:
    """A row of the snapshot. `problem` is empty when it is valid."""

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
        store.execute(f"DELETE FROM {QUARANTINE} WHERE table_name = ?", (self.table,))

    def now(self) -> int:
        """Unix time in whole seconds, one for the whole pass."""
        return self._time

    # -- the snapshot --------------------------------------------------------------------------------------------------

    def found(self, tally: Tally, order: Sequence[str] = ()) -> Iterator[list[Found]]:
        """All rows of the snapshot in batches, counted and checked; the invalid ones are in quarantine already.

        Args:
            order: columns to sort by; none for the order in which they were written.
        """
        if self.table not in self.source.tables:
            return
        columns = self.source.check_columns(self._mover)
        places = [columns.index(name) for name in self._mover.key]
        for batch in self.source.rows(self.table, columns, order):
            rows = [self._check(columns, places, number, row) for number, row in batch]
            tally.source += len(rows)
            for found in rows:
                tally.digest.add(found.digest)
            self.quarantine(tally, [(found.text, found.problem, found.row) for found in rows if found.problem])
            yield rows

    def _check(self, columns: Sequence[str], places: Sequence[int], number: int, row: Row) -> Found:
        key = tuple(row[place] for place in places)
        encoded = row_text(row)
        problem = self._problem(columns, row, encoded)
        # A key that is NULL or no text names nothing.
        sound = all(isinstance(value, str) and "\0" not in value for value in key) and not _broken(encoded, row)
        text = key_text(key) if sound else f"rowid:{number}"
        if not sound and not problem:
            problem = "its key is not text"
        return Found(key, text, row, row_digest(row), problem)

    def _problem(self, columns: Sequence[str], row: Row, encoded: str) -> str:
        if _broken(encoded, row):
            return "holds text that is not UTF-8"
        return problem_of(self._mover.columns, dict(zip(columns, row, strict=True)))

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


def _broken(encoded: str, row: Row) -> bool:
    if "\\udc" not in encoded:
        return False
    return any(isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value) for value in row)


# -- tables that are copied as they are -------------------------------------------------------------------------------


def copy_table(mover: MovedTable, work: Pass) -> Tally:
    """One pass over a table that exists here with the same columns."""
    tally, seen = Tally(), 0
    columns = work.source.columns(mover.table)
    here = _Here(mover, work.store, columns)
    empty = not work.known and not here.count()
    for batch in work.found(tally):
        basis = work.basis([found.text for found in batch])
        seen += len(basis)
        fresh = [f for f in batch if not f.problem and basis.get(f.text) != f.digest[:BASIS_BYTES]]
        ours = {} if empty or not fresh else here.rows([found.key for found in fresh])
        _bring(work, tally, here, fresh, basis, ours)
    if seen < work.known:
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
    present = work.table in work.source.tables
    for page in work.basis_pages():
        keys = {text: key_of(text, len(mover.key)) for text in page}
        there = work.source.by_key(mover.table, mover.key, (), list(keys.values())) if present else {}
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
