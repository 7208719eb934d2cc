"""What runs leave behind: signed evidence of what they did, and the incident of what failed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _incidents
from flows.flow_fleet import PLUGIN, Fleet, Shelf

Json = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node without a plugin."""
    root = tmp_path_factory.mktemp("evidence")
    fast = {"hive_soak_seconds": 0.2, "hive_probe": False, "hive_backup_copies_dir": str(root / "copies")}
    # A rehearsal is nine playbooks in one.
    fleet = Fleet(root, shelf, fast, patience=900)
    fleet.up(1)
    yield fleet
    fleet.down()


def evidence(fleet: Fleet, kind: str = "*") -> list[Path]:
    """The statements of one kind, oldest first."""
    return sorted((fleet.root / "evidence").glob(f"{kind}-process-*.json"), key=lambda path: path.stat().st_mtime_ns)


def statement(path: Path) -> Json:
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


def subjects(path: Path) -> dict[str, str]:
    return {item["name"]: item["digest"]["sha256"] for item in statement(path)["subject"]}


def verified(fleet: Fleet, path: Path) -> bool:
    """What ssh-keygen says, asked as an auditor would ask it."""
    words = ["-Y", "verify", "-n", "evidence", "-I", "evidence@sandbox", "-s", f"{path}.sig"]
    with path.open("rb") as file:
        done = subprocess.run(
            ["ssh-keygen", *words, "-f", fleet.root / "keys/evidence_signers"],
            stdin=file,
            capture_output=True,
            check=False,
        )
    return done.returncode == 0


def incidents(fleet: Fleet) -> list[_incidents.Incident]:
    return _incidents.read_incidents(fleet.root / "registers")


@pytest.mark.timeout(1000)
def test_a_rehearsal_leaves_the_evidence_of_gate_b(fleet: Fleet, shelf: Shelf) -> None:
    refused = fleet.bad("rehearse", hive_rehearse_from={PLUGIN: "0.1.0"}, hive_approval_required=True)
    assert "is not for rehearsals" in refused.text
    assert evidence(fleet) == []

    fleet.good("rehearse", hive_rehearse_from={PLUGIN: "0.1.0"}, hive_rehearse_to={PLUGIN: "0.1.1"})
    assert fleet.version("alpha") == "0.1.1"
    install, new_install = evidence(fleet, "install")
    (rollback,) = evidence(fleet, "rollback")
    (uninstall,) = evidence(fleet, "uninstall")
    first, second = evidence(fleet, "upgrade")
    (drill,) = (fleet.root / "evidence").glob("drill-alpha-*.json")
    for path in (install, rollback, first, second, drill, uninstall, new_install):
        assert statement(path)["predicate"]["result"] == "PASSED", path
        assert verified(fleet, path)
    assert incidents(fleet) == []
    old, new = {f"{PLUGIN}-{version}.pex": shelf.digest(version) for version in ("0.1.0", "0.1.1")}.items()
    assert subjects(install) == dict([old])
    assert subjects(first) == subjects(second) == subjects(uninstall) == subjects(new_install) == dict([new])
    assert subjects(rollback) == dict([old, new])
    assert new in subjects(drill).items(), "the last set is of the wanted release"

    found = statement(install)["predicate"]
    assert found["passedTests"] == [f"alpha {name}" for name in ("confirmed", "judged healthy", "lightningd went on")]
    assert found["hive"]["figures"]["switch_ms_max"] > 0
    assert found["hive"]["expires_at"] > found["hive"]["finished_at"] >= found["hive"]["started_at"]
    assert found["hive"]["nodes"]["alpha"]["after"][0]["schema_version"] is not None
    upgrade = statement(first)["predicate"]
    assert upgrade["configuration"] == [{"name": old[0], "digest": {"sha256": old[1]}}]
    assert upgrade["hive"]["figures"]["downtime_ms_max"] > 0
    assert upgrade["hive"]["rollout"] != statement(second)["predicate"]["hive"]["rollout"]


def test_a_canary_that_fails_leaves_both_sides_of_it_and_an_incident(fleet: Fleet, shelf: Shelf) -> None:
    known = set(evidence(fleet))
    outcome = fleet.bad("rollout", hive_release_versions={PLUGIN: "0.5.0"})
    failed, undone = sorted(set(evidence(fleet)) - known, key=lambda path: path.name, reverse=True)
    assert failed.name.startswith("upgrade-process-")
    assert statement(failed)["predicate"]["result"] == "FAILED"
    assert subjects(failed) == {f"{PLUGIN}-0.5.0.pex": shelf.digest("0.5.0")}
    assert statement(failed)["predicate"]["failedTests"]
    assert statement(failed)["predicate"]["hive"]["reason"]
    assert undone.name.startswith("rollback-process-")
    assert statement(undone)["predicate"]["passedTests"] == ["alpha proven healthy"]
    assert verified(fleet, failed)
    assert verified(fleet, undone)

    (incident,) = incidents(fleet)
    assert (incident.severity, incident.nodes, incident.stage) == (2, ["alpha"], "canary")
    assert not incident.closed
    assert set(incident.evidence) >= {failed.name, undone.name}
    assert incident.reasons
    assert outcome.sentence("Incident: ").endswith(f"{incident.id}.yml")


def test_suites_and_matrix_are_red_where_there_is_nothing_to_test(fleet: Fleet, shelf: Shelf) -> None:
    outcome = fleet.bad("suites", hive_suites_sources={PLUGIN: "tests/fixtures/plugins/good"})
    assert f"RED: {PLUGIN}: no tests ran" in outcome.text
    (path,) = (fleet.root / "evidence").glob(f"suite-{PLUGIN}-*.json")
    assert outcome.sentence("evidence: ").endswith(path.name)
    assert verified(fleet, path)
    assert statement(path)["predicate"]["result"] == "FAILED"
    assert subjects(path) == {f"{PLUGIN}-0.1.0.pex": shelf.digest("0.1.0")}
    assert "no combination to try" in fleet.bad("matrix").text


def test_where_nothing_can_be_written_the_run_reports_and_says_so(fleet: Fleet) -> None:
    blocked, registers = fleet.root / "no-directory", fleet.root / "blocked"
    blocked.write_text("")
    registers.mkdir()
    (registers / "incidents").write_text("")
    outcome = fleet.bad(
        "rollout",
        hive_release_versions={PLUGIN: "0.5.0"},
        hive_evidence_dir=str(blocked),
        hive_registers_dir=str(registers),
    )
    assert "No evidence of this run was written" in outcome.text
    assert "The incident of this run was not written" in outcome.text
    assert fleet.report["result"] == "reverted"
    assert fleet.version("alpha") == "0.1.1"
