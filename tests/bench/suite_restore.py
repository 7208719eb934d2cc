"""How long putting a 100 MB set in place takes with everything about it verified; beside what that takes at the least.

The least: `cp` with a sync, `sha256sum` and SQLite's `quick_check`, one after the other, each from start to end.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import aside
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_list import MANIFEST
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import describe, verify_set
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.compare import differences
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._sqlite import check_copy

from bench.measurement import Measurement, at_most

MEGABYTES = 100
ROW_BYTES = 400
ROUNDS = 7
FILE = "plugin/plugin.db"


class Case:
    """A node with a database of some size, and a set of it from a little earlier."""

    def __init__(self, root: Path) -> None:
        self.node = Node.from_params(
            {
                "name": "bench",
                "runtime": "process",
                "lightning_dir": str(root / "lightning"),
                "network": "regtest",
                "state_dir": str(root / "hive"),
            }
        )
        self.set = self.node.backups_dir / "set"
        self.copy, self.place = self.set / FILE, self.node.network_dir / "plugin.db"
        for directory in (self.copy.parent, self.place.parent):
            directory.mkdir(parents=True)
        _fill(self.copy, MEGABYTES)
        subprocess.run(["cp", self.copy, self.place], check=True)
        with sqlite3.connect(self.place) as connection:
            connection.execute("INSERT INTO receipts (body) VALUES ('later')")
        connection.close()
        manifest: dict[str, Any] = {
            "files": {FILE: describe(self.copy)},
            "databases": {"plugin": {"file": FILE}},
            "verified": True,
        }
        (self.set / MANIFEST).write_bytes(canonical(manifest))
        self.restores = 0

    def restore(self) -> float:
        """Verify the set and put it in place as a restore does; the seconds during which its plugin would be away."""
        self.restores += 1
        name = f"round-{self.restores}"
        manifest = verify_set(self.set)
        if check_copy(self.copy)["check"] != "ok":
            raise ValueError(f"{self.copy} is damaged; the disk of this machine cannot be measured")
        digest = str(manifest["files"][FILE]["sha256"])
        swaps = [aside.Swap(self.copy, self.place, 0o600, database=True, sha256=digest)]
        aside.stage(self.node, name, swaps)
        begun = time.perf_counter()
        aside.swap(self.node, name, swaps)
        return time.perf_counter() - begun

    def least(self) -> None:
        """Copy, hash and check, with the tools that everybody has."""
        target = self.place.with_name("copied.db")
        subprocess.run(["cp", self.copy, target], check=True)
        handle = os.open(target, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
        connection = sqlite3.connect(f"{target.as_uri()}?mode=ro&immutable=1", uri=True)
        connection.execute("PRAGMA quick_check").fetchall()
        connection.close()
        target.unlink()

    def forecast(self) -> None:
        """Say what would be lost, row by row."""
        rows = differences(self.place, self.copy, self.node.owner)
        if not rows:
            raise ValueError(f"{self.place} cannot be read; the disk of this machine cannot be measured")


def _fill(path: Path, megabytes: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE receipts (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    count = megabytes * 1_000_000 // ROW_BYTES
    rows = ((hashlib.sha512(str(number).encode()).hexdigest() * 3,) for number in range(count))
    connection.executemany("INSERT INTO receipts (body) VALUES (?)", rows)
    connection.commit()
    connection.close()


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def run() -> list[Measurement]:
    """Rounds are interleaved, so that a noisy neighbour hits both ways alike; each way's best round is compared."""
    ours, least, away, forecast = [], [], [], []
    with tempfile.TemporaryDirectory() as directory:
        case = Case(Path(directory))
        for _ in range(ROUNDS):
            forecast.append(_seconds(case.forecast))
            begun = time.perf_counter()
            away.append(case.restore())
            ours.append(time.perf_counter() - begun)
            least.append(_seconds(case.least))
    peers: dict[str, float | str] = {"cp + sha256sum + quick_check": round(min(least), 3)}
    return [
        at_most("verified restore, of copy + sha256 + quick_check", min(ours) / min(least), "ratio", 1.5),
        Measurement(f"verified restore of {MEGABYTES} MB", round(min(ours), 3), "s", peers=peers),
        Measurement("of it while the plugin is away", round(statistics.median(away) * 1000, 1), "ms"),
        Measurement(f"saying what would be lost of {MEGABYTES} MB", round(min(forecast), 3), "s"),
    ]
