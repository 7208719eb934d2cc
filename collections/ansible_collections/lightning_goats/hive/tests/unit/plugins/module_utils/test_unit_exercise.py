"""What a run has proven by doing it, written down once and signed; what cannot be written is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _exercise,
    _exercise_record,
    _incidents,
    _plan,
    _release_keys,
    _report,
    _report_soak,
)
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    HIVE,
    Json,
    item,
    manifest,
    observation,
)

NODES = ("alpha", "bravo")
OLD, NEW = [item(COMMS)], [item(COMMS, "0.1.1", options={"cl-hive-comms-token": "hunter2"})]
HEALTHY: Json = {"verdict": "healthy", "reasons": [], "samples": 6, "window_seconds": 3.0}
FAILING: Json = {
    "verdict": "failing",
    "reasons": [{"node": "alpha", "check": "log", "verdict": "failing", "detail": "1 new BROKEN lines"}],
    "samples": 6,
    "window_seconds": 3.0,
}
RUNTIMES = {"alpha": "docker", "bravo": "systemd"}


def entry(seq: int, event: str) -> Json:
    return {"seq": seq, "time": 1000.0 + seq, "event": event, "data": {}}


def switched(**more: Any) -> Json:
    return {
        "phase": "switched",
        "before": OLD,
        "after": NEW,
        "downtime_ms": {COMMS: 312.4},
        "switch_ms": 900.0,
        "lightningd_restarts": 0,
        "journal": [entry(1, "begin"), entry(2, "switched")],
        **more,
    }


CONFIRMED: Json = {"phase": "confirmed", "journal": [entry(3, "confirmed")]}
REVERTED: Json = {"phase": "reverted", "reverted": True, "journal": [entry(3, "reverted")]}


def facts(before: list[Json] = OLD, after: list[Json] = NEW, **more: Any) -> _report.Facts:
    observed = {name: observation(name, before) for name in NODES}
    manifests = {m["artifact"]["sha256"]: m for m in (manifest(COMMS), manifest(COMMS, "0.1.1"), manifest(HIVE))}
    plan = _plan.plan(dict.fromkeys(NODES, after), dict(observed), manifests, {"fleet": "f"})
    base = _report.Facts("f", "r1", 990.0, 1020.0, plan=plan, nodes=NODES, observed=observed, final=True)
    return replace(base, **more)


def good(before: list[Json] = OLD, after: list[Json] = NEW, **more: Any) -> _report.Facts:
    both: Json = {
        "switches": {node: switched() for node in NODES},
        "confirms": dict.fromkeys(NODES, CONFIRMED),
        "verdicts": {"canary": HEALTHY, "wave 1": HEALTHY},
    }
    return facts(before, after, **{**both, **more})


def bad(**more: Any) -> _report.Facts:
    failed: Json = {
        "final": False,
        "failed": True,
        "switches": {"alpha": switched()},
        "reverts": {"alpha": REVERTED},
        "verdicts": {"canary": FAILING},
        "failures": {"alpha": "alpha: 1 new BROKEN lines"},
    }
    return facts(**{**failed, **more})


def exercises(run: _report.Facts) -> list[tuple[str, str, bool]]:
    found = _exercise.exercises(run, _report.build(run), RUNTIMES)
    return [(one.kind, one.runtime, one.passed) for one in found]


def made(run: _report.Facts, kind: str) -> Json:
    report = _report.build(run)
    (found,) = [one for one in _exercise.exercises(run, report, dict.fromkeys(NODES, "process")) if one.kind == kind]
    schemas = {str(NEW[0]["digest"]): 3, str(OLD[0]["digest"]): 2}
    return _exercise.statement(found, run, report, schemas, 30)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (good(before=[]), "install"),
        (good(), "upgrade"),
        (
            good(
                switches={node: switched(adoption={"adopted": {}, "delta_ms": 1.0, "delta_rows": 0}) for node in NODES}
            ),
            "adoption",
        ),
        (good(goal="nothing", after=[]), "uninstall"),
        (good(NEW, OLD, goal="previous"), "rollback"),
        (
            good(
                NEW,
                OLD,
                goal="previous",
                switches={node: switched(adoption={"carried_back": {}, "carry_back_ms": 1.0}) for node in NODES},
            ),
            "carry-back",
        ),
    ],
)
def test_the_kind_follows_from_what_was_done_and_each_runtime_has_its_own(run: _report.Facts, kind: str) -> None:
    assert exercises(run) == [(kind, "docker", True), (kind, "systemd", True)]


@pytest.mark.parametrize(
    "run",
    [
        facts(),  # under way or refused: nothing was switched
        replace(good(), final=False),
        facts(after=OLD),
        good(NEW, OLD),  # an older release by rollout.yml is no way back
        good(OLD, [{**OLD[0], "options": {"x": "y"}}]),
        bad(
            switches={"alpha": switched(phase="refused", failed=True, msg="a payment expires")}, reverts={}, verdicts={}
        ),
    ],
)
def test_what_is_none_of_them_leaves_nothing(run: _report.Facts) -> None:
    assert exercises(run) == []


def test_a_failed_canary_is_a_failed_upgrade_and_a_rollback_that_worked() -> None:
    assert exercises(bad()) == [("rollback", "docker", True), ("upgrade", "docker", False)]
    assert exercises(bad(reverts={"alpha": {"failed": True, "msg": "stuck", "journal": []}})) == [
        ("upgrade", "docker", False)
    ], "what did not come back is no proof of a way back"
    lost = {"alpha": {"unreachable": True, "msg": "no answer"}}
    assert exercises(bad(switches=lost, reverts={}, verdicts={})) == [("upgrade", "docker", False)]


def test_a_stage_that_did_not_soak_well_takes_its_upgrade_back_too() -> None:
    reason = {"node": "alpha", "check": "channels", "verdict": "failing", "detail": "2 channels were lost"}
    soak = _report_soak.shaped("canary", 0, ["alpha"], {"state": "failed", "verdict": "failing", "reasons": [reason]})
    run = facts(final=False, failed=True, soaks=[soak], backs={"alpha": {**switched(), "phase": "confirmed"}})
    assert exercises(run) == [("rollback", "docker", True), ("upgrade", "docker", False)]
    (failure,) = _exercise_record.failures(run, _report.build(run), [])
    assert (failure.stage, dict(failure.results)) == ("canary", {"alpha": "reverted"})
    assert _incidents.severity(failure) == 1
    by_itself = {**reason, "check": "self-reverted", "detail": "it went back by itself: cl-hive 0.1.1 does not run"}
    soak = _report_soak.shaped("canary", 0, ["alpha"], {"state": "failed", "reasons": [by_itself]})
    run = replace(run, soaks=[soak])
    assert [_incidents.severity(one) for one in _exercise_record.failures(run, _report.build(run), [])] == [2]
    # The next run finds it where it was before: it takes nothing back, and there is nobody to judge.
    soak = _report_soak.shaped("canary", 0, [], {"state": "failed", "reasons": [by_itself]})
    found = replace(run, soaks=[soak], backs={}, switches={}, verdicts={})
    (failure,) = _exercise_record.failures(found, _report.build(found), [])
    assert (dict(failure.results), _incidents.severity(failure)) == ({"alpha": "reverted"}, 2)
    assert exercises(replace(run, backs={"alpha": {"failed": True, "msg": "stuck"}})) == [
        ("rollback", "docker", False),
        ("upgrade", "docker", False),
    ]


def test_the_statement_names_what_was_exercised_and_no_secret() -> None:
    upgrade = made(good(), "upgrade")
    assert upgrade["subject"] == [{"name": f"{COMMS}-0.1.1.pex", "digest": {"sha256": NEW[0]["digest"]}}]
    assert upgrade["predicate"]["configuration"] == [
        {"name": f"{COMMS}-0.1.0.pex", "digest": {"sha256": OLD[0]["digest"]}}
    ]
    own = upgrade["predicate"]["hive"]
    assert upgrade["predicate"]["result"] == "PASSED"
    assert own["figures"] == {
        "nodes": 2,
        "downtime_ms_max": 312.4,
        "switch_ms_max": 900.0,
        "lightningd_restarts": 0,
        "lightningd": own["figures"]["lightningd"],
    }
    sides = own["nodes"]["alpha"]
    assert [sides[side][0]["schema_version"] for side in ("before", "after")] == [2, 3]
    assert own["expires_at"] - own["finished_at"] == 30 * 86400
    assert (own["rollout"], own["reason"]) == ("r1", "")
    assert "hunter2" not in json.dumps(upgrade)
    back = made(bad(), "rollback")
    assert [one["name"] for one in back["subject"]] == [f"{COMMS}-0.1.0.pex", f"{COMMS}-0.1.1.pex"]
    failed = made(bad(), "upgrade")["predicate"]
    assert failed["result"] == "FAILED"
    assert failed["failedTests"] == ["alpha confirmed", "alpha judged healthy"]
    assert "BROKEN" in failed["hive"]["reason"]


def test_a_restart_that_nobody_planned_is_no_green_exercise() -> None:
    run = good(switches={node: switched(lightningd_restarts=1) for node in NODES})
    assert exercises(run) == [("upgrade", "docker", False), ("upgrade", "systemd", False)]


# Writing it down


@pytest.fixture
def places(tmp_path: Path) -> _exercise_record.Places:
    return _exercise_record.Places(tmp_path / "evidence", tmp_path / "registers", tmp_path / "keys")


def record(run: _report.Facts, places: _exercise_record.Places) -> _exercise_record.Recorded:
    return _exercise_record.record(run, _report.build(run), dict.fromkeys(NODES, "process"), {}, places)


def test_a_run_that_reports_twice_writes_once(places: _exercise_record.Places) -> None:
    first = record(bad(), places)
    assert [Path(path).name.split("-process-")[0] for path in first.evidence] == ["rollback", "upgrade"]
    assert len(first.incidents) == 1
    again = record(replace(bad(), now=1021.0), places)
    assert (again.evidence, again.incidents) == (first.evidence, first.incidents)
    later = record(replace(bad(), started_at=2000.0, now=2020.0), places)
    assert not set(later.evidence) & set(first.evidence)
    (incident,) = _incidents.read_incidents(places.registers)
    assert {Path(path).name for path in first.evidence} <= set(incident.evidence)


def test_without_evidence_incidents_are_written_all_the_same(places: _exercise_record.Places) -> None:
    done = record(bad(), replace(places, wanted=False))
    assert done.evidence == []
    assert len(done.incidents) == 1
    assert not places.evidence.exists()


@pytest.mark.parametrize("run", [facts(failed=True), replace(good(), final=False), facts(after=OLD)])
def test_a_run_that_was_refused_or_goes_on_leaves_nothing(
    run: _report.Facts, places: _exercise_record.Places, tmp_path: Path
) -> None:
    assert record(run, places).lines == []
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_and_no_more(places: _exercise_record.Places, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = record(bad(), replace(places, evidence=blocked / "evidence", registers=blocked / "registers"))
    assert (done.evidence, done.incidents) == ([], [])
    first, second = done.troubles
    assert first.startswith("No evidence of this run was written, because ")
    assert "hive_evidence_dir" in first
    assert second.startswith("The incident of this run was not written, because ")
    assert "hive_registers_dir" in second
    no_key = record(good(), replace(places, key=str(tmp_path / "no-key")))
    assert no_key.troubles[0].startswith("No evidence of this run was written: The signing key ")


def test_a_cut_in_the_middle_leaves_no_half_evidence(
    places: _exercise_record.Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_release_keys, "sign", cut)
    done = record(good(), places)
    assert "No space left on device" in done.troubles[0]
    assert list(places.evidence.iterdir()) == []
