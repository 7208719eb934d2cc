"""How long a drill of a 100 MB set takes, from its verification to the end of the scratch node.

The set is of the three plugins, and nearly all of it is a chain of receipts: the costliest data, because a drill walks
the whole chain. Beside it, what reading such a set costs anybody: a copy, its sha256 and SQLite's own check.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from cl_hive_comms.migrations import MIGRATIONS
from cl_hive_comms.options import DATABASE
from cl_hive_comms.storage.receipt_store import ReceiptStore
from cl_hive_comms.storage.state_store import StateStore
from faults.drill_rig import DrillRig
from hive_kit.store import Store

from bench.measurement import Measurement, at_most

MEGABYTES = 100
RECEIPTS = 70_000
ROUNDS = 3
GOAL_SECONDS = 15


def _fill(path: Path) -> None:
    """Make comms' database before comms does, with receipts of a size that together make 100 MB."""
    store = Store.open(path, "cl-hive-comms", MIGRATIONS, lambda: "0.1.0")
    now = int(time.time())
    padding = "x" * (MEGABYTES * 1_000_000 // RECEIPTS - 330)
    entries = (
        (now - RECEIPTS + number, "operator", "hive:policy/v1", "set-preset", {"note": padding}, {"ok": True})
        for number in range(RECEIPTS)
    )
    with store.atomic():
        ReceiptStore(store, StateStore(store, lambda: now)).append_many(entries)
    store.checkpoint()
    store.close()


def _floor(database: Path, target: Path) -> float:
    begun = time.perf_counter()
    shutil.copyfile(database, target)
    with target.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    connection = sqlite3.connect(target)
    connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    took = time.perf_counter() - begun
    target.unlink()
    return took


def run() -> list[Measurement]:
    """The median of some drills; a drill takes seconds, so a few are enough."""
    with tempfile.TemporaryDirectory() as directory:
        rig = DrillRig(Path(directory))
        try:
            rig.node.network_dir.mkdir(mode=0o700)
            _fill(rig.node.network_dir / DATABASE)
            rig.prepare()
            database = next((rig.set_path / "cl-hive-comms").glob("*.db"))
            size = database.stat().st_size / 1e6
            drills, recoveries, floors = [], [], []
            for _ in range(ROUNDS + 1):
                floors.append(_floor(database, Path(directory) / "floor.db"))
                begun = time.perf_counter()
                drill = rig.drill()["drill"]
                drills.append(time.perf_counter() - begun)
                assert drill["result"] == "PASSED", drill["reason"]
                recoveries.append(float(drill["rto_seconds"]))
        finally:
            rig.stop()
    # The first one also unpacks the scratch lightningd, which later ones find.
    drills, recoveries, floors = (sorted(values[1:]) for values in (drills, recoveries, floors))
    middle = ROUNDS // 2
    peers: dict[str, float | str] = {"copy + sha256 + integrity_check": round(floors[middle], 3)}
    return [
        at_most(f"drill of a set of {size:.0f} MB", drills[middle], "s", GOAL_SECONDS, peers),
        Measurement("recovery time it measures", round(recoveries[middle], 3), "s"),
    ]
