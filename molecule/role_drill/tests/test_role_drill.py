"""Every kind of node drills its set, over ssh and in a container; it is signed, and nothing of it is left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

STATE = Path(__file__).resolve().parents[3] / "var/molecule"
PLUGINS = ["cl-hive-comms", "cl-hive-archon", "cl-hive"]


def evidence(node: Any) -> list[Path]:
    return sorted((STATE / "evidence").glob(f"drill-{node.name}-*.json"))


def found(node: Any) -> dict[str, Any]:
    predicate: dict[str, Any] = json.loads(evidence(node)[-1].read_text(encoding="utf-8"))["predicate"]
    return predicate


def test_it_was_drilled_once_and_the_recent_one_spared_another(node: Any) -> None:
    assert len(evidence(node)) == 1


def test_the_set_came_back_whole(node: Any) -> None:
    predicate = found(node)
    assert predicate["result"] == "PASSED", predicate["hive"]["reason"]
    assert predicate["failedTests"] == []
    assert [item["name"] for item in predicate["hive"]["releases"]] == PLUGINS
    assert {"cl-hive-comms receipts", "cl-hive-archon identity", "cl-hive members"} <= set(predicate["passedTests"])
    assert predicate["hive"]["set"]["id"] == node.backups()[-1]["id"]


def test_it_was_kept_off_the_network(node: Any) -> None:
    assert found(node)["hive"]["lightningd"]["network"] == ("namespace" if node.service else "container")


def test_the_evidence_verifies(node: Any) -> None:
    path = evidence(node)[-1]
    words = ["-Y", "verify", "-n", "evidence", "-I", "evidence@sandbox", "-s", f"{path}.sig"]
    signers = STATE / "evidence-keys/evidence_signers"
    with path.open("rb") as file:
        done = subprocess.run(["ssh-keygen", *words, "-f", str(signers)], stdin=file, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_of_it(node: Any) -> None:
    assert node.outside.run(f"ls -d {node.state_dir}/drill/run-*").rc != 0
    assert "/drill/run-" not in node.outside.check_output("ps -ewwo args").replace("ls -d", "")
    assert node.outside.file(f"{node.state_dir}/drill").mode & 0o077 in (0, 0o011)


def test_the_plugins_ran_on(node: Any) -> None:
    assert sorted(node.versions()) == sorted(PLUGINS)
    assert node.rpc("hive-status")["mode"] == "full"
