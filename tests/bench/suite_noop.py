"""What a second `rollout.yml` costs that changes nothing."""

from __future__ import annotations

import time

from flows.flow_fleet import Fleet

from bench.fleets import fleet, stack
from bench.measurement import Measurement, at_most, median_of

GOALS = {3: 8.0, 10: 12.0}


def _seconds(made: Fleet) -> float:
    begun = time.perf_counter()
    outcome = made.good("rollout")
    took = time.perf_counter() - begun
    assert made.report["result"] == "unchanged", outcome.text
    return took


def run() -> list[Measurement]:
    """Whole `ansible-playbook` runs, start-up included, on fleets that already run the full stack."""
    results = []
    for count, goal in GOALS.items():
        with fleet("noop", count, hive_stack=stack("0.1.0")) as made:
            made.good("rollout")
            results.append(at_most(f"no-op rollout, {count} nodes", median_of(3, lambda: _seconds(made)), "s", goal))
    return results
