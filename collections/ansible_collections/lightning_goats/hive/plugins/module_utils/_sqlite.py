"""SQLite databases of plugins: looked at read-only, copied in one step, never opened for writing."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._engine.errors import HiveError
from ._engine.files import Owner
from ._waiting import wait_for

if TYPE_CHECKING:
    import sqlite3

MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 10.0
BARRIER_SECONDS = 0.003


def open_read_only(path: Path, owner: Owner) -> sqlite3.Connection:
    """Open a database for reading. What SQLite makes beside it goes to the database's owner, also when root opens it.

    Raises:
        HiveError: it is missing, no database, or not the plugin's own file.
    """
    import sqlite3  # imported late: most calls never open a database

    refuse_strange(path, owner)
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error as error:
        if is_locked(error):
            raise locked([path]) from error
        raise HiveError(
            f"{path} cannot be read as a database ({error}); restore it from a backup set (restore.yml)",
            "bad-database",
        ) from error
    return connection


def is_locked(error: sqlite3.Error) -> bool:
    """Whether SQLite could not go on because of somebody else's lock, which is no fault of the file."""
    import sqlite3  # imported late, as above

    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def refuse_strange(path: Path, owner: Owner) -> None:
    """Refuse links and files of somebody else: root must not carry a stranger's secrets into a backup.

    Whoever owns the directory is no stranger: the field's image gives all of it away at every start and runs as root.
    """
    try:
        facts, above = path.lstat(), path.parent.stat()
    except OSError as error:
        raise HiveError(
            f"{path} cannot be looked at ({error.strerror}); run as its owner or as root", "bad-database"
        ) from error
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (owner.uid, 0, above.st_uid):
        raise HiveError(f"{path} is not a plain file of lightningd's user; find out who put it there", "strange-file")


def user_version(path: Path, owner: Owner) -> int | None:
    """Return the schema version of a database; None when there is none.

    The header says it unless newer pages wait in the write-ahead log; only then is the database opened.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except (FileNotFoundError, PermissionError):
        return None
    if len(header) < 64 or not header.startswith(MAGIC):
        return None
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size == 0:
        return int.from_bytes(header[60:64], "big")
    connection = open_read_only(path, owner)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def data_version(path: Path) -> int | None:
    """Return `vars.data_version` of lightningd's own database, a counter of its commits.

    Read-only, and given up at once when lightningd is just writing: its database must never be held up.
    """
    import sqlite3  # imported late, as above

    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.0, isolation_level=None)
    except sqlite3.Error:
        return None
    try:
        row = _read_patiently(connection, "SELECT intval FROM vars WHERE name = 'data_version'")
        return int(row[0]) if row and row[0] is not None else None
    finally:
        connection.close()


def _read_patiently(connection: sqlite3.Connection, query: str) -> Any:
    """Return the first row of a query, trying for a tenth of a second while a writer has the database."""
    import sqlite3  # imported late, as above

    def first() -> list[Any] | None:
        try:
            return [connection.execute(query).fetchone()]
        except sqlite3.OperationalError:
            return None

    found = wait_for(first, 0.1, 0.005)
    return found[0] if found else None


def capture(targets: dict[str, tuple[Path, Path]], owner: Owner) -> dict[str, Any]:
    """Copy several live databases as they are at one moment, without holding up their writers.

    Snapshots of all of them are opened at one moment; then every snapshot is copied in one step, which no writer can
    make start anew. In WAL mode readers do not stop writers. A database with a rollback journal cannot be written while
    it is copied, so those come first, the smallest first, and each is let go at once.

    Args:
        targets: per name, source and destination; the destination's directory exists.
        owner: whose files the sources must be.

    Returns:
        `barrier`, a name for the moment; `barrier_ms`, how long all writers were kept waiting for it; `copy_ms`, how
        long the copies took; `held_ms`, per database without WAL, how long its writer was kept waiting by its copy.

    Raises:
        HiveError: one cannot be read or copied, or there is no such moment because one is locked for good.
    """
    import sqlite3  # imported late, as above

    sources: dict[str, sqlite3.Connection] = {}
    started = time.monotonic()
    try:
        for name, (source, _) in targets.items():
            sources[name] = open_read_only(source, owner)
        # Asked before the snapshots are opened: the header of the file says it too, but not while it is changed.
        journals = {name: str(sources[name].execute("PRAGMA journal_mode").fetchone()[0]) for name in targets}
        barrier = Barrier([source for source, _ in targets.values()], list(sources.values())).take()
        opened = time.monotonic()
        held: dict[str, float] = {}
        sizes = {name: source.stat().st_size for name, (source, _) in targets.items()}
        for name in sorted(targets, key=lambda name: (journals[name] == "wal", sizes[name])):
            _copy(sources.pop(name), *targets[name])
            if journals[name] != "wal":
                held[name] = round((time.monotonic() - opened) * 1000, 3)
        for _, target in targets.values():
            _make_durable(target)
    except sqlite3.Error as error:
        raise HiveError(
            f"a database cannot be copied: {error}; see that its disk has room and is writable", "backup-failed"
        ) from error
    finally:
        for connection in sources.values():
            connection.close()
    return {
        "barrier": os.urandom(8).hex(),
        "barrier_ms": round(barrier * 1000, 3),
        "copy_ms": round((time.monotonic() - started) * 1000, 1),
        "held_ms": held,
    }


class Barrier:
    """One moment for several databases: a snapshot of each, with no commit to any of them in between.

    First it is only hoped for: the snapshots are opened, and had nobody committed meanwhile, they are of one moment, at
    no cost to anybody. Where somebody commits all the time, all are locked for writing, only for as long as opening
    takes. Where one is in the middle of something long, waiting for it with the others locked would hold up their
    writers: then all is let go, and it is tried again in both ways.
    """

    def __init__(self, paths: list[Path], readers: list[sqlite3.Connection]) -> None:
        self.paths = paths
        self.readers = readers

    def take(self) -> float:
        """Open the snapshots; return for how long writers had to wait, in seconds.

        Raises:
            HiveError: there was no such moment within `BUSY_SECONDS`.
        """
        for reader in self.readers:
            reader.execute(f"PRAGMA busy_timeout = {1000 * BARRIER_SECONDS:.0f}")
        # SQLite wakes nobody up when a writer lets go; the next try waits for the lock itself.
        found = wait_for(self._once, BUSY_SECONDS, 0.01)
        if found is None:
            raise locked(self.paths)
        for reader in self.readers:
            reader.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}")
        return found

    def _once(self) -> float | None:
        if len(self.paths) == 1:
            return 0.0 if self._opened() else None
        if self._undisturbed():
            return 0.0
        return self._locked()

    def _undisturbed(self) -> bool:
        import sqlite3  # imported late, as above

        witnesses: list[sqlite3.Connection] = []
        try:
            for path in self.paths:
                witness = sqlite3.connect(
                    f"{path.as_uri()}?mode=ro", uri=True, timeout=BARRIER_SECONDS, isolation_level=None
                )
                witnesses.append(witness)
            before = [_commits(witness) for witness in witnesses]
            if not self._opened():
                return False
            calm = before == [_commits(witness) for witness in witnesses]
        except sqlite3.OperationalError:
            calm = False
        finally:
            for witness in witnesses:
                witness.close()
        if not calm:
            self._let_go()
        return calm

    def _locked(self) -> float | None:
        import sqlite3  # imported late, as above

        writers: list[sqlite3.Connection] = []
        started = time.monotonic()
        try:
            for path in self.paths:
                writer = sqlite3.connect(
                    f"{path.as_uri()}?mode=rw", uri=True, timeout=BARRIER_SECONDS, isolation_level=None
                )
                writers.append(writer)
                writer.execute("BEGIN IMMEDIATE")
            return time.monotonic() - started if self._opened() else None
        except sqlite3.OperationalError:
            return None
        finally:
            for writer in writers:
                writer.close()

    def _opened(self) -> bool:
        """Open a snapshot on every reader, or on none."""
        import sqlite3  # imported late, as above

        try:
            for reader in self.readers:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        for reader in self.readers:
            if reader.in_transaction:
                reader.execute("ROLLBACK")


def _commits(witness: sqlite3.Connection) -> int:
    """Return a number that is another one after every commit of somebody else."""
    return int(witness.execute("PRAGMA data_version").fetchone()[0])


def locked(paths: list[Path]) -> HiveError:
    """Return the refusal to wait any longer for a database that somebody keeps to himself."""
    return HiveError(
        f"{' or '.join(str(path) for path in paths)} is locked by somebody who does not let go; look at its plugin's "
        "health, end whatever else has it open, and run again",
        "database-locked",
    )


def _copy(source: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy a snapshot of `path` and let it go; what is written still has to be made durable."""
    import sqlite3  # imported late, as above

    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy, pages=-1)
            # Whoever writes without a WAL waits for exactly this.
            source.close()
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise HiveError(
            f"{path} is damaged ({error}), so it cannot be copied; restore it from a backup set (restore.yml)",
            "bad-database",
        ) from error
    finally:
        source.close()


def _make_durable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_copy(path: Path) -> dict[str, Any]:
    """Return what a copy holds: `check` ("ok" or the first fault), `schema_version`, `rows` per table."""
    import sqlite3  # imported late, as above

    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        check = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        rows = {
            name: int(connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0])
            for name in tables(connection)
        }
        return {
            "check": check,
            "schema_version": int(connection.execute("PRAGMA user_version").fetchone()[0]),
            "rows": rows,
        }
    except sqlite3.DatabaseError as error:
        return {"check": str(error), "schema_version": 0, "rows": {}}
    finally:
        connection.close()


def tables(connection: sqlite3.Connection, schema: str = "main") -> list[str]:
    """Return the names of a database's own tables; virtual ones only show what others hold, and need their module."""
    query = f"SELECT name FROM {quoted(schema)}.sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    return [str(row[0]) for row in connection.execute(query) if not str(row[0]).startswith("sqlite_")]


def quoted(name: str) -> str:
    """Return an identifier as SQL takes it literally."""
    return '"' + name.replace('"', '""') + '"'
