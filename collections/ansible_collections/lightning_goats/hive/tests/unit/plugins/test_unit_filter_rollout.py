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


class TestSoak:
    """Between the plan and the next stage stands the judge of the stage that soaks."""

    def soaking(self, verdict: Json | None, *held: str, **results: Json) -> dict[str, Json]:
        vars_ = fleet(**results)
        stage = {"name": "canary", "nodes": ["b"], "failed": {"x": "it died"}}
        run = {**vars_["a"]["__hive_gate_result"]["run"], "soaking": [stage], "controls": ["a"], "held": list(held)}
        hive = {"nodes": ["a", "b"], "node_ids": {}, "forming": True}
        for variables in vars_.values():
            variables["__hive_gate_result"] = {"run": {**run, "hive": hive, "ends": True}}
            if verdict is not None:
                variables["__hive_soak_verdict"] = verdict
        return vars_

    def verdict(self, state: str, **more: Any) -> Json:
        stages = [{"state": state, "msg": f"canary: {state}"}]
        empty: Json = {"soaked": [], "back": [], "dead": []}
        return {"state": state, "stages": stages, "msg": f"canary: {state}", **empty, **more}

    def test_its_nodes_and_those_not_changed_yet_are_asked_for_samples(self) -> None:
        assert rollout.soaking_hosts(self.soaking(None)) == "b,x,a"
        assert rollout.soaking_hosts(fleet()) == rollout.NOBODY

    @pytest.mark.parametrize("state", [None, "soaking", "failed", "paused"])
    def test_nobody_is_touched_before_it_has_soaked(self, state: str | None) -> None:
        vars_ = self.soaking(self.verdict(state) if state else None)
        assert rollout.planned_hosts(vars_) == rollout.staging_hosts(vars_) == rollout.NOBODY
        assert rollout.inviting_hosts(vars_) == rollout.joining_hosts(vars_) == rollout.NOBODY

    def test_then_the_next_stage_begins(self) -> None:
        vars_ = self.soaking(self.verdict("soaked"))
        assert rollout.planned_hosts(vars_) == "b,c,a,d"
        assert rollout.inviting_hosts(vars_) == "a"
        assert rollout.soak_stops(vars_) == []

    def test_while_it_soaks_the_run_ends_well(self) -> None:
        assert rollout.soak_stops(self.soaking(self.verdict("soaking"), "not approved")) == []

    @pytest.mark.parametrize("state", ["failed", "paused"])
    def test_else_it_says_why_it_ends(self, state: str) -> None:
        assert rollout.soak_stops(self.soaking(self.verdict(state))) == [f"canary: {state}"]

    def test_what_holds_the_next_stage_is_told_once_it_would_begin(self) -> None:
        found = rollout.soak_stops(self.soaking(self.verdict("soaked"), "This plan needs an approval."))
        assert found == ["canary: soaked. No further stage begins:", "This plan needs an approval."]

    def test_and_keeps_every_play_after_it_without_hosts(self) -> None:
        for vars_ in (
            self.soaking(self.verdict("soaked"), "braked"),
            self.soaking(self.verdict("soaked", soaked=["b"])),
        ):
            assert rollout.planned_hosts(vars_) == rollout.staging_hosts(vars_) == rollout.NOBODY
            assert rollout.inviting_hosts(vars_) == rollout.NOBODY

    def test_without_a_verdict_nothing_begins(self) -> None:
        assert "could not be judged" in rollout.soak_stops(self.soaking(None))[0]

    def test_a_node_that_could_not_be_taken_back_is_named(self) -> None:
        verdict = self.verdict("failed", back=["b", "c"])
        vars_ = self.soaking(verdict, b={"__hive_soak_back": OK}, c={"__hive_soak_back": {"failed": True}})
        assert rollout.not_back(vars_) == ["c"]
        assert "c could not be taken back" in rollout.soak_stops(vars_)[1]

    def test_nor_is_one_passed_over_that_could_not_write_it_down(self) -> None:
        assert "b could not write down" in rollout.soak_stops(self.soaking(self.verdict("soaked", soaked=["b"])))[0]


class TestWholeFleet:
    """Where all nodes are kept at once or none is."""

    def of(self, **results: Json) -> dict[str, Json]:
        vars_ = fleet(**results)
        for variables in vars_.values():
            variables["__hive_gate_result"]["run"]["commit"] = "fleet"
        return vars_

    def test_those_that_were_switched_are_kept_or_not_at_the_end(self) -> None:
        switched = {"__hive_canary_switch": OK}
        assert rollout.fleet_hosts(fleet(b=switched)) == rollout.NOBODY
        assert rollout.fleet_hosts(self.of(b=switched, c={"__hive_canary_switch": {"failed": True}})) == "b,c"

    def test_one_stage_that_is_not_healthy_is_enough(self) -> None:
        healthy = {"__hive_canary_switch": OK, "__hive_canary_verdict": {"verdict": "healthy", "reasons": []}}
        assert rollout.fleet_lost(self.of(a=healthy, b=healthy, c=healthy, d=healthy)) == []
        assert rollout.fleet_lost(self.of(a=healthy, b=healthy, c=healthy)) == ["d"]
        assert rollout.fleet_unconfirmed(self.of(a={"__hive_canary_confirm": OK})) == ["b", "c", "d"]
