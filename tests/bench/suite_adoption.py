"""How long a million rows of the monolith take to their new owners, and in how much memory; beside plain copies of it.

A plain copy moves bytes and proves nothing. Adoption reads every row, checks it, writes it, reads it again and
remembers a digest of it, so that a second pass can tell who changed what.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fixtures.monolith import NODE_ID, SIGNATURE, Wanted, build

from bench.measurement import Measurement, at_most

SECONDS = 60
MEGABYTES = 300
MODULES = {"cl_hive_comms": "cl_hive_comms.db", "cl_hive_archon": "cl_hive_archon.db"}


def _adopt(module: str, snapshot: Path, database: Path, final: bool) -> tuple[float, int, float]:
    """Seconds, rows that were taken, and megabytes at the peak, of one plugin's pass in a process of its own."""
    request = {
        "snapshot": str(snapshot),
        "database": str(database),
        "node_id": NODE_ID,
        "network": "regtest",
        "signatures": {"nostr_key_derivation": SIGNATURE},
        "final": final,
    }
    code = (
        "import resource, sys\n"
        f"from {module}.main import SPEC\n"
        "from hive_kit.adoption_run import command\n"
        "status = command(SPEC, '--hive-adopt', sys.stdin, sys.stdout)\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))\n"
        "sys.exit(status)\n"
    )
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - begun
    answer: dict[str, Any] = json.loads(done.stdout)
    adopted = sum(table["adopted"] for table in answer["tables"].values())
    return seconds, adopted, int(done.stderr) / 1024


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copies(source: Path) -> dict[str, float | str]:
    """Seconds of a plain copy of the file, by each way, on the disk at the end."""

    def cp(target: Path) -> None:
        shutil.copyfile(source, target)

    def vacuum(target: Path) -> None:
        connection = sqlite3.connect(source)
        connection.execute("VACUUM INTO ?", (str(target),))
        connection.close()

    def backup(target: Path) -> None:
        subprocess.run(["sqlite3", str(source), f".backup {target}"], check=True)

    ways = {"cp": cp, "VACUUM INTO": vacuum, **({"sqlite3 .backup": backup} if shutil.which("sqlite3") else {})}
    taken: dict[str, float | str] = {}
    for name, way in ways.items():
        target = source.with_name("plain.db")
        begun = time.perf_counter()
        way(target)
        _synced(target)
        taken[name] = round(time.perf_counter() - begun, 2)
        target.unlink()
    return taken


def run() -> list[Measurement]:
    """One run each: a minute's work, whose spread matters less than its size."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "cl_hive.db"
        build(source, Wanted("2.10.0", "large"))
        copies = _copies(source)
        passes = {
            final: [_adopt(module, source, Path(directory) / name, final) for module, name in MODULES.items()]
            for final in (False, True)
        }
        size = source.stat().st_size / 1e6
    seconds = {final: sum(one[0] for one in found) for final, found in passes.items()}
    rows = sum(one[1] for one in passes[False])
    peak = max(one[2] for found in passes.values() for one in found)
    return [
        Measurement("the monolith's database", round(size), "MB"),
        Measurement("rows that move", rows, "count"),
        at_most("adoption of all of them", seconds[False], "s", SECONDS, copies),
        Measurement("rows per second", round(rows / seconds[False]), "1/s"),
        at_most("memory at the peak", peak, "MB", MEGABYTES),
        Measurement("second pass, nothing changed", round(seconds[True], 2), "s"),
    ]
