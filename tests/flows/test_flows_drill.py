"""drill.yml as an operator runs it: signed evidence for a good set and a bad one, and what status says of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flows.flow_fleet import Fleet, Shelf

Json = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node that runs the fixture plugin and has a backup set of it."""
    root = tmp_path_factory.mktemp("drill")
    fleet = Fleet(root, shelf)
    fleet.up(1)
    fleet.good("rollout")
    fleet.good("backup")
    yield fleet
    fleet.down()


def evidence(fleet: Fleet) -> list[Path]:
    """All statements of drills, oldest first."""
    return sorted((fleet.root / "evidence").glob("drill-*.json"))


def predicate(path: Path) -> Json:
    found: Json = json.loads(path.read_text(encoding="utf-8"))["predicate"]
    return found


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


def test_a_drill_from_dry_run_to_red(fleet: Fleet) -> None:
    before = fleet.pids()
    fleet.good("drill", "--check")
    assert evidence(fleet) == []

    assert "comes back whole" in fleet.good("drill").text
    (green,) = evidence(fleet)
    assert predicate(green)["result"] == "PASSED"
    assert predicate(green)["failedTests"] == []
    assert verified(fleet, green)
    said = predicate(green)["hive"]
    assert said["command"].startswith("ansible-playbook playbooks/drill.yml --limit alpha -e hive_drill_set=")
    assert [item["version"] for item in said["releases"]] == ["0.1.0"]
    assert said["expires_at"] > said["finished_at"] > said["started_at"]

    fleet.good("drill", hive_drill_fresh_seconds=3600)
    assert evidence(fleet) == [green], "a recent one is enough"
    assert "DRILL" in fleet.good("status").text

    database = next((fleet.sandbox / "alpha/hive/backups" / said["set"]["id"]).rglob("*.db"))
    content = bytearray(database.read_bytes())
    content[-1] ^= 1
    database.write_bytes(content)
    outcome = fleet.bad("drill")
    assert "cannot be relied on" in outcome.text
    _, red = evidence(fleet)
    assert predicate(red)["result"] == "FAILED"
    assert predicate(red)["failedTests"] != []
    assert verified(fleet, red)
    shown = fleet.good("status").text
    assert "the last drill failed" in shown
    assert "attention" in shown

    red.write_bytes(red.read_bytes().replace(b'"result":"FAILED"', b'"result":"PASSED"'))
    assert not verified(fleet, red)
    assert "the last drill failed" not in fleet.good("status").text, "what was changed is no evidence"
    assert fleet.pids() == before
