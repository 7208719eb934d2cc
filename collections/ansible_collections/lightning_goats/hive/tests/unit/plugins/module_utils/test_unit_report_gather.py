"""What a run's tasks have registered, and the word and the reasons that a report makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan,
    _plan_hosts,
    _report,
    _report_gather,
    _report_page,
)
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    Json,
    item,
    manifest,
    observation,
)

NODES = ("alpha", "bravo", "charlie")
ARGUMENTS: Json = {"fleet": "f", "goal": "stack", "final": True}
OLD, NEW = [item(COMMS)], [item(COMMS, "0.1.1", options={"cl-hive-comms-token": "hunter2"})]
HEALTHY: Json = {"verdict": "healthy", "reasons": [], "samples": 6, "window_seconds": 3.0, "nodes": ["alpha"]}


def observed(**more: Any) -> dict[str, Json]:
    return {name: observation(name, OLD, value_at_risk_msat=index, **more) for index, name in enumerate(NODES)}


def planned(**more: Any) -> Json:
    manifests = {m["artifact"]["sha256"]: m for m in (manifest(COMMS), manifest(COMMS, "0.1.1"))}
    plan = _plan.plan(dict.fromkeys(NODES, NEW), dict(observed()), manifests, {"fleet": "f"})
    waves = [{**wave, "number": number} for number, wave in enumerate(plan["waves"])]
    run = {
        "waves": waves,
        "soaks": {wave["name"]: {"minutes": 60, "blocks": 6, "forwards": 1} for wave in waves},
        "held": [],
        "failure_budget": 0,
        **more,
    }
    return {"plan": plan, "run": run, "rollout": "r1", "started_at": 100.0}


def soak(state: str, nodes: list[str] | None = None, **more: Any) -> Json:
    """What hive_judge_soak says of the canary."""
    reason = {"node": "alpha", "check": "latency", "verdict": "failing", "detail": "it is slow", "figures": {}}
    bad = state in ("failed", "paused")
    stage = {
        "name": "canary",
        "number": 0,
        "nodes": nodes or ["alpha"],
        "state": state,
        "verdict": "failing" if state == "failed" else "inconclusive",
        "reasons": [reason] if bad else [],
        "progress": {"minutes": [30, 60]},
        "come_back_at": 5000.0,
        "samples": 30,
        "plots": {},
        "msg": "canary: words",
    }
    return {"state": state, "stages": [{**stage, **more}]}


def facts(results: dict[str, Json], **arguments: Any) -> _report.Facts:
    """The facts of a run in which these results were registered, by node and name; "*" is every node."""
    everywhere = {_plan_hosts.PLANNED: planned(), **results.pop("*", {})}
    variables = {
        name: {_plan_hosts.OBSERVED: {"observed": seen}, **everywhere, **results.get(name, {})}
        for name, seen in observed().items()
    }
    hosts = _plan_hosts.Hosts({"hostvars": variables, "ansible_play_hosts_all": list(NODES)})
    return _report_gather.gather(hosts, {**ARGUMENTS, **arguments})


def report(results: dict[str, Json], **arguments: Any) -> Json:
    return _report.build(facts(results, **arguments))


def switched(event: str = "confirmed") -> Json:
    """The results of a node that went through its switch."""
    entry = {"seq": 1, "time": 130.0, "event": event, "data": {}}
    done = {"phase": event, "journal": [entry], "journal_head": "ab"}
    return {
        _plan_hosts.SWITCHED: {"phase": "switched", "journal": [], "after": NEW},
        (_plan_hosts.CONFIRMED if event == "confirmed" else _plan_hosts.REVERTED): done,
        _plan_hosts.JUDGED: HEALTHY,
    }


def looked(*lines: str) -> Json:
    return {
        "results": [{"item": {"node": "alpha"}, "stdout_lines": []}, {"item": {"node": "bravo"}, "stdout_lines": lines}]
    }


def test_a_stage_that_was_confirmed_soaks_from_then_on() -> None:
    made = report({"alpha": switched()})
    assert (made["result"], made["nodes"]["alpha"]["result"]) == ("soaking", "confirmed")
    (begun,) = made["soaks"]
    assert (begun["stage"], begun["state"], begun["come_back_at"]) == ("canary", "soaking", 130.0 + 3600)
    assert [stage["soak"] for stage in made["stages"]] == ["soaking", None, None]
    assert "canary soaks" in _report.summary(made)


def test_without_a_soak_a_run_that_confirmed_all_is_a_success() -> None:
    made = report({"*": {_plan_hosts.PLANNED: planned(soaks={})}, **{node: switched() for node in NODES}})
    assert (made["result"], made["soaks"]) == ("success", [])


def test_a_stage_that_still_soaks_is_no_failure() -> None:
    made = report({"*": {_plan_hosts.SOAK_JUDGED: soak("soaking")}})
    assert (made["result"], made["reasons"]) == ("soaking", [])
    assert [made["nodes"][node]["result"] for node in NODES] == ["soaking", "untouched", "untouched"]
    assert [one["version"] for one in made["nodes"]["alpha"]["after"]] == ["0.1.1"]


def test_a_stage_that_failed_its_soak_went_back() -> None:
    back = {_plan_hosts.SOAK_BACK: {"phase": "confirmed", "journal": [], "journal_head": "cd"}}
    made = report({"*": {_plan_hosts.SOAK_JUDGED: soak("failed")}, "alpha": back})
    assert (made["result"], made["reasons"]) == ("reverted", ["alpha: it is slow"])
    assert made["nodes"]["alpha"]["result"] == "reverted"
    assert [one["version"] for one in made["nodes"]["alpha"]["after"]] == ["0.1.0"]


def test_a_stage_that_could_not_go_back_fails() -> None:
    back = {_plan_hosts.SOAK_BACK: {"failed": True, "msg": "no route"}}
    made = report({"*": {_plan_hosts.SOAK_JUDGED: soak("failed")}, "alpha": back})
    assert (made["result"], made["nodes"]["alpha"]["result"]) == ("failed", "failed")
    assert "no route" in made["reasons"]


def test_a_soak_that_tells_nothing_pauses_and_says_how_to_go_on() -> None:
    made = report({"*": {_plan_hosts.SOAK_JUDGED: soak("paused")}})
    assert made["result"] == "paused"
    assert any("hive_soak_accept=canary" in command for _, command in _report_page.steps(made))


def test_what_has_soaked_and_is_held_is_paused_with_its_reason() -> None:
    run = {_plan_hosts.PLANNED: planned(held=["alpha is paused (lunch)."]), _plan_hosts.SOAK_JUDGED: soak("soaked")}
    made = report({"*": run}, final=False)
    assert (made["result"], made["reasons"]) == ("paused", ["alpha is paused (lunch)."])
    assert made["nodes"]["alpha"]["result"] == "soaked"


def test_a_rollout_whose_last_stage_has_soaked_is_a_success() -> None:
    made = report({"*": {_plan_hosts.SOAK_JUDGED: soak("soaked", list(NODES))}})
    assert (made["result"], _report.summary(made)) == ("success", "Rollout r1: every stage has soaked.")


def test_a_brake_that_was_pulled_is_the_word_and_the_first_reason() -> None:
    stop = {"ansible_failed_result": {"failed": True, "msg": _plan_hosts.braked("bravo", "payments fail")}}
    made = report({"alpha": {**switched("reverted"), "__hive_canary_look": looked("brake: payments   fail"), **stop}})
    assert (made["result"], made["brakes"]) == ("braked", {"bravo": "payments fail"})
    assert made["reasons"] == [_plan_hosts.braked("bravo", "payments fail")]


def test_a_pause_between_two_stages_leaves_them_as_they_are() -> None:
    stop = {"ansible_failed_result": {"failed": True, "msg": "bravo is paused (lunch)"}}
    made = report({"alpha": {**switched(), "__hive_canary_look": looked("pause: lunch")}, "bravo": stop})
    assert (made["result"], made["pauses"]) == ("paused", {"bravo": "lunch"})
    assert any("resume.yml" in command for _, command in _report_page.steps(made))


@pytest.mark.parametrize(
    ("codes", "result"), [(("brake",), "braked"), (("paused",), "paused"), (("paused", "syncing"), "refused")]
)
def test_a_plan_that_is_refused(codes: tuple[str, ...], result: str) -> None:
    plan = planned()
    plan["plan"] |= {"waves": [], "refused": [{"node": "", "code": code, "message": f"{code}!"} for code in codes]}
    made = report({"*": {_plan_hosts.PLANNED: plan}})
    assert (made["result"], made["reasons"]) == (result, [f"{code}!" for code in codes])


def test_a_node_that_failed_within_the_budget_is_told_and_does_not_stop_the_run() -> None:
    failing: Json = {
        **HEALTHY,
        "verdict": "failing",
        "nodes": ["bravo"],
        "reasons": [{"node": "bravo", "check": "log", "verdict": "failing", "detail": "it broke"}],
    }
    results = {
        "*": {_plan_hosts.PLANNED: planned(soaks={}, failure_budget=1)},
        "alpha": switched(),
        "bravo": {**switched("reverted"), _plan_hosts.JUDGED: failing},
        "charlie": switched(),
    }
    made = report(results)
    assert (made["result"], made["nodes"]["bravo"]["result"]) == ("success", "reverted")


def test_gates_and_history_are_kept_and_option_values_are_not() -> None:
    finding = {"check": "A1", "gate": "A", "title": "suites", "state": "pass", "evidence": ["suite-x.json"]}
    blocked = {**finding, "check": "B1", "state": "block", "detail": "none is there"}
    gates = {"decision": "denied", "findings": [finding, blocked], "lines": ["x"]}
    past = [{"rollout": "r0", "result": "confirmed"}]
    results: dict[str, Json] = {"*": {_report_gather.GATES: gates}}
    results["alpha"] = {_plan_hosts.OBSERVED: {"observed": {**observed()["alpha"], "history": past}}}
    made = report(results)
    assert [found["check"] for found in made["gates"]["findings"]] == ["B1", "A1"]
    steps = list(_report_page.steps({**made, "result": "refused"}))
    assert [command for _, command in steps] == ["ansible-playbook playbooks/gates.yml"]
    assert made["history"] == {"alpha": past, "bravo": [], "charlie": []}
    lines = made["plan_lines"]["alpha"]["lines"]
    assert "  cl-hive-comms-token changes" in lines
    (row,) = made["plan_lines"]["alpha"]["plugins"]
    assert (row["change"], row["options"]) == ("upgrade", ["cl-hive-comms-token"])
    assert "hunter2" not in json.dumps(made)


def test_a_run_that_asked_no_check_has_no_gates() -> None:
    assert report({"*": {_report_gather.GATES: {"decision": "denied", "findings": []}}})["gates"] is None


@pytest.mark.parametrize(
    ("back", "result"),
    [
        ({"changed": True}, "reverted"),
        ({"failed": True, "msg": "it does not go back"}, "failed"),
        ({"changed": False}, "confirmed"),
    ],
)
def test_a_node_that_was_kept_and_taken_back_with_its_fleet_is_not_called_confirmed(back: Json, result: str) -> None:
    switched, kept = {"phase": "switched", "changed": True}, {"phase": "confirmed", "changed": True}
    results = {_plan_hosts.SWITCHED: switched, _plan_hosts.CONFIRMED: kept, _plan_hosts.FLEET_BACK: back}
    assert report({"alpha": results})["nodes"]["alpha"]["result"] == result
