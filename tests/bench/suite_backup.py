"""How fast a live 100 MB database is copied, and what its writer notices; beside what others do.

`sqlite3 .backup` copies in steps and starts again at every foreign commit, so under a writer it has a time limit here.
Reading a copy back (its check, a digest of every table, the checksum of the file) comes after the copy and holds up
nobody; what it costs is measured by itself.
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
from contextlib import ExitStack
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_digest import table_facts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import describe, read_back
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._sqlite import capture, check_copy

from bench.measurement import Measurement, Peers, at_least, at_most, told
from bench.writer import Stall, make_database, writing

MEGABYTES = 100
ROUNDS = 9
READINGS = 5
ROWS = 500_000
PLUGINS = 3
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


def _unsteady(source: Path, target: Path) -> None:
    """What `sqlite3 .backup` does, a hundred pages at a time, until its time is up."""
    reader, copy = sqlite3.connect(source), sqlite3.connect(target)
    deadline = time.monotonic() + PATIENCE_SECONDS

    def progress(_status: int, _left: int, _pages: int) -> None:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired("backup in steps", PATIENCE_SECONDS)

    try:
        reader.backup(copy, pages=100, progress=progress)
    finally:
        copy.close()
        reader.close()


def _copies(source: Path) -> list[Measurement]:
    """Rounds are interleaved, so that a noisy neighbour hits every way alike; each way's best round is compared."""
    ways = {"ours": _ours, "single step": _single_step, "VACUUM INTO": _vacuum_into, "cp (unsafe)": _copy_file}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    stalls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            took, stall = _measure(source, way)
            seconds[name].append(took)
            stalls[name].append(stall.worst_ms)
    in_steps = ("sqlite3 .backup", _shell) if shutil.which("sqlite3") else ("backup in steps (as .backup)", _unsteady)
    took, stall = _measure(source, in_steps[1])
    speed: dict[str, float | str] = {name: round(MEGABYTES / min(values), 1) for name, values in seconds.items()}
    stall_ms: dict[str, float | str] = {name: round(statistics.median(found), 2) for name, found in stalls.items()}
    speed[in_steps[0]] = "never" if took == float("inf") else round(MEGABYTES / took, 1)
    stall_ms[in_steps[0]] = round(stall.worst_ms, 2)
    ours, floor = MEGABYTES / min(seconds["ours"]), MEGABYTES / min(seconds["single step"])
    return [
        at_least("backup speed under a writer, of single step", ours / floor, "ratio", 0.9),
        Measurement("backup speed under a writer", round(ours, 1), "MB/s", peers=_others(speed)),
        at_most("longest write held up", statistics.median(stalls["ours"]), "ms", 5, _others(stall_ms)),
    ]


def _others(found: Peers) -> Peers:
    return {name: value for name, value in found.items() if name != "ours"}


def _together(directory: Path) -> Measurement:
    """The three databases of a stack, each with its own writer: what the worst of them notices of the one moment."""
    worst = []
    sources = {f"plugin-{number}": directory / f"plugin-{number}.db" for number in range(PLUGINS)}
    for path in sources.values():
        make_database(path, MEGABYTES // 10)
    for _ in range(ROUNDS):
        with ExitStack() as writers:
            stalls = [writers.enter_context(writing(path)) for path in sources.values()]
            targets = {name: (path, path.with_suffix(".copy")) for name, path in sources.items()}
            capture(targets, Owner(os.getuid(), os.getgid()))
        worst.append(max(stall.worst_ms for stall in stalls))
        for _, target in targets.values():
            target.unlink()
    return at_most("longest write held up, three databases at one moment", statistics.median(worst), "ms", 5)


def _best(way: Callable[[], object]) -> float:
    times = []
    for _ in range(READINGS):
        begun = time.perf_counter()
        way()
        times.append(time.perf_counter() - begun)
    return min(times)


def _readings(copy: Path, what: str) -> Measurement:
    """Reading a copy back as a backup does, two readers side by side; beside it each of its parts alone."""
    whole = _best(lambda: read_back(copy.parent, {"database": (copy, copy)}))
    return Measurement(
        f"reading back a copy of {what}",
        round(whole, 3),
        "s",
        peers={
            "digests of its tables": told(_best(lambda: table_facts(copy))),
            "quick_check and rows": told(_best(lambda: check_copy(copy))),
            "sha256 of the file": told(_best(lambda: describe(copy))),
        },
    )


def _small_rows(path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, peer TEXT, kind TEXT, msat INTEGER, at REAL)")
    connection.execute(
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO events SELECT i, hex(randomblob(33)), 'forward', i * 1000, i / 7.0 FROM n",
        (ROWS,),
    )
    connection.commit()
    connection.close()
    return path


def run() -> list[Measurement]:
    """Copy under writers, then read back."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = directory / "live.db"
        make_database(source, MEGABYTES)
        results = [*_copies(source), _together(directory)]
        for folder, what in (("large", f"{MEGABYTES} MB"), ("many", f"{ROWS // 1000} thousand small rows")):
            (directory / folder).mkdir()
            copy = directory / folder / "copy.db"
            if folder == "large":
                _ours(source, copy)
            else:
                _small_rows(copy)
            results.append(_readings(copy, what))
    return results
