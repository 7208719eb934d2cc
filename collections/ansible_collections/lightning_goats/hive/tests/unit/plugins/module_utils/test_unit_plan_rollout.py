"""A rollout that outlives its runs: found in the nodes' journals, planned again with the same digest, or not at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_rollout
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_rollout import AnotherPlanError
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Refusal
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    Json,
    item,
    manifest,
    observation,
)

NODES = ("alpha", "bravo", "charlie", "delta")
OLD, NEW = [item(COMMS)], [item(COMMS, "0.1.1")]
KNOWN = {m["artifact"]["sha256"]: m for m in (manifest(COMMS), manifest(COMMS, "0.1.1"), manifest(COMMS, "0.1.2"))}
SOAK = {"minutes": 60.0, "blocks": 6, "forwards": 2, "extend_minutes": 30.0}
SOAKS = {"canary": SOAK, "wave": {**SOAK, "minutes": 30.0}}
POLICY: Json = {
    "fleet": "test",
    "waves": [1, 1, 2],
    "min_free_bytes": 0,
    "fleet_nodes": list(NODES),
    "terms": {"soaks": SOAKS, "failure_budget": 0, "commit": "stage"},
    "unreachable": "fail",
    "failure_budget": 0,
}


class Rollout:
    """Four nodes on their way from 0.1.0 to 0.1.1, stage by stage."""

    def __init__(self, **policy: Any) -> None:
        self.policy = {**POLICY, **policy}
        self.desired = dict.fromkeys(NODES, NEW)
        self.seen: dict[str, Json | None] = {node: observation(node, copy.deepcopy(OLD)) for node in NODES}
        self.plan = _plan.plan(self.desired, self.seen, KNOWN, self.policy)
        assert self.plan["refused"] == []

    def switch(self, *nodes: str, state: str = "soaking", since: float = 1000.0) -> Rollout:
        """Let nodes have been switched, confirmed and be in a state of their soak."""
        steps = _plan.fingerprints(self.plan["nodes"])
        waves = [{**wave, "steps": [steps[node] for node in wave["nodes"]]} for wave in self.plan["waves"]]
        for node in nodes:
            number = next(n for n, wave in enumerate(waves) if node in wave["nodes"])
            back = state == "self-reverted"
            self.seen[node] = observation(node, copy.deepcopy(OLD if back else NEW))
            self.seen[node]["soak"] = {  # type: ignore[index]
                "rollout": "r1",
                "plan": self.plan["digest"],
                "stage": waves[number]["name"],
                "number": number,
                "waves": waves,
                "action": "upgrade",
                "soak": SOAK,
                "since": since + number,
                "since_height": 100,
                "previous": OLD,
                "target": NEW,
                "state": state,
                "reason": "it died" if back else "",
            }
        return self

    def back(self, node: str, kind: str = "switch", result: str = "reverted") -> Rollout:
        """Let a node have gone back."""
        self.seen[node] = observation(node, copy.deepcopy(OLD))
        past = {"rollout": "r1", "kind": kind, "result": result, "stage": "wave 1", "reason": "it was bad"}
        self.seen[node]["history"] = [past]  # type: ignore[index]
        return self

    @property
    def going(self) -> _plan_rollout.UnderWay:
        found = _plan_rollout.under_way(self.seen)
        assert found is not None
        return found

    def again(self, **policy: Any) -> Json:
        """The plan of the next run."""
        spent = _plan_rollout.abandoned(self.seen)
        return _plan_rollout.carry_on(
            self.going, self.desired, self.seen, KNOWN, {**self.policy, "spent": spent, **policy}
        )

    def stages(self, plan: Json) -> list[str]:
        return [stage["name"] for stage in _plan_rollout.to_do(plan, SOAKS)]

    def judged(self, plan: Json, budget: int = 0) -> list[tuple[str, list[str], list[str]]]:
        found = _plan_rollout.to_judge(plan, self.going, budget)
        return [(stage["name"], stage["nodes"], sorted(stage["failed"])) for stage in found]


def test_nothing_is_under_way_where_no_node_says_so() -> None:
    assert _plan_rollout.under_way(Rollout().seen) is None


def test_a_run_ends_with_the_stage_that_has_to_soak() -> None:
    rollout = Rollout()
    assert rollout.stages(rollout.plan) == ["canary"]
    brief = {"canary": _plan_rollout.NO_SOAK, "wave": SOAK}
    assert [stage["name"] for stage in _plan_rollout.to_do(rollout.plan, brief)] == ["canary", "wave 1"]
    assert len(_plan_rollout.to_do(rollout.plan, SOAKS, whole_fleet=True)) == 3


def test_the_plan_comes_out_the_same_while_a_stage_soaks() -> None:
    rollout = Rollout().switch("alpha")
    plan = rollout.again()
    assert plan["digest"] == rollout.plan["digest"]
    assert plan["waves"] == rollout.plan["waves"]
    assert rollout.judged(plan) == [("canary", ["alpha"], [])]
    assert rollout.stages(plan) == ["wave 1"]
    assert "  alpha: soaks" in _plan.describe(plan)


def test_and_after_it_has_soaked() -> None:
    rollout = Rollout().switch("alpha", state="soaked")
    plan = rollout.again()
    assert plan["digest"] == rollout.plan["digest"]
    assert (rollout.judged(plan), rollout.stages(plan)) == ([], ["wave 1"])


def test_a_node_that_was_killed_between_its_confirmation_and_its_lock_gives_the_lock_back() -> None:
    brief = {"canary": _plan_rollout.NO_SOAK, "wave": _plan_rollout.NO_SOAK}
    rollout = Rollout().switch("alpha", state="soaked")
    seen = rollout.seen["alpha"]
    assert seen is not None
    seen["soak"]["soak"] = _plan_rollout.NO_SOAK
    seen["lock"] = {"rollout": "r1", "owner": "r1", "stale": False}
    plan = rollout.again()
    assert plan["digest"] == rollout.plan["digest"]
    first = _plan_rollout.to_do(plan, brief)[0]
    assert (first["name"], first["nodes"]) == ("canary", ["alpha"])
    assert plan["nodes"]["alpha"]["action"] == "resume"


def test_a_rollout_of_which_every_node_has_soaked_is_complete() -> None:
    assert not Rollout().switch("alpha", "bravo", "charlie", state="soaked").going.complete()
    assert Rollout().switch(*NODES, state="soaked").going.complete()


def test_a_stage_that_was_interrupted_is_finished_before_it_is_judged() -> None:
    rollout = Rollout().switch("alpha", "bravo", state="soaked").switch("charlie")
    plan = rollout.again()
    assert (rollout.judged(plan), rollout.stages(plan)) == ([], ["wave 2"])
    assert _plan_rollout.to_do(plan, SOAKS)[0]["nodes"] == ["delta"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stack of the canary", "hive_stack of alpha, which it has already changed, was changed since"),
        ("stack of another", "hive_stack of charlie, or what runs there, was changed since"),
        ("what runs on another", "hive_stack of charlie, or what runs there, was changed since"),
        ("limit", "charlie is part of it and not of this run"),
        ("soaks", "the soaks, the failure budget or hive_commit were changed"),
    ],
)
def test_what_was_not_approved_does_not_go_on(change: str, words: str) -> None:
    rollout, policy = Rollout().switch("alpha"), {}
    if change == "stack of the canary":
        rollout.desired["alpha"] = [item(COMMS, "0.1.2")]
    elif change == "stack of another":
        rollout.desired["charlie"] = [item(COMMS, "0.1.2")]
    elif change == "what runs on another":
        rollout.seen["charlie"] = observation("charlie", [])
    elif change == "limit":
        del rollout.desired["charlie"], rollout.seen["charlie"]
    else:
        policy = {"terms": {**POLICY["terms"], "soaks": {**SOAKS, "canary": {**SOAK, "minutes": 1.0}}}}
    with pytest.raises(AnotherPlanError, match=words.replace("(", r"\(")):
        rollout.again(**policy)


def test_a_canary_that_broke_after_its_soak_is_put_right_by_another_plan() -> None:
    rollout = Rollout().switch("alpha", state="soaked")
    rollout.seen["alpha"] = {**observation("alpha", []), "soak": rollout.seen["alpha"]["soak"]}  # type: ignore[index]
    with pytest.raises(AnotherPlanError, match="alpha, which has soaked, needs work again"):
        rollout.again()


def test_a_canary_that_broke_in_its_soak_is_for_the_judge() -> None:
    rollout = Rollout().switch("alpha")
    rollout.seen["alpha"] = {
        **observation("alpha", [], lightningd={"running": False}),
        "soak": rollout.seen["alpha"]["soak"],  # type: ignore[index]
    }
    assert rollout.judged(rollout.again()) == [("canary", ["alpha"], [])]


def test_a_node_that_came_later_waits_for_the_next_rollout() -> None:
    rollout = Rollout().switch("alpha")
    rollout.desired["echo"], rollout.seen["echo"] = NEW, observation("echo", copy.deepcopy(OLD))
    plan = rollout.again()
    assert (plan["digest"], plan["later"]) == (rollout.plan["digest"], ["echo"])
    assert "not in this rollout, which began without them: echo" in " ".join(plan["remarks"])


def test_a_node_that_left_the_inventory_is_left_out() -> None:
    rollout = Rollout(fleet_nodes=["alpha", "bravo", "charlie"]).switch("alpha")
    del rollout.desired["delta"], rollout.seen["delta"]
    plan = rollout.again()
    assert plan["digest"] == rollout.plan["digest"]
    assert plan["left"] == {"delta": "delta is no longer in the inventory"}


def test_another_plan_says_who_is_not_judged_any_more() -> None:
    rollout = Rollout().switch("alpha")
    plan = _plan.plan(rollout.desired, rollout.seen, KNOWN, {**POLICY, "terms": {}})
    assert [line.partition(",")[0] for line in _plan_rollout.unjudged(plan, rollout.seen)] == [
        "alpha soaks in canary of rollout r1"
    ]
    rollout.desired["alpha"] = [item(COMMS, "0.1.2")]
    changed = _plan.plan(rollout.desired, rollout.seen, KNOWN, {**POLICY, "terms": {}})
    assert _plan_rollout.unjudged(changed, rollout.seen) == []


def test_a_canary_with_another_name_is_not_left_out_of_its_own_verdict() -> None:
    rollout = Rollout().switch("alpha")
    rollout.desired["alfa"], rollout.seen["alfa"] = rollout.desired.pop("alpha"), rollout.seen.pop("alpha")
    with pytest.raises(AnotherPlanError, match="alfa soaks in it under another name"):
        rollout.again(fleet_nodes=["alfa", "bravo", "charlie", "delta"])


def test_what_forbids_the_next_stage_keeps_nobody_from_judging_this_one() -> None:
    rollout = Rollout().switch("alpha")
    rollout.seen["bravo"] = observation("bravo", copy.deepcopy(OLD), lightningd={"synced": False})
    plan = rollout.again()
    assert (plan["refused"], [held["code"] for held in plan["held"]]) == ([], ["syncing"])
    assert "the next stage waits: bravo is still syncing" in " ".join(_plan.describe(plan))

    rollout.switch("alpha", state="soaked")
    assert [refusal["code"] for refusal in rollout.again()["refused"]] == ["syncing"]


def test_what_forbids_a_stage_that_is_finished_first_is_no_reason_to_wait_but_to_stop() -> None:
    rollout = Rollout().switch("alpha", "bravo", state="soaked").switch("charlie")
    rollout.seen["delta"]["lock"] = {"rollout": "r2", "owner": "somebody", "stale": False}  # type: ignore[index]
    plan = rollout.again()
    assert (rollout.judged(plan), [refusal["code"] for refusal in plan["refused"]]) == ([], ["locked"])


def test_nobody_waits_for_a_node_that_is_gone_for_good() -> None:
    rollout = Rollout(fleet_nodes=["alpha", "bravo", "charlie"]).switch("alpha", "bravo", state="soaked")
    del rollout.desired["delta"], rollout.seen["delta"]
    rollout.desired["echo"], rollout.seen["echo"] = NEW, observation("echo", copy.deepcopy(OLD))
    assert rollout.again()["later"] == ["echo"]
    rollout.switch("charlie", state="soaked")
    with pytest.raises(AnotherPlanError, match="nothing of it is left to do"):
        rollout.again()


def test_a_release_that_is_gone_keeps_nobody_from_judging_what_runs() -> None:
    rollout = Rollout().switch("alpha")
    rollout.desired["alpha"] = []
    gone = [Refusal("alpha", "unknown-release", "it is gone")]
    plan = _plan_rollout.carry_on(rollout.going, rollout.desired, rollout.seen, KNOWN, rollout.policy, gone)
    assert ([held["code"] for held in plan["held"]], plan["refused"]) == (["unknown-release"], [])
    assert rollout.judged(plan) == [("canary", ["alpha"], [])]


def test_another_run_that_is_under_way_does() -> None:
    rollout = Rollout().switch("alpha")
    busy = [Refusal("", "already-running", "wait for it")]
    plan = _plan_rollout.carry_on(rollout.going, rollout.desired, rollout.seen, KNOWN, rollout.policy, busy)
    assert [refusal["code"] for refusal in plan["refused"]] == ["already-running"]


class TestUnreachable:
    def gone(self, rollout: Rollout, node: str) -> Rollout:
        rollout.seen[node] = {"problems": [{"code": "unreachable", "message": f"{node} cannot be reached"}]}
        return rollout

    def test_a_node_of_a_later_stage_does_not_hinder_the_judge(self) -> None:
        plan = self.gone(Rollout().switch("alpha"), "bravo").again()
        assert (plan["refused"], [held["code"] for held in plan["held"]]) == ([], ["unreachable"])

    def test_one_that_soaks_does(self) -> None:
        rollout = Rollout().switch("alpha", state="soaked").switch("bravo")
        plan = self.gone(rollout.switch("charlie", "delta"), "charlie").again()
        assert [refusal["code"] for refusal in plan["refused"]] == ["unreachable"]

    def test_it_is_left_for_a_later_run_where_that_is_wanted(self) -> None:
        rollout = self.gone(Rollout(unreachable="leave").switch("alpha", state="soaked"), "bravo")
        plan = rollout.again()
        assert plan["digest"] == rollout.plan["digest"]
        assert (list(plan["left"]), rollout.stages(plan)) == (["bravo"], ["wave 2"])
        rollout.seen["bravo"] = observation("bravo", copy.deepcopy(OLD))
        assert rollout.stages(rollout.again()) == ["wave 1"]

    def test_the_canary_never(self) -> None:
        rollout = Rollout(unreachable="leave", waves=[2, 2]).switch("alpha")
        plan = self.gone(rollout, "bravo").again()
        assert [refusal["code"] for refusal in plan["refused"]] == ["unreachable"]

    def test_a_new_plan_does_without_it(self) -> None:
        rollout = self.gone(Rollout(), "alpha")
        plan = _plan.plan(rollout.desired, rollout.seen, KNOWN, {**POLICY, "unreachable": "leave"})
        assert (plan["refused"], plan["left"]) == ([], {"alpha": "alpha cannot be reached"})
        assert "alpha" not in [node for wave in plan["waves"] for node in wave["nodes"]]
        assert any("left out: alpha cannot be reached" in line for line in _plan.describe(plan))

    def test_a_fleet_of_which_nobody_can_be_reached_is_refused(self) -> None:
        seen = {"alpha": {"problems": [{"code": "unreachable", "message": "alpha cannot be reached"}]}}
        plan = _plan.plan({"alpha": NEW}, seen, KNOWN, {**POLICY, "unreachable": "leave"})
        assert [refusal["code"] for refusal in plan["refused"]] == ["unreachable"]


class TestFailures:
    def test_one_more_than_the_budget_ends_the_rollout(self) -> None:
        rollout = Rollout().switch("alpha", state="soaked").back("bravo")
        with pytest.raises(AnotherPlanError, match=r"more of its nodes failed.*bravo: it was bad"):
            rollout.again()

    @pytest.mark.parametrize(("kind", "result"), [("switch", "reverted"), ("rollback", "confirmed")])
    def test_within_the_budget_it_goes_on_without_the_node(self, kind: str, result: str) -> None:
        rollout = Rollout(failure_budget=1).switch("alpha", state="soaked").back("bravo", kind, result)
        plan = rollout.again()
        assert (plan["states"]["bravo"], rollout.stages(plan)) == ("failed", ["wave 2"])
        assert rollout.switch("charlie", "delta", state="soaked").going.complete()

    def test_what_was_only_refused_or_is_of_another_rollout_is_tried_again(self) -> None:
        rollout = Rollout().switch("alpha", state="soaked").back("bravo", "switch", "refused")
        assert rollout.stages(rollout.again()) == ["wave 1"]
        rollout.back("bravo").seen["bravo"]["history"][0]["rollout"] = "r0"  # type: ignore[index]
        assert rollout.stages(rollout.again()) == ["wave 1"]

    def test_a_canary_that_went_back_by_itself_is_judged_once_and_then_given_up(self) -> None:
        rollout = Rollout(failure_budget=3).switch("alpha", state="self-reverted")
        assert rollout.judged(rollout.again(), budget=3) == [("canary", [], ["alpha"])]
        rollout.seen["alpha"]["abandoned"] = [rollout.plan["digest"]]  # type: ignore[index]
        assert _plan_rollout.under_way(rollout.seen) is None

    def test_the_rest_of_its_stage_is_judged_with_it(self) -> None:
        rollout = Rollout().switch("alpha", "bravo", state="soaked").switch("charlie")
        rollout.switch("delta", state="self-reverted")
        assert rollout.judged(rollout.again()) == [("wave 2", ["charlie"], ["delta"])]

    def test_nobody_is_switched_to_finish_a_stage_in_which_too_many_failed(self) -> None:
        rollout = Rollout(waves=[1, 3]).switch("alpha", state="soaked").switch("charlie").back("bravo")
        plan = rollout.again()
        assert plan["states"]["delta"] == "todo"
        assert rollout.judged(plan) == [("wave 1", ["charlie"], ["bravo"])]
        within = Rollout(waves=[1, 3], failure_budget=1).switch("alpha", state="soaked").switch("charlie").back("bravo")
        assert within.judged(within.again(), budget=1) == []

    def test_within_the_budget_nobody_is_asked_about_it(self) -> None:
        rollout = Rollout(failure_budget=1).switch("alpha", state="soaked").switch("bravo", state="self-reverted")
        plan = rollout.again()
        assert (rollout.judged(plan, budget=1), rollout.stages(plan)) == ([], ["wave 2"])


class TestSpent:
    def test_a_plan_that_was_given_up_needs_another_approval(self) -> None:
        rollout = Rollout()
        first = rollout.plan["digest"]
        second = _plan.plan(rollout.desired, rollout.seen, KNOWN, {**POLICY, "spent": {first}})["digest"]
        third = _plan.plan(rollout.desired, rollout.seen, KNOWN, {**POLICY, "spent": {first, second}})["digest"]
        assert len({first, second, third}) == 3

    def test_and_goes_on_under_that(self) -> None:
        rollout = Rollout(spent={Rollout().plan["digest"]})
        rollout.switch("alpha").seen["bravo"]["abandoned"] = [Rollout().plan["digest"]]  # type: ignore[index]
        assert rollout.again()["digest"] == rollout.plan["digest"] != Rollout().plan["digest"]


class TestGivenUp:
    def test_what_it_changed_goes_back(self) -> None:
        found = Rollout().switch("alpha", state="soaked").switch("bravo").switch("charlie", state="self-reverted")
        nodes = _plan_rollout.given_up(found.seen)["nodes"]
        assert {node: facts["back"] for node, facts in nodes.items()} == {
            "alpha": True,
            "bravo": True,
            "charlie": False,
        }
        assert nodes["bravo"]["about"] == {"plan": found.plan["digest"], "name": "wave 1", "number": 1}

    def test_what_is_open_is_undone(self) -> None:
        rollout = Rollout()
        stage = {"plan": rollout.plan["digest"], "name": "canary", "number": 0}
        rollout.seen["alpha"]["transaction"] = {"rollout": "r1", "stage": stage}  # type: ignore[index]
        found = _plan_rollout.given_up(rollout.seen)
        assert (found["rollout"], found["nodes"]) == ("r1", {"alpha": {"open": True, "back": False, "about": stage}})

    def test_one_that_is_complete_is_not(self) -> None:
        found = _plan_rollout.given_up(Rollout().switch(*NODES, state="soaked").seen)
        assert (found["nodes"], found["words"]) == ({}, _plan_rollout.NOTHING_UNDER_WAY)
