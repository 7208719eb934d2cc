"""How fast a live 100 MB database is copied, and what its writer notices; beside what others do.

`sqlite3 .backup` copies in steps and starts again at every foreign commit, so under a writer it has a time limit here.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._sqlite import capture

from bench.measurement import Measurement, at_least, at_most
from bench.writer import Stall, make_database, writing

MEGABYTES = 100
ROUNDS = 9
PATIENCE_SECONDS = 20


def _ours(source: Path, target: Path) -> None:
    capture({"database": (source, target)}, Owner(os.getuid(), os.getgid()))


def _single_step(source: Path, target: Path) -> None:
    """The physical floor: SQLite's own backup in one step, made durable."""
    reader, copy = sqlite3.connect(source), sqlite3.connect(target)
    reader.backup(copy, pages=-1)
    copy.close()
    reader.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _vacuum_into(source: Path, target: Path) -> None:
    connection = sqlite3.connect(source)
    connection.execute("VACUUM INTO ?", (str(target),))
    connection.close()
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _copy_file(source: Path, target: Path) -> None:
    """Unsafe under a writer: the copy may be torn. Here for its speed only."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _shell(source: Path, target: Path) -> None:
    subprocess.run(["sqlite3", str(source), f".backup {target}"], check=True, timeout=PATIENCE_SECONDS)


def _measure(source: Path, way: Callable[[Path, Path], None]) -> tuple[float, Stall]:
    """Seconds that one copy took under a writer, and what the writer noticed; infinite when it did not end."""
    target = source.with_name("copy.db")
    target.unlink(missing_ok=True)
    with writing(source) as stall:
        begun = time.perf_counter()
        try:
            way(source, target)
            took = time.perf_counter() - begun
        except subprocess.TimeoutExpired:
            took = float("inf")
    target.unlink(missing_ok=True)
    return took, stall


def run() -> list[Measurement]:
    """Rounds are interleaved, so that a noisy neighbour hits every way alike; each way's best round is compared."""
    ways = {"ours": _ours, "single step": _single_step, "VACUUM INTO": _vacuum_into, "cp (unsafe)": _copy_file}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    stalls: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "live.db"
        make_database(source, MEGABYTES)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                took, stall = _measure(source, way)
                seconds[name].append(took)
                stalls[name].append(stall.worst_ms)
        if shutil.which("sqlite3"):
            took, stall = _measure(source, _shell)
            seconds["sqlite3 .backup"], stalls["sqlite3 .backup"] = [min(took, PATIENCE_SECONDS)], [stall.worst_ms]
    speed = {name: round(MEGABYTES / min(values), 1) for name, values in seconds.items()}
    stall_ms = {name: round(statistics.median(values), 2) for name, values in stalls.items()}
    ours, peers = "ours", [name for name in speed if name != "ours"]
    return [
        at_least(
            "backup speed under a writer, of single step",
            speed[ours] / speed["single step"],
            "ratio",
            0.9,
        ),
        Measurement("backup speed under a writer", speed[ours], "MB/s", peers={n: speed[n] for n in peers}),
        at_most("longest write held up", stall_ms[ours], "ms", 5, {n: stall_ms[n] for n in peers}),
    ]
