"""One SQLite file per plugin: private, journaled, owned.

One connection serves all threads behind one lock. Transactions are short, so the lock costs less than the surprises of
a connection per thread, and there is exactly one place where a write begins.
"""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hive_kit.adoption_record import ADOPTION_TABLES, ADOPTIONS, CREATE_RECORD, IN_PLACE
from hive_kit.errors import OwnershipError, StorageError
from hive_kit.files import create_private_file, make_private_directory
from hive_kit.migrations import CREATE_BOOKKEEPING, MIGRATIONS_TABLE, Migration, check_sequence, version_key
from hive_kit.ownership import tables_of

T = TypeVar("T")

_BUSY_TIMEOUT_MS = 5_000
_BULK_CACHE_KIB = 128 * 1024  # holds the indexes of a million rows, whose pages are written in no order
_OWN_BOOKKEEPING = frozenset({MIGRATIONS_TABLE, "sqlite_sequence", "sqlite_stat1"}) | ADOPTION_TABLES
_SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"})
_READ_ONLY_PRAGMAS = frozenset(
    {
        "foreign_key_check",
        "foreign_keys",
        "index_info",
        "index_list",
        "integrity_check",
        "journal_mode",
        "quick_check",
        "synchronous",
        "table_info",
        "user_version",
        "wal_checkpoint",
    }
)
_PRAGMAS_WITH_HARMLESS_ARGUMENT = frozenset(
    {"index_info", "index_list", "integrity_check", "quick_check", "table_info", "wal_checkpoint"}
)
_ROW_WRITES = {
    sqlite3.SQLITE_INSERT: "insert into",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete from",
}
_HARMLESS = frozenset(
    {
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
    }
)
# Schema changes with the argument (0 or 1) that names the table they touch.
_SCHEMA_CHANGES = {
    sqlite3.SQLITE_CREATE_TABLE: 0,
    sqlite3.SQLITE_DROP_TABLE: 0,
    sqlite3.SQLITE_ALTER_TABLE: 1,
    sqlite3.SQLITE_CREATE_INDEX: 1,
    sqlite3.SQLITE_DROP_INDEX: 1,
    sqlite3.SQLITE_CREATE_TRIGGER: 1,
    sqlite3.SQLITE_DROP_TRIGGER: 1,
    sqlite3.SQLITE_REINDEX: 0,
}
_RESTORE = "restore it from the newest backup set"
_ADVICE = {
    "SQLITE_BUSY": "another process holds it; end that process",
    "SQLITE_FULL": "make room on the disk",
    "SQLITE_IOERR": "check the disk",
    "SQLITE_READONLY": "make file and directory writable for the user of lightningd",
    "SQLITE_CANTOPEN": "check the path and its permissions",
    "SQLITE_CORRUPT": _RESTORE,
    "SQLITE_NOTADB": _RESTORE,
}


class Store:
    """The plugin's database. Thread-safe. Use `Store.open`; close it, or use it as a context manager."""

    def __init__(self, path: Path, plugin: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self.plugin = plugin
        self._connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self._closed = False
        self._guard: _Guard | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        plugin: str,
        migrations: Sequence[Migration],
        plugin_version: str | Callable[[], str],
    ) -> Self:
        """Open or create the database and bring its schema up to date.

        Args:
            path: the file; its directory is made (0700) when missing.
            plugin: the owner, as ownership.toml spells it.
            migrations: all steps, 1..n.
            plugin_version: release that runs, for the record; a function is asked only when needed.

        Raises:
            StorageError: the file is no database, is damaged, is newer than this release can read, is readable by
                others, or holds tables that nobody recorded; the sentence says what to do.
        """
        check_sequence(migrations)
        make_private_directory(path.parent)
        if not create_private_file(path):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise StorageError(f"{path} has mode {mode:04o}, so others can read it; set it to 0600")
        wal = path.with_name(path.name + "-wal")
        crashed = wal.exists() and wal.stat().st_size > 0
        try:
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_MS / 1000
            )
        except sqlite3.Error as error:
            raise StorageError(f"cannot open {path}: {error}") from error
        store = cls(path, plugin, connection)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA trusted_schema=OFF")
            if crashed:
                store.check_integrity()
            store._guard = _Guard(plugin, tables_of(plugin))
            connection.set_authorizer(store._guard)
            store._migrate(migrations, plugin_version if callable(plugin_version) else lambda: str(plugin_version))
        except sqlite3.DatabaseError as error:
            connection.close()
            raise StorageError(f"{path}: {error}; {_advice(error) or _RESTORE}") from error
        except (StorageError, ValueError):
            connection.close()
            raise
        return store

    # -- reading and writing ------------------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a SELECT; a row is read by column name."""
        return self._run(lambda: self._connection.execute(sql, parameters).fetchall())

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a SELECT, or None."""
        row: sqlite3.Row | None = self._run(lambda: self._connection.execute(sql, parameters).fetchone())
        return row

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, parameters)
        return None if row is None else row[0]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one writing statement, alone or inside `atomic()`. Returns the number of rows it changed."""
        return self._run(lambda: self._connection.execute(sql, parameters).rowcount)

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one writing statement for each row, alone or inside `atomic()`."""
        self._run(lambda: self._connection.executemany(sql, rows))

    def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one INSERT. Returns the row id."""
        return self._run(lambda: self._connection.execute(sql, parameters).lastrowid or 0)

    @contextmanager
    def atomic(self) -> Iterator[Self]:
        """All writes inside happen or none do (BEGIN IMMEDIATE, so nobody writes in between).

        Inside another `atomic()` it is a savepoint: its own failure undoes its own writes.
        """
        with self._lock:
            name = f"s{self._depth}"
            begin, keep, undo = (
                ("BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"])
                if self._depth == 0
                else (f"SAVEPOINT {name}", f"RELEASE {name}", [f"ROLLBACK TO {name}", f"RELEASE {name}"])
            )
            self._run(lambda: self._connection.execute(begin))
            self._depth += 1
            kept = False
            try:
                yield self
                self._run(lambda: self._connection.execute(keep))
                kept = True
            finally:
                self._depth -= 1
                if not kept and self._connection.in_transaction:
                    for statement in undo:
                        self._connection.execute(statement)

    # -- adoption -----------------------------------------------------------------------------------------------------

    @contextmanager
    def adopting(self) -> Iterator[None]:
        """Allow the kit's record of an adoption to be written; makes its tables."""
        assert self._guard is not None
        with self._guard.migrating():
            for statement in CREATE_RECORD:
                self.execute(statement)
        with self._guard.adopting():
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Write everything once instead of twice (no write-ahead log), for one huge transaction.

        Raises:
            StorageError: another process has the file open.
        """
        with self._lock:
            self._pragma("journal_mode=DELETE")
            self._pragma(f"cache_size=-{_BULK_CACHE_KIB}")
            try:
                yield
            finally:
                if not self._connection.in_transaction:
                    self._pragma("journal_mode=WAL")

    def _pragma(self, setting: str) -> None:
        self._connection.set_authorizer(None)
        try:
            self._run(lambda: self._connection.execute(f"PRAGMA {setting}").fetchall())
        finally:
            self._connection.set_authorizer(self._guard)

    # -- the file -----------------------------------------------------------------------------------------------------

    @property
    def schema_version(self) -> int:
        """The schema the file has now (`PRAGMA user_version`)."""
        return int(self.value("PRAGMA user_version"))

    def check_integrity(self) -> None:
        """Let SQLite look over the whole file.

        Raises:
            StorageError: it is damaged.
        """
        findings = [str(row[0]) for row in self.query("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise StorageError(f"{self.path} is damaged ({findings[0]}); restore it from the newest backup set")

    def prove_writable(self) -> None:
        """Take the write lock and give it back.

        Raises:
            StorageError: the file or the disk does not take writes.
        """
        with self.atomic():
            self.value("SELECT 1")

    def checkpoint(self) -> None:
        """Move everything from the write-ahead log into the file."""
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Checkpoint and close. Calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.close()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise StorageError(f"{self.path} is closed; the plugin is stopping")
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if self._guard is not None and (reason := self._guard.take_reason()):
                    raise OwnershipError(reason) from error
                advice = _advice(error)
                if advice:
                    raise StorageError(f"{self.path}: {error}; {advice}") from error
                raise

    def _migrate(self, migrations: Sequence[Migration], plugin_version: Callable[[], str]) -> None:
        have = self.schema_version
        tables = {str(row[0]) for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
        known = MIGRATIONS_TABLE in tables
        if not known and (have or tables - _OWN_BOOKKEEPING):
            raise StorageError(
                f"{self.path} holds tables that {self.plugin} did not make, so it may belong to an older installation; "
                "move it away or choose another path"
            )
        if known:
            self._check_history(migrations, have, plugin_version)
        assert self._guard is not None
        for migration in migrations[have:]:
            with self._guard.migrating(), self.atomic():
                before = self._names()
                self.execute(CREATE_BOOKKEEPING)
                for statement in migration.statements:
                    for step in self._fitted(statement, before):
                        self.execute(step)
                self._refuse_foreign_tables(migration, before)
                self.execute(
                    f"INSERT INTO {MIGRATIONS_TABLE} VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        migration.version,
                        migration.name,
                        migration.digest,
                        migration.readable_by,
                        plugin_version(),
                        int(time.time()),
                    ),
                )
                self.execute(f"PRAGMA user_version = {migration.version:d}")

    def _check_history(self, migrations: Sequence[Migration], have: int, plugin_version: Callable[[], str]) -> None:
        rows = self.query(f"SELECT version, digest, readable_by FROM {MIGRATIONS_TABLE} ORDER BY version")
        if [row["version"] for row in rows] != list(range(1, have + 1)):
            raise StorageError(
                f"{self.path} says schema {have} but records {len(rows)} migrations; restore it from a backup set"
            )
        for row, migration in zip(rows, migrations, strict=False):
            if row["digest"] != migration.digest:
                raise StorageError(
                    f"{self.path} was made by another migration {migration.version} ({migration.name}) than ours; "
                    f"run the release of {self.plugin} that made it"
                )
        if have > len(migrations):
            oldest = str(rows[-1]["readable_by"])
            running = plugin_version()
            if version_key(running) < version_key(oldest):
                raise StorageError(
                    f"{self.path} has schema {have}, which needs {self.plugin} {oldest}, and this is {running}; "
                    "install that release or restore an older backup set"
                )

    def _names(self) -> frozenset[str]:
        rows = self.query("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        return frozenset(str(row[0]) for row in rows)

    def _fitted(self, statement: str, tables: frozenset[str]) -> list[str]:
        """The statement, or what is left of it in a file that came from the monolith and has tables of its own."""
        if ADOPTIONS not in tables or not self.one(f"SELECT 1 FROM {ADOPTIONS} WHERE table_name = ?", (IN_PLACE,)):
            return [statement]
        from hive_kit.adoption_place import fit  # only for such a file

        return fit(statement, self.query)

    def _refuse_foreign_tables(self, migration: Migration, before: frozenset[str]) -> None:
        allowed = tables_of(self.plugin) | _OWN_BOOKKEEPING
        foreign = sorted(self._names() - before - allowed)
        if foreign:
            raise OwnershipError(
                f"migration {migration.version} makes {', '.join(foreign)}, but {self.plugin} does not own it; "
                "add it to ownership.toml"
            )


def _advice(error: sqlite3.Error) -> str:
    """What the operator can do about a failure of file or disk; empty for a defect of the statement."""
    name: str = getattr(error, "sqlite_errorname", "") or ""
    return next((advice for prefix, advice in _ADVICE.items() if name.startswith(prefix)), "")


class _Guard:
    """SQLite's authorizer: asked while a statement is prepared, before anything happens."""

    def __init__(self, plugin: str, owned: frozenset[str]) -> None:
        self._plugin = plugin
        self._owned = owned
        self._migrating = False
        self._adopting = False
        self._reason = ""

    @contextmanager
    def adopting(self) -> Iterator[None]:
        """Allow the record of an adoption to be written."""
        self._adopting = True
        try:
            yield
        finally:
            self._adopting = False

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """Allow schema changes of owned tables."""
        self._migrating = True
        try:
            yield
        finally:
            self._migrating = False

    def take_reason(self) -> str:
        """Why the last statement was refused, or an empty text."""
        reason, self._reason = self._reason, ""
        return reason

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        reason = self._refusal(action, first or "", second or "")
        if reason:
            self._reason = reason
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def _refusal(self, action: int, first: str, second: str) -> str:
        if action in _HARMLESS:
            return ""
        if action in _ROW_WRITES:
            if first in _SCHEMA_TABLES:
                return "" if self._migrating else "the schema changes only in a migration"
            if first == MIGRATIONS_TABLE and not self._migrating:
                return f"only a migration writes {MIGRATIONS_TABLE}"
            if first in ADOPTION_TABLES and not self._adopting:
                return f"only an adoption writes {first}"
            if first in self._owned or first in _OWN_BOOKKEEPING:
                return ""
            return f"{self._plugin} does not own {first}, so it may not {_ROW_WRITES[action]} it; ask its owner by RPC"
        if action == sqlite3.SQLITE_PRAGMA:
            if not second or first in _PRAGMAS_WITH_HARMLESS_ARGUMENT:
                return "" if first in _READ_ONLY_PRAGMAS else f"PRAGMA {first} is not available here"
            return (
                "" if first == "user_version" and self._migrating else f"PRAGMA {first} is set by hive_kit.store alone"
            )
        if action in _SCHEMA_CHANGES:
            table = (first, second)[_SCHEMA_CHANGES[action]]
            if not self._migrating:
                return "the schema changes only in a migration"
            if action == sqlite3.SQLITE_REINDEX or table in self._owned or table in _OWN_BOOKKEEPING:
                return ""
            return f"{self._plugin} does not own {table}, so no migration of it may change that table"
        if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
            return "a plugin never opens another database; ask its owner by RPC"
        return f"SQLite action {action} is not available to plugins"


def schema_tables(plugin: str, migrations: Sequence[Migration]) -> list[str]:
    """The tables that exist after all migrations, sorted, without SQLite's and the kit's own."""
    check_sequence(migrations)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for migration in migrations:
            for statement in migration.statements:
                connection.execute(statement)
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    finally:
        connection.close()
    return [str(row[0]) for row in rows if row[0] not in _OWN_BOOKKEEPING]
