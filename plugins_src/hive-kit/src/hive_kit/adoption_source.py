"""Reading the monolith's database: which layout it has, its rows, and digests that prove a copy."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from hive_kit.adoption import Mover, Row
from hive_kit.adoption_record import ADOPTIONS, IN_PLACE
from hive_kit.canonical import canonical_json, sha256_hex
from hive_kit.errors import AdoptionError
from hive_kit.ownership import tables_of

BATCH: Final = 1_000
BASIS_BYTES: Final = 16
_ANY = "hive_members"
_KEEPER = "cl-hive"
# What releases between 2.2.1 and 2.10.0 added; user_version is 0 in all of them.
_ADDED: Final = frozenset(
    {
        "defense_active_fees",
        "defense_warning_reports",
        "did_credentials",
        "did_reputation_cache",
        "escrow_receipts",
        "escrow_secrets",
        "escrow_tickets",
        "fee_observations",
        "liquidity_heartbeats",
        "liquidity_leases",
        "liquidity_offers",
        "management_credentials",
        "management_receipts",
        "marketplace_contracts",
        "marketplace_profiles",
        "marketplace_trials",
        "nostr_state",
        "peer_capabilities",
        "pheromone_levels",
        "proto_events",
        "proto_outbox",
        "remote_pheromones",
        "settlement_bonds",
        "settlement_disputes",
        "settlement_obligations",
        "settlement_sub_payments",
        "stigmergic_markers",
    }
)
_MODULUS: Final = 1 << 256
# Text that is no UTF-8 must not end the reading: such a row goes into quarantine.
decode_text: Callable[[bytes], str] = partial(str, encoding="utf-8", errors="surrogateescape")


def _of_bytes(value: Any) -> str:
    if isinstance(value, bytes):
        return f"blob:{value.hex()}"
    raise TypeError(f"SQLite has no {type(value).__name__}")


row_text: Final = json.JSONEncoder(separators=(",", ":"), default=_of_bytes).encode


def row_digest(row: Row) -> bytes:
    """32 bytes that stand for one row: its values in the order of the table's columns."""
    return text_digest(row_text(row))


def text_digest(encoded: str) -> bytes:
    """`row_digest` of a row that was turned into text already."""
    return blake2b(encoded.encode("ascii"), digest_size=32).digest()


class TableDigest:
    """Digest of a set of rows, whatever their order: a copy by VACUUM or row by row has the same."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, digest: bytes) -> None:
        """One more row."""
        self.add_all((digest,))

    def add_all(self, digests: Iterable[bytes]) -> None:
        """More rows."""
        self._sum = (self._sum + sum([int.from_bytes(digest, "big") for digest in digests])) % _MODULUS

    def hex(self) -> str:
        """64 hex digits; zeros for no rows."""
        return f"{self._sum:064x}"


def key_text(key: Sequence[Any]) -> str:
    """One text for the values of a primary key."""
    return str(key[0]) if len(key) == 1 else row_text(tuple(key))


class Source:
    """cl_hive.db, read-only. Use as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        connection.text_factory = decode_text
        self.tables = frozenset(
            str(row[0]) for row in self._query("SELECT name FROM sqlite_master WHERE type = 'table'")
        )

    @classmethod
    def snapshot(cls, path: Path) -> Self:
        """A copy that nobody writes.

        Raises:
            AdoptionError: it is missing, no database, or not complete.
        """
        if not path.is_file():
            raise AdoptionError("no-snapshot", f"{path} is missing; take a snapshot of cl_hive.db first")
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise AdoptionError(
                "snapshot-incomplete", f"{wal} holds changes that {path.name} lacks; take the snapshot with a backup"
            )
        try:
            connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
            return cls(path, connection)
        except sqlite3.Error as error:
            raise AdoptionError("snapshot-damaged", f"{path}: {error}; take another snapshot") from error

    @classmethod
    def in_place(cls, path: Path) -> Self:
        """The monolith's own file, while nobody writes it; nothing is written through this either.

        Raises:
            AdoptionError: it is no database.
        """
        try:
            return cls(path, sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True))
        except sqlite3.Error as error:
            raise AdoptionError("snapshot-damaged", f"{path}: {error}; repair cl_hive.db first") from error

    def references(self) -> dict[str, frozenset[str]]:
        """Table -> the tables its foreign keys name."""
        return {
            table: frozenset(str(row[2]) for row in self._query(f'PRAGMA foreign_key_list("{table}")'))
            for table in self.tables
        }

    def layout(self) -> str:
        """2.2.1, 2.10.0, "between 2.2.1 and 2.10.0" or "before 2.2.1", by the tables and columns that exist.

        Raises:
            AdoptionError: it is not the monolith's database.
        """
        if _ANY not in self.tables:
            raise AdoptionError("not-the-monolith", f"{self.path} has no table {_ANY}, so it is not cl_hive.db")
        added = _ADDED & self.tables
        if not added - tables_of(_KEEPER) and (recorded := self._recorded()):
            return recorded  # what cl-hive has added since, when it went on with the file, tells nothing
        if not added:
            return "2.2.1" if "addresses" in self.columns(_ANY) else "before 2.2.1"
        late = {"intent_locks": "reason", "pending_actions": "rejection_reason"}
        complete = added == _ADDED and all(column in self.columns(table) for table, column in late.items())
        return "2.10.0" if complete else "between 2.2.1 and 2.10.0"

    def _recorded(self) -> str:
        """The layout that was found when cl-hive went on with this file; "" when it has not."""
        if ADOPTIONS not in self.tables:
            return ""
        rows = self._query(f"SELECT layout FROM {ADOPTIONS} WHERE table_name = ?", (IN_PLACE,))
        return str(rows[0][0]) if rows else ""

    def columns(self, table: str) -> tuple[str, ...]:
        """The columns of a table in their order; empty when it does not exist."""
        return tuple(str(row[1]) for row in self._query(f'PRAGMA table_info("{table}")'))

    def check_columns(self, mover: Mover) -> tuple[str, ...]:
        """The columns of a table that moves, in the order that its rows have here.

        Raises:
            AdoptionError: it has others than the releases that are known.
        """
        found = self.columns(mover.table)
        wanted = {column.name for column in mover.columns}
        if set(found) != wanted:
            odd = ", ".join(sorted(set(found) ^ wanted))
            raise AdoptionError(
                "layout-unknown",
                f"{mover.table} in {self.path} differs from every known release in {odd}; adopt from 2.2.1 or 2.10.0",
            )
        return found

    def check_integrity(self, table: str) -> None:
        """Let SQLite look over the pages of one table and its indexes.

        Raises:
            AdoptionError: they are damaged.
        """
        findings = [str(row[0]) for row in self._query(f'PRAGMA quick_check("{table}")')]
        if findings != ["ok"]:
            raise AdoptionError(
                "snapshot-damaged", f"{self.path}, {table}: {findings[0]}; take another snapshot, or repair cl_hive.db"
            )

    def rows(self, table: str, columns: Sequence[str], order: Sequence[str] = ()) -> Iterator[list[tuple[int, Row]]]:
        """All rows with their row ids, in batches; sorted by the columns of `order`, or as they were written."""
        names = ", ".join(columns)
        if not order:
            cursor = self._run(f"SELECT rowid, {names} FROM {table} ORDER BY rowid")
            while batch := self._fetch(cursor):
                yield [(row[0], row[1:]) for row in batch]
            return
        # Only numbers are sorted: whole rows would be written to a temporary file.
        cursor = self._run(f"SELECT rowid FROM {table} ORDER BY {', '.join(order)}")
        while batch := self._fetch(cursor):
            numbers = [row[0] for row in batch]
            marks = ", ".join("?" * len(numbers))
            rows = {
                row[0]: row[1:]
                for row in self._query(f"SELECT rowid, {names} FROM {table} WHERE rowid IN ({marks})", numbers)
            }
            yield [(number, rows[number]) for number in numbers]

    def by_key(self, table: str, key: Sequence[str], columns: Sequence[str], keys: Sequence[Row]) -> dict[str, Row]:
        """The rows with these keys, by `key_text`."""
        statement, width = select_by_key(table, key, columns, len(keys)), len(key)
        rows = self._query(statement, [value for values in keys for value in values])
        return {key_text(row[:width]): row[width:] for row in rows}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _run(self, sql: str) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _fetch(self, cursor: sqlite3.Cursor) -> list[Row]:
        try:
            return cursor.fetchmany(BATCH)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> AdoptionError:
        return AdoptionError("snapshot-damaged", f"{self.path}: {error}; take another snapshot, or repair cl_hive.db")


def select_by_key(table: str, key: Sequence[str], columns: Sequence[str], count: int) -> str:
    """A SELECT of key and columns for `count` keys."""
    marks = ", ".join(["?" if len(key) == 1 else f"({', '.join('?' * len(key))})"] * count)
    names, wanted = ", ".join(key), ", ".join([*key, *columns])
    if len(key) == 1:
        return f"SELECT {wanted} FROM {table} WHERE {names} IN ({marks})"
    return f"SELECT {wanted} FROM {table} WHERE ({names}) IN (VALUES {marks})"


def set_digest(digests: dict[str, str]) -> str:
    """One digest for the digests of several tables."""
    return sha256_hex(canonical_json(digests))
