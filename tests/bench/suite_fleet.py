"""What a fleet costs: the first rollout, and a second one that changes nothing; whole runs, start-up included.

Beside it stands one module that does nothing, run on every node by Ansible itself: what nobody can go below who asks
each node once.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from flows.flow_fleet import BIN, PLUGIN, ROOT

from bench.fleets import PLUGINS, BenchFleet, fleet, stack
from bench.measurement import Measurement, at_most, median_of

# The three plugins on small fleets; fifty nodes with them would need 8 GB of memory, so those have the small fixture.
FULL = {3: 8.0, 10: 12.0}
MANY, MANY_GOAL = 50, 45.0
ALL_IN_TWO = [1, "100%"]


def _seconds(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _no_op(made: BenchFleet) -> float:
    outcome = made.good("rollout")
    assert made.report["result"] == "unchanged", outcome.text
    return made.cost.seconds


def _floor(made: BenchFleet) -> None:
    """One module on every node that does nothing."""
    command = [str(BIN / "ansible"), "-i", str(made.inventory), "hive_nodes", "-m", "ansible.builtin.ping", "-o"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=made.environment)


def _measure(count: int, goal: float, what: str, runs: int, **variables: Any) -> list[Measurement]:
    with fleet("fleet", count, hive_soak_seconds=0, hive_waves=ALL_IN_TWO, **variables) as made:
        made.good("rollout")
        first = made.cost
        seconds = median_of(runs, lambda: _no_op(made))
        again = made.cost
        floor = round(min(_seconds(lambda: _floor(made)) for _ in range(runs)), 2)
    nodes = f"{count} nodes with {what}"
    return [
        at_most(f"no-op rollout, {nodes}", seconds, "s", goal, {"one empty module each": floor}),
        Measurement(f"CPU of it and of its nodes' modules, {nodes}", round(again.cpu, 1), "s"),
        Measurement(f"first rollout, canary and one wave, no soak, {nodes}", round(first.seconds, 1), "s"),
        Measurement(f"CPU of it, {nodes}", round(first.cpu, 1), "s"),
        Measurement(f"largest process on the controller, {nodes}", round(again.megabytes), "MB"),
    ]


def run() -> list[Measurement]:
    """BENCH_NODES=3,10 limits it to those sizes."""
    sizes = {int(size) for size in os.environ.get("BENCH_NODES", "3,10,50").split(",")}
    results = []
    for count, goal in FULL.items():
        if count in sizes:
            results += _measure(count, goal, f"{len(PLUGINS)} plugins", 3, hive_stack=stack("0.1.0"))
    if MANY in sizes:
        results += _measure(MANY, MANY_GOAL, PLUGIN, 1)
    return results
