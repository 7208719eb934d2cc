"""The probe's samples: a small SQLite file that forgets its oldest, by age and by size."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .files import disk_error

PAGE_BYTES = 4096
BUSY_SECONDS = 2.0
SHRINK = 8
# Of what is too old no more goes with one sample: a clock that is far ahead for a minute must not empty the ring.
FORGET = 64
AT_ONCE = 500

Sample = dict[str, Any]
OLD = "DELETE FROM samples WHERE seq IN (SELECT seq FROM samples WHERE time < ? ORDER BY time LIMIT ?)"


class Ring:
    """One node's samples, newest last.

    Args:
        path: the file; made with mode 0600.
        keep_seconds: samples older than this are forgotten.
        max_bytes: what the file may grow to; an eighth of the oldest samples goes whenever it is reached.
    """

    def __init__(self, path: Path, keep_seconds: float, max_bytes: int) -> None:
        self.path = path
        self.keep_seconds = keep_seconds
        self.max_pages = max(16, max_bytes // PAGE_BYTES)

    def add(self, sample: Sample, carried: dict[str, Any] | None = None) -> None:
        """Keep a sample. A file that is no database any more is begun anew: samples are worth no repair.

        Args:
            carried: what the next look has to know, whatever samples there are by then.

        Raises:
            HiveError: it cannot be written.
        """
        try:
            self._add(sample, carried)
        except sqlite3.OperationalError as error:
            raise disk_error(OSError(_errno(error), str(error)), self.path) from error
        except sqlite3.DatabaseError:
            for name in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-journal", "-wal"))):
                if name.exists():
                    name.unlink()
            self._add({**sample, "begun_anew": True}, carried)

    def _add(self, sample: Sample, carried: dict[str, Any] | None) -> None:
        database = self._open()
        try:
            text = json.dumps(sample, separators=(",", ":"), sort_keys=True)
            with database:
                database.execute(OLD, (sample["time"] - self.keep_seconds, FORGET))
                if self._pages(database) >= self.max_pages:
                    self._shrink(database)
                database.execute("INSERT INTO samples (time, sample) VALUES (?, ?)", (sample["time"], text))
                if carried is not None:
                    kept = json.dumps(carried, separators=(",", ":"), sort_keys=True)
                    database.execute("INSERT OR REPLACE INTO carried (id, document) VALUES (1, ?)", (kept,))
        finally:
            database.close()

    def _open(self) -> sqlite3.Connection:
        fresh = not self.path.exists()
        if fresh:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS samples (seq INTEGER PRIMARY KEY, time REAL NOT NULL, sample TEXT NOT NULL)"
            )
            database.execute("CREATE INDEX IF NOT EXISTS samples_by_time ON samples (time)")
            database.execute("CREATE TABLE IF NOT EXISTS carried (id INTEGER PRIMARY KEY, document TEXT NOT NULL)")
        return database

    @staticmethod
    def _pages(database: sqlite3.Connection) -> int:
        """Return the pages that hold something; those that were freed are used again first."""
        total = int(database.execute("PRAGMA page_count").fetchone()[0])
        return total - int(database.execute("PRAGMA freelist_count").fetchone()[0])

    @staticmethod
    def _shrink(database: sqlite3.Connection) -> None:
        first, last = database.execute("SELECT min(seq), max(seq) FROM samples").fetchone()
        if first is not None:
            database.execute("DELETE FROM samples WHERE seq <= ?", (first + (last - first) // SHRINK,))


def read(path: Path, query: str, parameters: tuple[float, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query; none when the file is missing, unfinished or damaged."""
    if not path.is_file():
        return []
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        try:
            return database.execute(query, parameters).fetchall()
        finally:
            database.close()
    except sqlite3.DatabaseError:
        return []


def samples_since(path: Path, since: float) -> list[Sample]:
    """Return the samples newer than a unix time, oldest first."""
    return list(_samples(read(path, "SELECT sample FROM samples WHERE time > ? ORDER BY seq", (since,))))


def each_sample(path: Path, since: float) -> Iterator[Sample]:
    """Yield the samples from a unix time on as they were taken, some at a time: a week of them is a lot of memory."""
    reached = 0
    while True:
        query = "SELECT seq, sample FROM samples WHERE seq > ? AND time >= ? ORDER BY seq LIMIT ?"
        rows = read(path, query, (reached, since, AT_ONCE))
        if not rows:
            return
        reached = int(rows[-1][0])
        yield from _samples((row[1],) for row in rows)


def _samples(rows: Iterable[tuple[Any, ...]]) -> Iterator[Sample]:
    """Yield the samples of rows. One that a fault of the disk has changed into something else is left out."""
    for row in rows:
        sample = _parsed(row[0])
        if isinstance(sample, dict) and isinstance(sample.get("time"), (int, float)):
            yield sample


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def last_sample(path: Path) -> Sample | None:
    """Return the newest sample, None when there is none."""
    return next(_samples(read(path, "SELECT sample FROM samples ORDER BY seq DESC LIMIT 1")), None)


def carried(path: Path) -> dict[str, Any]:
    """Return what the look before has left for the next."""
    rows = read(path, "SELECT document FROM carried WHERE id = 1")
    found = _parsed(rows[0][0]) if rows else None
    return found if isinstance(found, dict) else {}


def count_samples(path: Path) -> int:
    """Return how many samples are kept."""
    rows = read(path, "SELECT count(*) FROM samples")
    return int(rows[0][0]) if rows else 0


def _errno(error: sqlite3.OperationalError) -> int:
    """Return the errno that fits what SQLite says, so that people get the same sentence as for any other file."""
    text = str(error)
    if "full" in text:
        return errno.ENOSPC
    if "readonly" in text or "unable to open" in text:
        return errno.EACCES
    return errno.EIO
