"""What runs leave behind: signed evidence of what they did, and the incident of what failed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _incidents
from flows.flow_fleet import PLUGIN, Fleet, Shelf

Json = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes without a plugin."""
    fleet = Fleet(tmp_path_factory.mktemp("evidence"), shelf, {"hive_soak_seconds": 0.2})
    fleet.up(2)
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


def test_from_install_to_uninstall_every_run_leaves_evidence(fleet: Fleet, shelf: Shelf) -> None:
    fleet.good("rollout", "--check")
    fleet.bad("rollout", hive_stack=[{"name": PLUGIN, "version": "9.9.9"}])
    assert evidence(fleet) == [], "neither a dry run nor a refused one is an exercise"
    assert incidents(fleet) == []

    shown = fleet.good("rollout")
    (install,) = evidence(fleet)
    assert shown.sentence("Evidence: ").endswith(install.name)
    assert verified(fleet, install)
    assert install.name.startswith("install-process-")
    found = statement(install)["predicate"]
    assert found["result"] == "PASSED"
    assert found["passedTests"] == [
        f"{node} {name}" for node in ("alpha", "bravo") for name in ("confirmed", "judged healthy", "lightningd went on")
    ]
    assert subjects(install) == {f"{PLUGIN}-0.1.0.pex": shelf.digest("0.1.0")}
    assert found["hive"]["figures"]["nodes"] == 2
    assert found["hive"]["figures"]["switch_ms_max"] > 0
    assert found["hive"]["expires_at"] > found["hive"]["finished_at"] >= found["hive"]["started_at"]
    assert found["hive"]["nodes"]["alpha"]["after"][0]["schema_version"] is not None

    fleet.good("rollout")
    assert evidence(fleet) == [install], "a run that changes nothing exercises nothing"

    fleet.good("rollout", hive_release_versions={PLUGIN: "0.1.1"})
    (upgrade,) = evidence(fleet, "upgrade")
    assert subjects(upgrade) == {f"{PLUGIN}-0.1.1.pex": shelf.digest("0.1.1")}
    assert statement(upgrade)["predicate"]["result"] == "PASSED"
    assert statement(upgrade)["predicate"]["hive"]["figures"]["downtime_ms_max"] > 0
    fleet.good("rollback")
    (rollback,) = evidence(fleet, "rollback")
    assert set(subjects(rollback)) == {f"{PLUGIN}-0.1.0.pex", f"{PLUGIN}-0.1.1.pex"}
    assert statement(rollback)["predicate"]["hive"]["command"].startswith("ansible-playbook playbooks/rollback.yml")
    fleet.good("rollout", hive_release_versions={PLUGIN: "0.1.1"}, hive_evidence=False)
    assert len(evidence(fleet, "upgrade")) == 1

    fleet.good("uninstall")
    (uninstall,) = evidence(fleet, "uninstall")
    assert statement(uninstall)["predicate"]["result"] == "PASSED"
    assert subjects(uninstall) == {f"{PLUGIN}-0.1.1.pex": shelf.digest("0.1.1")}
    assert incidents(fleet) == []


def test_a_canary_that_fails_leaves_both_sides_of_it_and_an_incident(fleet: Fleet, shelf: Shelf) -> None:
    fleet.good("rollout")
    known = set(evidence(fleet))
    outcome = fleet.bad("rollout", hive_release_versions={PLUGIN: "0.5.0"})
    failed, undone = sorted(set(evidence(fleet)) - known, key=lambda path: path.name, reverse=True)
    assert failed.name.startswith("upgrade-process-")
    assert statement(failed)["predicate"]["result"] == "FAILED"
    assert subjects(failed) == {f"{PLUGIN}-0.5.0.pex": shelf.digest("0.5.0")}
    assert statement(failed)["predicate"]["failedTests"]
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

    path = fleet.root / "registers/incidents" / f"{incident.id}.yml"
    text = path.read_text(encoding="utf-8")
    path.write_text(yaml.safe_dump({**yaml.safe_load(text), "status": "closed", "closed_at": incident.opened_at}))
    fleet.bad("rollout", hive_release_versions={PLUGIN: "0.5.0"})
    assert [found.closed for found in incidents(fleet)] == [True, False], "what people wrote stays, the new one is new"


def test_where_nothing_can_be_written_the_run_reports_and_says_so(fleet: Fleet) -> None:
    fleet.good("rollout")
    blocked = fleet.root / "no-directory"
    blocked.write_text("")
    outcome = fleet.bad(
        "rollout",
        hive_release_versions={PLUGIN: "0.5.0"},
        hive_evidence_dir=str(blocked),
        hive_registers_dir=str(blocked / "registers"),
    )
    assert "No evidence of this run was written" in outcome.text
    assert "The incident of this run was not written" in outcome.text
    assert fleet.report["result"] == "reverted"
    assert fleet.version("alpha") == "0.1.0"

    fleet.good("rollout", hive_release_versions={PLUGIN: "0.1.1"}, hive_evidence_signing_key=str(blocked / "key"))
    assert fleet.version("alpha") == "0.1.1"
