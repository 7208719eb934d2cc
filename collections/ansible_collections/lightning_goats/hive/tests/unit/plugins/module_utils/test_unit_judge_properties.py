"""What must hold of the judge whatever it is given, and its quality on fixed simulated fleets."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import cut
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.judge_shapes import (
    AFTER,
    BEFORE,
    SINCE,
    controls,
    judged,
    subject,
)
from bench.judge_fleets import SINCE as SWITCH
from bench.judge_fleets import Fault, Fleet
from bench.judge_rules import PUBLISHED_SCORE, before_and_after, mann_whitney, metrics, scores
from bench.judge_trials import STORM
from bench.judge_trials import judged as fleet_judged
from hypothesis import given, settings
from hypothesis import strategies as st

Json = dict[str, Any]

HEALTH = {"failing": 0, "inconclusive": 1, "healthy": 2}
KINDS = ("restarts", "channels_lost", "broken", "plugin", "crash", "health")
BREACHES = st.tuples(st.sampled_from(KINDS), st.integers(0, AFTER - 1))
NODES = ("alpha", "bravo", "charlie")


@functools.cache
def quiet(seed: int) -> Any:
    return subject(seed)


def broken(seed: int, breaches: list[tuple[str, int]]) -> Any:
    """A node with breaches in the samples of these numbers after the switch."""
    held = copy.deepcopy(quiet(seed))
    plugin = held.series["plugins"]["cl-hive"]
    plugin["healths"].append("failed")
    for kind, number in breaches:
        at = BEFORE + number
        if kind == "plugin":
            plugin["active"][at] = 0
        elif kind == "crash":
            plugin["restarts"][at] += 1
        elif kind == "health":
            plugin["health"][at] = len(plugin["healths"]) - 1
        else:
            held.series[kind][at] += 1
    return held


@given(st.lists(BREACHES, max_size=4), BREACHES)
@settings(max_examples=25, deadline=None)
def test_one_breach_more_never_makes_it_healthier(some: list[tuple[str, int]], another: tuple[str, int]) -> None:
    # A plugin that is not active has no health that could be bad.
    some = [held for held in some if another[0] != "plugin" or held[0] != "health"]
    fewer, more = (judged({"alpha": broken(1, held)})["verdict"] for held in (some, [*some, another]))
    assert HEALTH[more] <= HEALTH[fewer]


@given(st.permutations(NODES), st.permutations(range(3)), st.lists(BREACHES, max_size=3))
@settings(max_examples=10, deadline=None)
def test_the_order_of_nodes_changes_nothing(nodes: list[str], others: list[int], some: list[tuple[str, int]]) -> None:
    def stage(order: Any) -> dict[str, Any]:
        return {node: broken(1 + NODES.index(node), some if node == "bravo" else []) for node in order}

    beside = controls()
    shuffled = {name: beside[name] for name in (sorted(beside)[number] for number in others)}
    assert judged(stage(nodes), shuffled) == judged(stage(NODES), beside)


@given(st.floats(0.0, 2 * BEFORE * 60.0), st.integers(0, 300), st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_was_not_seen_is_never_healthy(since: float, minutes: int, accepted: bool) -> None:
    held = quiet(1)
    unseen = held._replace(series=cut(held.series, SINCE - since, SINCE))
    for stage in ({"alpha": unseen}, {"alpha": unseen, "bravo": quiet(2)}):
        answer = judged(stage, minutes=float(minutes), accepted=accepted)
        assert answer["verdict"] != "healthy"


@given(st.lists(BREACHES, max_size=3))
@settings(max_examples=10, deadline=None)
def test_controls_that_were_not_seen_are_none(some: list[tuple[str, int]]) -> None:
    empty = cut(quiet(9).series, 0, 1)
    with_them = judged({"alpha": broken(1, some)}, {"gone": empty})
    assert with_them == judged({"alpha": broken(1, some)}, {})


# -- quality on fixed seeds; tests/bench/suite_judge.py has the rates


@functools.cache
def fleet(seed: int, fault: Fault, minutes: float = 170.0) -> Fleet:
    return Fleet(seed, 4, fault, days_before=2.5, minutes=minutes)


SPARSE = Fault("sparse", pattern=(0, 1, 2, 1, 0, 0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sparse_errors_are_found_where_the_mann_whitney_rule_passes_them(seed: int) -> None:
    made = fleet(seed, SPARSE)
    answer = fleet_judged(made, 40.5)
    assert answer["verdict"] == "failing"
    assert answer["reasons"][0]["check"] == "errors"
    for minutes in (40.0, 160.0):
        later, earlier = before_and_after(made, minutes)
        assert mann_whitney(later["errors"], earlier["errors"]) <= PUBLISHED_SCORE


def _lines(counts: Sequence[int]) -> dict[int, Json]:
    """Samples with so many error lines each."""
    return {
        n: {"log": {"broken": ["plugin-cl-hive: x"] * count, "count": count, "errors": [], "errors_count": count}}
        for n, count in enumerate(counts)
    }


def test_forty_minutes_of_sparse_errors_are_enough_without_controls() -> None:
    held = subject(after=42, change=_lines((0, 1, 2, 1, 0, 0) * 7))
    answer = judged({"alpha": held}, {}, minutes=41.5)
    errors = next(held for held in answer["reasons"] if held["check"] == "errors")
    assert (answer["verdict"], errors["figures"]["count"]) == ("failing", 7)


def test_errors_without_a_pause_are_many() -> None:
    held = subject(after=42, change=_lines([1] * 42))
    assert judged({"alpha": held}, {}, minutes=41.5)["reasons"][0]["check"] == "errors"


def test_one_burst_is_no_series() -> None:
    held = subject(after=25, change=_lines((0, 0, 3, 5, 2, 1)))
    assert judged({"alpha": held}, {}, minutes=24.5)["state"] == "soaking"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fleet_with_nothing_wrong_is_not_halted(seed: int) -> None:
    made = fleet(seed, Fault("nothing"))
    for minutes in (20.5, 160.5):
        assert fleet_judged(made, minutes)["state"] == "soaking"


def test_which_the_mann_whitney_rule_halts() -> None:
    found = [scores(mann_whitney, before_and_after(fleet(seed, Fault("nothing")), 160.0)) for seed in (1, 2, 3)]
    assert max(max(each.values()) for each in found) > PUBLISHED_SCORE


def test_what_hits_all_nodes_alike_is_told_and_halts_nothing() -> None:
    answer = fleet_judged(fleet(1, STORM), 160.5)
    assert answer["state"] == "soaking"
    shared = [held for held in answer["reasons"] if "the control nodes" in held["detail"]]
    assert shared
    assert {held["verdict"] for held in shared} == {"healthy"}


@pytest.mark.parametrize(
    ("fault", "minutes", "check"),
    [
        (Fault("slow", latency=2.0), 160.5, "latency"),
        (Fault("loop", restarts=12.0), 40.5, "crash-loop"),
        (Fault("leak", leak=0.05), 640.5, "memory"),
    ],
    ids=["latency", "crash-loop", "leak"],
)
def test_what_is_wrong_is_found(fault: Fault, minutes: float, check: str) -> None:
    answer = fleet_judged(fleet(2, fault, minutes=650.0), minutes)
    assert answer["verdict"] == "failing"
    assert check in {held["check"] for held in answer["reasons"] if held["verdict"] == "failing"}


def test_a_fault_changes_only_what_it_is_about() -> None:
    plain, faulty = (fleet(1, fault).series["node00"] for fault in (Fault("nothing"), SPARSE))
    assert [name for name in plain if plain[name] != faulty[name]] == ["broken", "errors"]
    before = metrics(plain, SWITCH - 86400, SWITCH)
    assert np.ptp(before["rpc_ms"]) > 0
