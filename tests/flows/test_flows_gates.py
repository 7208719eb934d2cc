"""A rollout starts when every gate is open and an approver signed exactly its plan, and not before."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gates_world
import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _gates
from flows.flow_fleet import PLUGIN, Fleet, Outcome, Shelf
from gates_world import World

# Seven playbooks one after the other; nobody else may decide how fast this machine is.
pytestmark = pytest.mark.timeout(900)

WAIVED = "the fixture is no plugin of the matrix"


@pytest.fixture(scope="module")
def strict(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node of a fleet that asks for everything."""
    root = tmp_path_factory.mktemp("strict")
    fleet = Fleet(
        root,
        shelf,
        {
            "hive_gates_required": True,
            "hive_approval_required": True,
            "hive_approvals_needed": 1,
            "hive_approvers": str(root / "keys/approvers"),
            "hive_runner": "runner@test",
            "hive_evidence_signing_key": str(root / "keys/evidence"),
            "hive_evidence_allowed_signers": str(root / "keys/evidence_signers"),
        },
    )
    world(fleet).people()
    fleet.up(1)
    yield fleet
    fleet.down()


def world(fleet: Fleet) -> World:
    """The controller's evidence and registers of the fleet, as of now."""
    return World(fleet.root, now=time.time(), fleet="flows")


def make_all(fleet: Fleet) -> World:
    """Evidence and registers with which all gates but the approval are open."""
    there = world(fleet)
    there.register({"findings.yml": {"findings": []}})
    there.waive(
        {
            "check": "D1",
            "subject": PLUGIN,
            "owner": "alice",
            "reason": WAIVED,
            "control": "it is tested here",
            "expires_at": "2099-01-01",
        }
    )
    releases = [_gates.Release(PLUGIN, "0.1.0", fleet.shelf.digest("0.1.0"), 1)]
    there.add_all(gates_world.good(releases, fleet.nodes, ["process"], "flows"))
    place, commit = gates_world.repository(fleet.root, there)
    named = {"repository": str(place), "tag": "v2.9.0", "commit": commit}
    (there.registers / "baseline.yml").write_text(yaml.safe_dump(named))
    return there


def states(text: str) -> dict[str, str]:
    """The state of each check in a printed table."""
    rows = [line.split() for line in text.splitlines()]
    return {row[1]: row[2] for row in rows if len(row) > 3 and row[2] in ("pass", "block", "waived")}


def untouched(fleet: Fleet) -> None:
    assert (fleet.version("alpha"), fleet.journal("alpha")) == ("", [])


def approve(fleet: Fleet, digest: str, person: str = "alice", **more: Any) -> Outcome:
    key = str(fleet.root / "keys" / person)
    return fleet.run("approve", hive_approve_plan=digest, hive_approver=f"{person}@test", hive_approval_key=key, **more)


def test_from_refused_to_rolled_out_and_back(strict: Fleet) -> None:
    refused = strict.bad("rollout")
    untouched(strict)
    assert strict.report["result"] == "refused"
    assert set(states(refused.text).values()) == {"block"}
    assert len(states(refused.text)) == 18
    assert "refused before anything changed" in refused.text
    assert "The gates do not let this rollout start" in strict.report["reasons"][0]

    there = make_all(strict)
    refused = strict.bad("rollout")
    untouched(strict)
    found = states(refused.text)
    assert {check for check, state in found.items() if state == "block"} == {"S1"}
    assert found["D1"] == "waived"
    digest = refused.sentence("approve.yml -e hive_approve_plan=").partition("hive_approve_plan=")[2][:64]

    by_runner = approve(strict, digest, "runner")
    assert by_runner.rc != 0
    assert f"sha256 {strict.shelf.digest('0.1.0')}" in by_runner.text
    assert "who runs this rollout" in by_runner.sentence("REFUSED (not-approved)")
    assert "Execution Approved by alice@test until" in approve(strict, digest).text

    gates = strict.good("gates")
    assert set(states(gates.text).values()) == {"pass", "waived"}
    rolled = strict.good("rollout")
    assert strict.version("alpha") == "0.1.0"
    assert set(states(rolled.text).values()) <= {"pass", "waived"}
    decisions = [_evidence.read(path, there.places.evidence_signers) for path in there.evidence.glob("decision-*.json")]
    newest = max(decisions, key=lambda one: one.finished_at)
    assert (newest.result, newest.subjects["plan"]) == ("PASSED", digest)
    assert newest.facts["findings"][13]["waiver"]["reason"] == WAIVED

    # The way back is open, whatever the gates say.
    shutil.rmtree(there.evidence)
    strict.good("rollback")
    assert strict.version("alpha") == ""


def test_a_stage_that_soaks_is_judged_whatever_the_gates_say(start_fleet: Callable[..., Fleet], tmp_path: Path) -> None:
    """Neither gates nor an approval that was taken back touch the stage under way; the next one does not begin."""
    soaks = {f"hive_{stage}_soak_{what}": 0 for stage in ("canary", "wave") for what in ("blocks", "forwards")}
    fleet = start_fleet(
        2,
        hive_approval_required=True,
        hive_approvals_needed=1,
        hive_approvers=str(tmp_path / "fleet0/keys/approvers"),
        hive_runner="runner@test",
        hive_canary_soak_minutes=60,
        hive_wave_soak_minutes=60,
        hive_probe_interval_seconds=1,
        **soaks,
    )
    world(fleet).people()
    digest = fleet.bad("rollout").sentence("0 of 1 approvals").partition("plan=")[2][:64]
    kept = json.loads((fleet.reports / "plans" / f"{digest}.json").read_text())
    assert kept["nodes"]["bravo"]["after"][0]["digest"] == fleet.shelf.digest("0.1.0")
    assert approve(fleet, digest).rc == 0
    # The digest that was passed is no signature, and no harm.
    fleet.good("rollout", hive_approved_plan=digest)
    assert (fleet.report["result"], fleet.version("alpha"), fleet.version("bravo")) == ("soaking", "0.1.0", "")

    shutil.rmtree(fleet.root / "evidence/approvals")
    still = fleet.good("rollout", hive_gates_required=True)
    assert fleet.report["result"] == "soaking"
    assert "come back after" in still.text
    told = fleet.run("rollout", hive_gates_required=True, hive_soak_accept="canary")
    assert "The gates do not let this rollout start" in told.text
    assert "0 of 1 approvals" in told.text
    assert "soaked" in [entry["event"] for entry in fleet.journal("alpha")]
    assert (fleet.version("alpha"), fleet.version("bravo"), fleet.journal("bravo")) == ("0.1.0", "", [])
