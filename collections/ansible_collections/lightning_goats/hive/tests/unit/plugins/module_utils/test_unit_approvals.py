"""Approvals: who may approve what, how long, and what does not count; the plan that waits to be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gates_world
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _approvals,
    _evidence_all,
    _plan,
    _plan_approval,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from gates_world import FLEET, NOW, OTHER, PLAN, World

Json = dict[str, Any]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(tmp_path_factory.mktemp("people"))
    world.people()
    return world.root / "keys"


@pytest.fixture
def world(people: Path, tmp_path: Path) -> World:
    shutil.copytree(people, tmp_path / "keys")
    return World(tmp_path)


def look(world: World, needed: int = 1, runner: str = "runner@test", now: float = NOW) -> _approvals.Approvals:
    keys = _evidence_all.keys_that_signed(world.evidence, gates_world.DIGESTS.values())
    rules = _approvals.Rules(needed, world.approvers, runner, keys)
    return _approvals.look(world.evidence, PLAN, FLEET, rules, now, 20)


def test_two_people_approve_one_plan(world: World) -> None:
    for person in ("alice", "bob"):
        path = world.approve(person)
    assert path.name == f"{PLAN[:16]}-bob@test.json"
    found = look(world, 2)
    assert [one.approver for one in found.valid] == ["alice@test", "bob@test"]
    assert found.notes == []
    assert _approvals.problem(PLAN, 2, found) == ""
    made = json.loads(path.read_bytes())
    assert made["predicate"]["statement"].startswith(f"Execution Approved: plan {PLAN} of fleet {FLEET}")


@pytest.mark.parametrize(
    ("person", "spec", "words"),
    [
        ("alice", {"age_days": 8}, "ended 2027-01-14 08:00 UTC"),
        ("alice", {"age_days": -1}, "was given in the future"),
        ("alice", {"plan": OTHER}, "does not say 'Execution Approved' of this plan"),
        ("alice", {"fleet": "another"}, "is of another plan or fleet"),
        ("alice", {"words": "Looks good to me"}, "does not say 'Execution Approved'"),
        ("alice", {"namespace": "evidence"}, "was not signed by a key that"),
        ("alice", {"signed": False}, "has no signature"),
        ("alice", {"as": "bob@test"}, "lists for bob@test"),
        ("stranger", {}, "lists for stranger@test"),
        ("evidence", {}, "lists for evidence@test"),
        ("runner", {}, "is by runner@test, who runs this rollout"),
    ],
)
def test_what_is_no_approval(world: World, person: str, spec: Json, words: str) -> None:
    world.approve(person, **spec)
    found = look(world)
    assert found.valid == []
    assert words in found.notes[0]
    problem = _approvals.problem(PLAN, 1, found)
    assert "0 of 1 approvals" in problem
    assert words in problem
    assert f"-e hive_approve_plan={PLAN}" in problem


def test_an_approval_that_was_changed_is_none(world: World) -> None:
    path = world.approve("alice", days=1, age_days=2)
    later = json.loads(path.read_bytes())
    later["predicate"]["expires_at"] = NOW + 1000
    path.write_text(json.dumps(later))
    assert "was not signed by a key" in look(world).notes[0]


def test_one_person_counts_once_and_so_does_one_key(world: World) -> None:
    """Nobody becomes two approvers by a second name in the list."""
    world.list_approvers("alice", "runner", aline="alice")
    world.approve("alice")
    world.approve("alice", **{"as": "aline@test"})
    found = look(world, 2)
    assert [one.approver for one in found.valid] == ["alice@test"]
    assert "a key or a person that has approved already" in found.notes[0]


def test_who_runs_does_not_approve_under_another_name(world: World) -> None:
    world.list_approvers("alice", "runner", rita="runner")
    world.approve("runner", **{"as": "rita@test"})
    assert "is by runner@test, who runs this rollout" in look(world).notes[0]


def test_a_key_that_may_sign_as_anybody_is_that_of_who_runs_too(world: World) -> None:
    world.listed("approvers", {"*@test": "alice"}, "approval")
    world.approve("alice")
    assert "is by runner@test, who runs this rollout" in look(world).notes[0]
    world.listed("approvers", {"alice@*,bob@*": "alice"}, "approval")
    assert len(look(world).valid) == 1


def test_the_key_that_signed_the_evidence_does_not_approve(world: World) -> None:
    world.list_approvers("alice", evidence="evidence")
    world.approve("evidence")
    assert len(look(world).valid) == 1
    world.add("suite-cl-hive", gates_world.good()["suite-cl-hive"])
    assert "which signed evidence of these releases" in look(world).notes[0]


def test_without_a_name_for_who_runs_nothing_is_approved(world: World) -> None:
    world.approve("alice")
    with pytest.raises(ReleaseError) as error:
        look(world, runner="")
    assert "set hive_runner" in str(error.value)


def test_an_approval_is_made_only_when_it_counts(world: World) -> None:
    plan = {"digest": PLAN, "fleet": FLEET}
    rules = _approvals.Rules(1, world.approvers, "runner@test")
    for person, name, words in (
        ("runner", "runner@test", "who runs this rollout"),
        ("stranger", "alice@test", "lists for alice@test"),
        ("alice", "../alice", "is no name of an approver"),
    ):
        with pytest.raises(ReleaseError) as error:
            _approvals.sign(world.evidence, plan, name, world.root / "keys" / person, rules, NOW, 7)
        assert words in str(error.value)
    assert list((world.evidence / "approvals").iterdir()) == []
    path = _approvals.sign(world.evidence, plan, "alice@test", world.root / "keys/alice", rules, NOW, 7)
    found = look(world)
    assert [one.path for one in found.valid] == [path]
    assert found.valid[0].expires_at == NOW + 7 * 86400


# The plan


def plan() -> Json:
    item = {"name": "cl-hive", "version": "0.2.0", "digest": OTHER, "enabled": True, "options": {"hive-token": "fp:1"}}
    was = {**item, "version": "0.1.0", "digest": PLAN, "options": {}}
    made: Json = {
        "schema": _plan.SCHEMA,
        "fleet": FLEET,
        "terms": {"canary_soak": {"minutes": 4320}},
        "waves": [{"name": "canary", "nodes": ["alpha"], "more": "said elsewhere"}],
        "nodes": {
            "alpha": {"action": "upgrade", "before": [was], "after": [item], "steps": ["start it"]},
            "bravo": {"action": "none", "before": [], "after": [], "steps": []},
        },
        "changes": 1,
        "refused": [],
    }
    return {**made, "digest": _plan.digest(made, _plan.fingerprints(made["nodes"]), ())}


def test_a_plan_waits_to_be_read_and_says_only_what_is_signed(tmp_path: Path) -> None:
    made = plan()
    _approvals.write_plan(tmp_path, made, (), NOW)
    path = _approvals.plan_path(tmp_path, made["digest"])
    assert path.stat().st_mode & 0o777 == 0o644
    assert "said elsewhere" not in "".join(_approvals.lines(_approvals.read_plan(tmp_path, made["digest"])))
    told = _approvals.lines(_approvals.read_plan(tmp_path, made["digest"]))
    assert told[0] == f"plan {made['digest']} of fleet {FLEET}"
    assert f"    cl-hive 0.1.0 -> 0.2.0, sha256 {OTHER}" in told
    assert "    cl-hive: hive-token default -> (hidden)" in told


@pytest.mark.parametrize(
    ("old", "new"), [('"alpha"', '"omega"'), ('"0.2.0"', '"0.3.0"'), ("4320", "1"), (OTHER, PLAN), ("{", "[")]
)
def test_a_plan_that_somebody_changed_is_not_signed(tmp_path: Path, old: str, new: str) -> None:
    made = plan()
    _approvals.write_plan(tmp_path, made, (), NOW)
    path = _approvals.plan_path(tmp_path, made["digest"])
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ReleaseError) as error:
        _approvals.read_plan(tmp_path, made["digest"])
    assert error.value.code == "plan-damaged"


@pytest.mark.parametrize("digest", [PLAN, "", "../../etc/passwd", PLAN[:16]])
def test_a_plan_that_nobody_knows_is_not_signed(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ReleaseError) as error:
        _approvals.read_plan(tmp_path, digest)
    assert error.value.code == "unknown-plan"


def test_a_rollout_under_way_leaves_the_plan_that_was_kept(tmp_path: Path) -> None:
    made = plan()
    _approvals.write_plan(tmp_path, made, (), NOW)
    path = _approvals.plan_path(tmp_path, made["digest"])
    before = path.read_bytes()
    made["nodes"]["alpha"]["before"] = made["nodes"]["alpha"]["after"]
    _approvals.write_plan(tmp_path, made, (), NOW)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("needed", "passed", "code"),
    [
        (0, "", "not-approved"),
        (0, OTHER, "other-plan"),
        (0, "own", ""),
        (1, "", "not-approved"),
        (1, "own", "not-approved"),
    ],
)
def test_whether_a_plan_may_run(world: World, needed: int, passed: str, code: str) -> None:
    made = plan()
    desk = _plan_approval.Desk(needed, "runner@test", world.approvers, world.evidence, world.root / "reports")
    passed = made["digest"] if passed == "own" else passed
    found = _plan_approval.problems(made, (), passed, desk, NOW)
    assert [one for one, _ in found] == ([code] if code else [])
    assert _approvals.plan_path(desk.reports, made["digest"]).is_file() == (needed > 0)
    rules = _approvals.Rules(1, world.approvers, "runner@test")
    _approvals.sign(world.evidence, made, "alice@test", world.root / "keys/alice", rules, NOW, 7)
    if needed:
        assert _plan_approval.problems(made, (), passed, desk, NOW) == []
