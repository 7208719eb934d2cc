"""The plays of a run ask the results, not Ansible's counters, whether they may start."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.filter import rollout

Json = dict[str, Any]

WAVES = [
    {"name": "canary", "number": 0, "nodes": ["b"]},
    {"name": "wave 1", "number": 1, "nodes": ["c", "a"]},
    {"name": "wave 2", "number": 2, "nodes": ["d"]},
]
OK: Json = {"changed": True}


def fleet(**results: Json) -> dict[str, Json]:
    """The variables of four nodes; `results` adds registered ones by node."""
    nodes = {name: {"releases": [{"name": "x"}] if name != "d" else []} for name in "abcd"}
    run = {"hosts": ["b", "c", "a", "d"], "serial": [1, 2, 1], "waves": WAVES, "nodes": nodes}
    shared = {"__hive_gate_result": {"run": run}, "__hive_stage_result": OK}
    return {name: {**shared, **results.get(name, {})} for name in "abcd"}


def confirmed(*names: str) -> dict[str, Json]:
    return fleet(**{name: {"__hive_canary_confirm": OK} for name in names})


def test_the_order_and_the_batches_are_those_of_the_plan() -> None:
    assert rollout.planned_hosts(fleet()) == "b,c,a,d"
    assert rollout.planned_serial(fleet()) == [1, 2, 1]


def test_without_a_plan_nobody_is_changed() -> None:
    assert rollout.planned_hosts({"a": {}, "b": {}}) == rollout.NOBODY
    assert rollout.planned_serial({}) == [1]
    assert rollout.unconfirmed({}, "a") == rollout.unfinished_before({}, "a") == []


@pytest.mark.parametrize("result", [{"failed": True}, {"unreachable": True}, {"skipped": True}, None])
def test_one_node_that_is_not_staged_holds_all(result: Json | None) -> None:
    vars_ = fleet(c={"__hive_stage_result": result})
    assert rollout.unstaged(vars_) == ["c"]
    assert rollout.planned_hosts(vars_) == rollout.NOBODY


def test_a_node_that_needs_no_release_needs_no_staging() -> None:
    assert rollout.unstaged(fleet(d={"__hive_stage_result": {"skipped": True}})) == []


def test_a_stage_waits_for_all_earlier_ones() -> None:
    assert rollout.unfinished_before(confirmed(), "b") == []
    assert rollout.unfinished_before(confirmed(), "a") == ["b"]
    assert rollout.unfinished_before(confirmed("b"), "a") == []
    assert rollout.unfinished_before(confirmed("b", "c"), "d") == ["a"]
    assert rollout.unfinished_before(confirmed("a", "b", "c"), "d") == []


def test_a_stage_knows_who_was_not_kept() -> None:
    assert rollout.unconfirmed(confirmed("c"), "c") == ["a"]
    assert rollout.unconfirmed(fleet(c={"__hive_canary_confirm": {"failed": True}}), "a") == ["c", "a"]


def test_only_nodes_that_lack_releases_are_staged() -> None:
    assert rollout.staging_hosts(fleet()) == "a,b,c"
    assert rollout.staging_hosts({}) == rollout.NOBODY


def hive(forming: bool, tickets: Json | None) -> dict[str, Json]:
    """Two nodes that run cl-hive, and what the first answered when it was to invite."""
    run = {"nodes": {}, "hive": {"nodes": ["b", "a"], "node_ids": {}, "forming": forming}}
    shared = {"__hive_gate_result": {"run": run}}
    invited = {} if tickets is None else {"__hive_fleet_invitation": {"tickets": tickets}}
    return {"a": shared, "b": {**shared, **invited}}


def test_one_node_invites_and_all_join_when_one_is_missing() -> None:
    assert rollout.inviting_hosts(hive(True, None)) == "b"
    assert rollout.joining_hosts(hive(True, {"02aa": "ticket"})) == "b,a"


@pytest.mark.parametrize(("forming", "tickets"), [(False, {"02aa": "ticket"}), (True, {}), (True, None)])
def test_nobody_joins_a_hive_that_is_complete_or_not_wanted(forming: bool, tickets: Json | None) -> None:
    assert rollout.joining_hosts(hive(forming, tickets)) == rollout.NOBODY
    assert rollout.inviting_hosts(hive(False, None)) == rollout.NOBODY
