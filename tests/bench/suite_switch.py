"""One node, the engine alone: what its journal costs, and how soon it notices that lightningd has died."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _report, _report_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from faults.rig import Rig
from waiting import wait_until

from bench.measurement import Measurement, at_most, median_of

ROUNDS = 5
REPORTED_NODES = 50


@contextmanager
def _node() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory))
        rig.start()
        try:
            yield rig
        finally:
            rig.stop()


def _journal_share(rig: Rig) -> float:
    """The share of a switch that goes into writing and syncing its journal."""
    spent = 0.0
    append = Journal.append

    def timed(self: Journal, *arguments: Any, **named: Any) -> Any:
        nonlocal spent
        begun = time.perf_counter()
        try:
            return append(self, *arguments, **named)
        finally:
            spent += time.perf_counter() - begun

    shares = []
    for number in range(ROUNDS):
        rig.settle([rig.item("0.1.0")])
        spent, begun = 0.0, time.perf_counter()
        Journal.append = timed  # type: ignore[method-assign]
        try:
            rig.settle([rig.item(f"0.1.{number + 1}")])
        finally:
            Journal.append = append  # type: ignore[method-assign]
        shares.append(spent / (time.perf_counter() - begun))
    return statistics.median(shares)


def _death(rig: Rig) -> tuple[float, float]:
    """Seconds from lightningd's death in an open switch until it is noticed, and until the old stack answers."""
    old, new = [rig.item("0.1.0")], [rig.item("0.1.1")]
    rig.settle(old)
    outcome = rig.run("switched", new, deadman_seconds=120.0)
    assert outcome["phase"] == "switched", outcome
    who = rig.machine.identity()
    assert who is not None
    died, begun = time.time(), time.monotonic()
    os.kill(who.pid, signal.SIGKILL)
    wait_until(lambda: _runs(rig, "0.1.0"), 60, "the old stack answers")
    back = time.monotonic() - begun
    rig.wait_closed(30)
    last = rig.state().last
    assert last is not None
    noticed = next(entry["time"] for entry in last.entries if entry["event"] == "reverting") - died
    return noticed, back


def _runs(rig: Rig, version: str) -> bool:
    try:
        return rig.running() == {"hive-fixture": version}
    except HiveError:
        return False


def _report_seconds() -> float:
    """What one report of a large fleet takes, its files included."""
    item = {"name": "hive-fixture", "version": "0.1.1", "digest": "0" * 64, "enabled": True, "options": {}}
    journal = [{"seq": n, "time": 1000.0 + n, "event": "done", "data": {"step": "start"}} for n in range(40)]
    names = [f"node{number:02}" for number in range(REPORTED_NODES)]
    switch = {"phase": "switched", "after": [item], "downtime_ms": {"hive-fixture": 300.0}, "journal": journal}
    step = {"action": "upgrade", "before": [], "after": [item]}
    plan = {"digest": "d", "changes": len(names), "refused": [], "waves": [], "nodes": dict.fromkeys(names, step)}
    facts = _report.Facts(
        *("bench", "r", 0.0, 60.0),
        final=True,
        plan=plan,
        nodes=names,
        switches=dict.fromkeys(names, switch),
        confirms={name: {"phase": "confirmed", "journal": []} for name in names},
    )
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        _report_files.write(_report.build(facts), Path(directory))
        return time.perf_counter() - begun


def run() -> list[Measurement]:
    """On the fake lightningd with the small fixture plugin: its switch is short, so the journal's share is large."""
    with _node() as rig:
        share = _journal_share(rig)
        noticed, back = _death(rig)
    return [
        at_most("journal's share of a switch", share * 100, "%", 5),
        at_most(f"report of {REPORTED_NODES} nodes, written", median_of(5, _report_seconds), "s", 0.5),
        at_most("lightningd's death noticed", noticed, "s", 2),
        at_most("old stack answers after that death", back, "s", 10),
    ]
