"""How a stage went: who is lost, whether the fleet's budget has room for that, and who may go on."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.action import hive_judge_soak
from ansible_collections.lightning_goats.hive.plugins.filter import rollout
from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_soak, _plan_run, _plan_stage

Json = dict[str, Any]

WAVES: list[Json] = [
    {"name": "canary", "number": 0, "nodes": ["a"]},
    {"name": "wave 1", "number": 1, "nodes": ["b", "c"]},
    {"name": "wave 2", "number": 2, "nodes": ["d"]},
]
OK: Json = {"changed": True}
OPEN: Json = {"windows": {"windows": [], "timezone": "UTC"}}
BAD: Json = {"failed": True, "msg": "no"}


class Fleet:
    """What tasks registered on four nodes."""

    def __init__(self, budget: int = 1, **more: Any) -> None:
        self.run = {"waves": WAVES, "failure_budget": budget, "failed": {}, "commit": "stage", "nodes": {}, **more}
        self.registered: dict[str, Json] = {
            node: {"__hive_canary_switch": OK, "__hive_canary_confirm": OK} for node in "abcd"
        }

    def look(self, node: str, name: str) -> Json | None:
        return self.registered[node].get(name)

    def broken(self, node: str, name: str = "__hive_canary_switch") -> Fleet:
        self.registered[node][name] = BAD
        self.registered[node].pop("__hive_canary_confirm", None)
        return self

    def verdict(self, stage: int, word: str, *reasons: tuple[str, str]) -> Fleet:
        told = [{"node": node, "verdict": verdict, "check": "x", "detail": "y"} for node, verdict in reasons]
        for node in WAVES[stage]["nodes"]:
            self.registered[node]["__hive_canary_verdict"] = {"verdict": word, "reasons": told}
        return self

    def within(self, node: str) -> bool:
        return _plan_stage.within_budget(self.run, self.look, node)


def test_nobody_is_lost_where_nothing_failed() -> None:
    fleet = Fleet()
    assert (_plan_stage.lost(fleet.look, WAVES[1]), fleet.within("b")) == ([], False)
    assert _plan_stage.unfinished_before(fleet.run, fleet.look, "d") == []


@pytest.mark.parametrize("name", ["__hive_canary_switch", "__hive_canary_probe", "__hive_canary_part"])
def test_one_that_failed_is_lost_and_the_budget_has_room_for_it(name: str) -> None:
    fleet = Fleet().broken("b", name)
    assert (_plan_stage.lost(fleet.look, WAVES[1]), fleet.within("b")) == (["b"], True)
    assert _plan_stage.spared(fleet.run, fleet.look, "c")
    assert not _plan_stage.spared(fleet.run, fleet.look, "b")
    assert _plan_stage.unkept(fleet.run, fleet.look, "c") == []
    assert _plan_stage.unfinished_before(fleet.run, fleet.look, "d") == []
    assert _plan_stage.allowed_losses(fleet.run, fleet.look) == ["b"]


def test_one_that_the_verdict_names_is_lost() -> None:
    fleet = Fleet().verdict(1, "failing", ("c", "failing"))
    fleet.registered["c"].pop("__hive_canary_confirm")
    assert (_plan_stage.lost(fleet.look, WAVES[1]), fleet.within("c")) == (["c"], True)


@pytest.mark.parametrize("reasons", [[("", "inconclusive")], [("c", "failing"), ("b", "inconclusive")]])
def test_a_verdict_that_does_not_say_whom_it_means_spares_nobody(reasons: list[tuple[str, str]]) -> None:
    fleet = Fleet(budget=4).verdict(1, "failing", *reasons).broken("c")
    assert not fleet.within("b")
    assert not _plan_stage.spared(fleet.run, fleet.look, "b")


def test_the_canary_never_may_fail() -> None:
    fleet = Fleet(budget=4).broken("a")
    assert not fleet.within("a")
    assert _plan_stage.unfinished_before(fleet.run, fleet.look, "b") == ["a"]


def test_the_budget_is_one_for_the_whole_fleet_and_all_its_runs() -> None:
    assert not Fleet().broken("b").broken("d").within("d")
    assert not Fleet(failed={"earlier": "it was bad"}).broken("d").within("d")
    assert Fleet(budget=2).broken("b").broken("d").within("d")
    assert not Fleet(budget=0).broken("b").within("b")


class TestWholeFleet:
    def test_a_stage_that_is_switched_and_healthy_lets_the_next_begin(self) -> None:
        fleet = Fleet(commit="fleet").verdict(0, "healthy")
        assert _plan_stage.unfinished_before(fleet.run, fleet.look, "b") == []

    @pytest.mark.parametrize("word", ["failing", "inconclusive", None])
    def test_one_that_is_not_does_not(self, word: str | None) -> None:
        fleet = Fleet(commit="fleet", budget=4)
        if word:
            fleet.verdict(0, word)
        assert _plan_stage.unfinished_before(fleet.run, fleet.look, "b") == ["a"]
        assert not fleet.within("a")


class TestStops:
    def stopped(self, beginning: bool, *lines: str, **run: Any) -> list[str]:
        """What stops a batch of b and c, of which c has looked at a and could not reach d."""
        own = {"results": [{"item": {"node": "b"}, "stdout_lines": []}]}
        share = {"results": [{"item": {"node": "a"}, "stdout_lines": list(lines)}, {"item": {"node": "d"}}]}
        hostvars = {
            "b": {"__hive_gate_result": {"run": {**OPEN, **run}}, "__hive_canary_look": own},
            "c": {"__hive_canary_look": share},
        }
        return rollout.stopped(["b", "c"], hostvars, beginning)

    def test_a_brake_always_stops(self) -> None:
        for beginning in (True, False):
            (sentence,) = self.stopped(beginning, "brake: it  burns ")
            assert "The brake of a is set (it burns)" in sentence

    def test_a_pause_only_before_a_stage(self) -> None:
        assert self.stopped(False, "pause: ") == []
        (sentence,) = self.stopped(True, "pause: ")
        assert "a is paused (no reason is given)" in sentence

    def test_and_so_does_a_window_that_has_shut(self) -> None:
        never = {"windows": [{"days": ["mon"], "start": "00:00", "end": "00:01"}], "timezone": "UTC"}
        found = self.stopped(True, windows=never)
        assert self.stopped(False, windows=never) == []
        assert found in ([], [sentence for sentence in found if "run again after Mon" in sentence])


class TestSoakJudged:
    """The stages after their judge: who goes on, who goes back."""

    def judged(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], **stage: Any) -> Json:
        """The verdict over a stage of which each node is as said; a stage is as bad as its worst node."""

        def judge(subjects: Json, controls: Json, policy: Json) -> Json:
            order = ["failing", "inconclusive", "healthy"]
            verdict = next((word for word in order if any(answers[node] == word for node in subjects)), "inconclusive")
            state = {"failing": "failed", "healthy": "soaked", "inconclusive": "soaking"}[verdict]
            reasons = [
                {"node": n, "verdict": answers[n], "check": "x", "detail": "y"}
                for n in subjects
                if answers[n] != "healthy"
            ]
            progress = {"minutes": [1, 2], "blocks": [0, 0], "forwards": [0, 0]}
            return {"verdict": verdict, "state": state, "reasons": reasons, "progress": progress} | {
                "remaining_seconds": 60,
                "come_back_at": 60,
                "samples": 3,
                "plots": {},
            }

        monkeypatch.setattr(_judge_soak, "judge_soak", judge)
        given: Json = {"name": "wave 1", "number": 1, "nodes": list(answers), "failed": {}, **stage}
        given["members"] = {n: {"since": 1.0, "since_height": 1, "expected": []} for n in answers}
        given["soak"] = {"minutes": 1, "blocks": 0, "forwards": 0, "extend_minutes": 0}
        run = {"failure_budget": 1, "failed": dict(given["failed"]), "controls": []}
        asked = {"accept": "", "interval_seconds": 1, "restarts_allowed": 0}
        return hive_judge_soak.judged(given, run, {node: {} for node in answers}, asked)

    def test_all_healthy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.judged(monkeypatch, {"a": "healthy", "b": "healthy"})
        assert (found["state"], found["soaked"], found["back"]) == ("soaked", ["a", "b"], [])

    def test_one_that_fails_within_the_budget_goes_back_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.judged(monkeypatch, {"a": "healthy", "b": "failing"})
        assert (found["state"], found["soaked"], found["back"]) == ("soaked", ["a"], ["b"])
        found = self.judged(monkeypatch, {"a": "inconclusive", "b": "failing"})
        assert (found["state"], found["soaked"], found["back"]) == ("soaking", [], ["b"])

    def test_two_take_the_stage_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.judged(monkeypatch, {"a": "failing", "b": "failing", "c": "healthy"})
        assert (found["state"], found["soaked"], found["back"]) == ("failed", [], ["a", "b", "c"])

    def test_one_canary_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.judged(monkeypatch, {"a": "failing", "b": "healthy"}, name="canary", number=0)
        assert (found["state"], found["back"]) == ("failed", ["a", "b"])

    def test_a_canary_that_went_back_by_itself_has_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.judged(monkeypatch, {}, name="canary", number=0, failed={"a": "it died"})
        assert (found["state"], found["back"], found["soaked"]) == ("failed", ["a"], [])
        assert "it went back by itself: it died" in found["msg"]


def test_the_window_is_watched_in_parts_no_longer_than_a_probe_s_interval() -> None:
    assert _plan_run.parts(3, 30) == [3]
    assert _plan_run.parts(600, 30) == [30] * 20
    assert _plan_run.parts(0, 30) == [0]
    assert sum(_plan_run.parts(100, 30)) == pytest.approx(100)
