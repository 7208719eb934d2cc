"""A process that writes one row every few milliseconds and notes how long each write was held up."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PERIOD_SECONDS = 0.005


@dataclass
class Stall:
    """What the writer noticed; complete once the writer has ended.

    Attributes:
        worst_ms: longest single write, commit included.
        writes: rows written.
    """

    worst_ms: float = 0.0
    writes: int = field(default=0)


def make_database(path: Path, megabytes: int) -> None:
    """Make a WAL database of about `megabytes` MB with the shape of a receipt table."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE receipts (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    connection.executemany(
        "INSERT INTO receipts (body) VALUES (randomblob(?))", ((1_000_000,) for _ in range(megabytes))
    )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@contextmanager
def writing(path: Path) -> Iterator[Stall]:
    """Let another process write to `path` inside the block."""
    stall = Stall()
    process = subprocess.Popen(
        [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield stall
    finally:
        process.stdin.close()
        told = json.loads(process.stdout.readline())
        process.wait(30)
        stall.worst_ms, stall.writes = told["worst_ms"], told["writes"]


def _write(path: str) -> None:
    import select

    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous=NORMAL")
    worst, writes = 0.0, 0
    while True:
        begun = time.perf_counter()
        connection.execute("INSERT INTO receipts (body) VALUES (randomblob(200))")
        took = time.perf_counter() - begun
        if writes:
            worst = max(worst, took)
        else:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        writes += 1
        if select.select([sys.stdin], [], [], max(0.0, PERIOD_SECONDS - took))[0]:
            break
    sys.stdout.write(json.dumps({"worst_ms": round(worst * 1000, 3), "writes": writes}) + "\n")


if __name__ == "__main__":
    _write(sys.argv[1])
