"""The probe's samples: a small SQLite file that forgets its oldest, by age and by size."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from .files import disk_error

PAGE_BYTES = 4096
BUSY_SECONDS = 2.0
SHRINK = 8

Sample = dict[str, Any]


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

    def add(self, sample: Sample) -> None:
        """Keep a sample. A file that is no database any more is begun anew: samples are worth no repair.

        Raises:
            HiveError: it cannot be written.
        """
        try:
            self._add(sample)
        except sqlite3.OperationalError as error:
            raise disk_error(OSError(_errno(error), str(error)), self.path) from error
        except sqlite3.DatabaseError:
            for name in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-journal", "-wal"))):
                if name.exists():
                    name.unlink()
            self._add({**sample, "begun_anew": True})

    def _add(self, sample: Sample) -> None:
        database = self._open()
        try:
            text = json.dumps(sample, separators=(",", ":"), sort_keys=True)
            with database:
                database.execute("DELETE FROM samples WHERE time < ?", (sample["time"] - self.keep_seconds,))
                if self._pages(database) >= self.max_pages:
                    self._shrink(database)
                database.execute("INSERT INTO samples (time, sample) VALUES (?, ?)", (sample["time"], text))
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
    rows = read(path, "SELECT sample FROM samples WHERE time > ? ORDER BY seq", (since,))
    return [json.loads(row[0]) for row in rows]


def last_sample(path: Path) -> Sample | None:
    """Return the newest sample, None when there is none."""
    rows = read(path, "SELECT sample FROM samples ORDER BY seq DESC LIMIT 1")
    return json.loads(rows[0][0]) if rows else None


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
