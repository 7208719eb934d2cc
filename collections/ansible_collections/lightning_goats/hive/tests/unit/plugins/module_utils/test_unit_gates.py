"""What each check makes of evidence that is missing, failed, old, early, expired or about something else; waivers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gates_world
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _gates,
    _gates_checks,
    _gates_lines,
    _incidents,
    _registers,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._approvals import Approval, Approvals
from ansible_collections.lightning_goats.hive.plugins.module_utils._baseline import Baseline
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence_all import Collected
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import BLOCK, PASS, WAIVED, Trouble
from gates_world import NOW, OTHER, PLAN, RELEASES

Json = dict[str, Any]

DAY = 86400.0
# One piece of evidence of each check that stands on evidence.
ONE = {
    "A1": "suite-cl-hive",
    "B1": "install-process",
    "B2": "upgrade-systemd",
    "B3": "rollback-process",
    "B4": "drill-alpha",
    "C2": "surface-cl-hive",
    "C3": "mcp-tools",
    "C4": "runes-alpha",
    "C5": "audit-cl-hive",
    "C6": "sbom-cl-hive",
    "D1": "matrix-full",
    "D2": "matrix-mixed",
    "D3": "matrix-monolith",
}
FAULTS: Mapping[str, Json] = {
    "failed": {"result": "FAILED"},
    "stale": {"age_days": 45, "expires_days": None},
    "expired": {"expires_days": -0.1},
    "from the future": {"age_days": -1},
    "another artifact": {"subjects": {"cl-hive-0.1.0.pex": OTHER}},
}
# A bill of materials does not grow old.
NOT_SO = {("C6", "stale")}


def context(specs: Mapping[str, Json] | None = None, **changes: Any) -> _gates.Context:
    """What the checks look at when everything is there, with other evidence than that."""
    there = gates_world.good() if specs is None else specs
    settings: Json = {
        "now": NOW,
        "fleet": "main",
        "plan": PLAN,
        "releases": RELEASES,
        "nodes": gates_world.NODES,
        "runtimes": gates_world.RUNTIMES,
        "evidence": Collected({name: [gates_world.evidence(name, spec)] for name, spec in there.items()}),
        "defects": [],
        "findings": [],
        "incidents": [],
        "waivers": [],
        "approvals": Approvals([Approval(Path("a.json"), "alice@test", NOW - 60, NOW + DAY)]),
        "reviewed": gates_world.REVIEWED,
        "baseline": Baseline("v2.9.0", "ab" * 20, "alice@test", NOW - 90 * DAY),
        **changes,
    }
    return _gates.Context(**settings)


def state(check: str, seen: _gates.Context) -> str:
    return gates_world.finding(seen, check).state


def waiver(check: str, subject: str = "fleet", days: float = 5) -> _registers.Waiver:
    return _registers.Waiver(check, subject, "alice", "the tool is down", "looked at by hand", NOW + days * DAY)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("check", ONE)
def test_evidence_that_is_not_as_asked_blocks(check: str, fault: str) -> None:
    good = gates_world.good()
    good.pop("drill-bravo")
    name = ONE[check]
    assert state(check, context(good)) == PASS
    spoiled = context({**good, name: {**good[name], **FAULTS[fault]}})
    assert state(check, spoiled) == (PASS if (check, fault) in NOT_SO else BLOCK)


@pytest.mark.parametrize("check", ONE)
def test_evidence_that_is_missing_blocks_and_says_what_makes_it(check: str) -> None:
    good = gates_world.good()
    good.pop("drill-bravo")
    del good[ONE[check]]
    found = gates_world.finding(context(good), check)
    assert found.state == BLOCK
    assert re.match(r"ansible-playbook (-i <a lab of \w+ nodes[^>]*> )?playbooks/\w+\.yml", found.as_dict()["command"])


@pytest.mark.parametrize("check", [check.name for check in _gates_checks.CHECKS])
def test_a_deadline_that_passed_blocks(check: str) -> None:
    late = Trouble("it did not answer within 20 s")
    parts = ("evidence", "defects", "findings", "incidents", "approvals", "baseline", "issues")
    nothing: Json = dict.fromkeys(parts, late)
    found = gates_world.finding(context(None, **nothing), check)
    assert found.state == BLOCK
    assert "did not answer" in found.detail or found.check == "B4"


def test_checks_have_their_names_and_deadlines() -> None:
    names = " ".join(check.name for check in _gates_checks.CHECKS)
    assert names == "A1 A2 A3 B1 B2 B3 B4 C1 C2 C3 C4 C5 C6 D1 D2 D3 S1 S2"
    assert all(check.name.startswith(check.gate) for check in _gates_checks.CHECKS)
    files_only = {check.name for check in _gates_checks.CHECKS if check.deadline_seconds == 0}
    assert files_only == {"A3", "C1"}


def test_the_newest_statement_about_the_artifact_decides() -> None:
    good = gates_world.good()
    name = "suite-cl-hive"
    failed, passed = (gates_world.evidence(name, {**good[name], "result": word}) for word in ("FAILED", "PASSED"))
    other = gates_world.evidence(name, {**good[name], **FAULTS["another artifact"], "result": "FAILED"})
    rest = dict(context().evidence.found)  # type: ignore[union-attr]
    for order, expected in (([failed, passed], BLOCK), ([passed, failed], PASS), ([other, passed], PASS)):
        assert state("A1", context(evidence=Collected({**rest, name: order}))) == expected


def test_one_node_whose_drill_failed_blocks_beside_one_that_held() -> None:
    good = gates_world.good()
    spoiled = {**good, "drill-bravo": {**good["drill-bravo"], "result": "FAILED"}}
    assert "drill-bravo FAILED" in gates_world.finding(context(spoiled), "B4").detail


def test_a_reviewed_list_that_was_changed_makes_its_evidence_old() -> None:
    for check, file in (("C2", "rpc.toml"), ("C3", "mcp-tools.toml"), ("C4", "runes.toml")):
        assert state(check, context()) == PASS
        changed = context(None, reviewed={**gates_world.REVIEWED, file: PLAN})
        assert f"was not held against {file}" in gates_world.finding(changed, check).detail


def test_without_releases_nodes_or_runtimes_nothing_passes_by_itself() -> None:
    empty = context(releases=[], nodes=[], runtimes=[])
    passed = {check.name for check in _gates_checks.CHECKS if state(check.name, empty) == PASS}
    # What has nothing to do with artifacts.
    assert passed == {"A2", "A3", "C1", "C3", "S1", "S2"}


def test_a_plugin_that_the_matrix_does_not_know_blocks() -> None:
    foreign = _gates.Release("cl-revenue-ops", "2.2.6", OTHER)
    found = gates_world.finding(context(releases=[*RELEASES, foreign]), "D1")
    assert "no combination with cl-revenue-ops" in found.detail


def test_two_versions_of_a_plugin_in_one_fleet_are_each_executed() -> None:
    """One node is pinned to an older release: it too was tried, with the others as they are."""
    pinned = [*RELEASES, _gates.Release("cl-hive", "0.0.9", OTHER)]
    found = gates_world.finding(context(releases=pinned), "D1")
    assert "matrix-full is about other artifacts than these" in found.detail
    there = dict(context().evidence.found)  # type: ignore[union-attr]
    for name, plugins in _gates_checks.COMBINATIONS.items():
        if "cl-hive" in plugins:
            digests = {**{p: gates_world.DIGESTS[p] for p in plugins}, "cl-hive": OTHER}
            older = gates_world.evidence(f"matrix-{name}", {"subjects": digests})
            there[f"matrix-{name}"] = [*there[f"matrix-{name}"], older]
    assert state("D1", context(releases=pinned, evidence=Collected(there))) == PASS


def test_adoption_and_the_way_back_are_as_good_as_the_matrix() -> None:
    good = gates_world.good()
    every = good.pop("matrix-monolith")
    ways = {"adoption-process": every, "carry-back-systemd": every}
    assert state("D3", context({**good, **ways})) == PASS
    assert state("D3", context({**good, "adoption-docker": every, "carry-back-docker": every})) == BLOCK


@pytest.mark.parametrize(
    ("age", "severity", "closed", "expected"),
    [(13, 1, True, BLOCK), (13, 2, True, BLOCK), (13, 3, False, PASS), (15, 2, True, PASS), (15, 2, False, BLOCK)],
)
def test_incidents_count_for_fourteen_days_and_while_they_are_open(
    age: float, severity: int, closed: bool, expected: str
) -> None:
    opened = time.strftime(_incidents.DAY, time.gmtime(NOW - age * DAY))
    one = _incidents.Incident("i", opened, severity, "t", "r", "s", [], [], [], "closed" if closed else "open")
    assert state("A3", context(incidents=[one])) == expected


def test_issues_of_high_priority_block() -> None:
    assert state("A2", context(issues={"o/r": []})) == PASS
    found = gates_world.finding(context(issues={"o/r": ["o/r#7 is open: it burns"]}), "A2")
    assert (found.state, found.detail) == (BLOCK, "o/r#7 is open: it burns")


@pytest.mark.parametrize(("needed", "approved", "expected"), [(2, "", BLOCK), (0, "", BLOCK), (0, PLAN, PASS)])
def test_how_many_approvals(needed: int, approved: str, expected: str) -> None:
    assert state("S1", context(needed=needed, approved=approved)) == expected
    assert state("S1", context(needed=needed, approved=approved, plan="")) == BLOCK


# Waivers


def test_a_waived_check_is_waived_and_never_passed() -> None:
    good = gates_world.good()
    del good["audit-cl-hive"]
    found = gates_world.finding(context(good, waivers=[waiver("C5", "cl-hive")]), "C5")
    assert found.state == WAIVED
    assert found.as_dict()["waiver"] == {
        "owner": "alice",
        "reason": "the tool is down",
        "control": "looked at by hand",
        "expires_at": NOW + 5 * DAY,
    }
    assert "alice answers until" in found.detail
    assert "audit-cl-hive: there is none" in found.detail


@pytest.mark.parametrize(
    "one",
    [waiver("C5", "cl-hive-comms"), waiver("C6", "cl-hive"), waiver("C5", "cl-hive", days=-1)],
    ids=["another plugin", "another check", "ended"],
)
def test_a_waiver_of_something_else_or_that_ended_changes_nothing(one: _registers.Waiver) -> None:
    good = gates_world.good()
    del good["audit-cl-hive"]
    assert gates_world.finding(context(good, waivers=[one]), "C5").state == BLOCK


def test_each_thing_that_is_missing_needs_its_waiver() -> None:
    good = gates_world.good()
    del good["audit-cl-hive"], good["audit-cl-hive-comms"]
    one, other, all_ = waiver("C5", "cl-hive"), waiver("C5", "cl-hive-comms"), waiver("C5")
    states = [gates_world.finding(context(good, waivers=w), "C5").state for w in ([one], [one, other], [all_])]
    assert states == [BLOCK, WAIVED, WAIVED]


@pytest.mark.parametrize("check", sorted(_gates.NEVER_WAIVED))
def test_some_checks_nobody_can_answer_for(check: str) -> None:
    late = Trouble("late")
    spoiled = context(waivers=[waiver(check)], evidence=late, approvals=late, baseline=late)
    decision = _gates.decide([one for one in _gates_checks.CHECKS if one.name == check], spoiled)
    assert decision.findings[0].state == BLOCK
    assert f"{check} cannot be waived" in " ".join(decision.remarks)


def test_waivers_that_nobody_signed_count_for_nothing_and_are_told() -> None:
    good = gates_world.good()
    del good["audit-cl-hive"]
    decision = _gates.decide(_gates_checks.CHECKS, context(good, waivers=Trouble("waivers.yml.sig is missing")))
    assert not decision.allowed
    assert decision.remarks == ["No waiver counts: waivers.yml.sig is missing"]


# Words


def test_the_table_and_what_to_do() -> None:
    good = gates_world.good()
    del good["suite-cl-hive"], good["matrix-full"]
    decision = _gates.decide(_gates_checks.CHECKS, context(good, waivers=[waiver("D1"), waiver("Z9")]))
    told = _gates_lines.lines(decision)
    assert told[0].split() == ["GATE", "CHECK", "STATE", "AGE", "DETAIL"]
    rows = {line.split()[1]: line for line in told[1:] if len(line.split()) > 2 and line[:1] in "ABCDS"}
    assert rows["A1"].startswith("A     A1     block   24 h  suite-cl-hive: there is none")
    assert "waived" in rows["D1"]
    assert rows["B4"].split("  ")[-1] == "restored in 2.5 s (RTO), sets 60 s behind (RPO)"
    assert "The waiver of Z9 for fleet by alice is of no check that there is: correct it." in told
    assert f"  A1: {_gates_checks.SUITES}" in told
    code, sentence = _gates_lines.refusal(decision)
    assert code == "gates"
    assert "A1 suites of the exact release sources are green: suite-cl-hive: there is none" in sentence
    assert "D1" not in sentence


def test_open_gates_have_nothing_to_do() -> None:
    decision = _gates.decide(_gates_checks.CHECKS, context())
    assert decision.allowed
    assert _gates_lines.lines(decision)[-1] == "All gates are open."
    assert _gates_lines.refusal(decision) == ("", "")
    assert max(map(len, _gates_lines.lines(decision))) <= _gates_lines.WIDTH


def test_runes_of_a_node_of_the_same_name_in_another_fleet_prove_nothing() -> None:
    good = gates_world.good()
    good["runes-alpha"] = {**good["runes-alpha"], "facts": {"fleet": "lab"}}
    found = gates_world.finding(context(good), "C4")
    assert (found.state, found.detail) == (BLOCK, "runes-alpha is of another fleet than main")
    # Nor do they stand in the way of those that are of this one.
    newer, ours = (
        gates_world.evidence("runes-alpha", one) for one in (good["runes-alpha"], gates_world.good()["runes-alpha"])
    )
    every = {name: [gates_world.evidence(name, spec)] for name, spec in good.items()}
    assert state("C4", context(good, evidence=Collected({**every, "runes-alpha": [newer, ours]}))) == PASS
    del good["runes-alpha"]["facts"]
    assert state("C4", context(good)) == BLOCK


@pytest.mark.parametrize(("check", "name"), [("C2", "surface-cl-hive"), ("C3", "mcp-tools"), ("C4", "runes-alpha")])
def test_lists_of_the_operator_count_as_they_are_now(check: str, name: str) -> None:
    """Evidence that was held against a list of somebody's own, which the fleet does not have, proves nothing."""
    file = {"C2": "rpc.toml", "C3": "mcp-tools.toml", "C4": "runes.toml"}[check]
    good = gates_world.good()
    own = {f"own/{file}": gates_world.OTHER}
    with_own = {**gates_world.REVIEWED, **own}
    assert state(check, context(good, reviewed=with_own)) == BLOCK
    spec = {**good[name], "subjects": {**good[name]["subjects"], **own}}
    assert state(check, context({**good, name: spec})) == BLOCK
    others = {key: {**one, "subjects": {**one["subjects"], **own}} for key, one in good.items()}
    assert state(check, context(others, reviewed=with_own)) == PASS


@pytest.mark.parametrize(
    ("node", "age", "expected"), [("gone", 1, BLOCK), ("gone", 40, PASS), ("bravo", 1, BLOCK), ("bravo", 40, BLOCK)]
)
def test_a_failed_drill_of_a_node_that_is_no_more_ends(node: str, age: float, expected: str) -> None:
    good = gates_world.good()
    good[f"drill-{node}"] = {**good["drill-bravo"], "result": "FAILED", "age_days": age, "expires_days": 30 - age}
    assert state("B4", context(good)) == expected
