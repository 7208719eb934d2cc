"""After the upgrade of two of the three: new code, old data, a backup, and nothing else touched."""

from __future__ import annotations

import json
from typing import Any


def test_two_are_new_and_one_was_left_alone(node: Any, versions: dict[str, str]) -> None:
    assert versions == {"cl-hive-comms": "0.1.1", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.1"}
    assert node.plugins()["cl-hive-archon"] == node.remembered("archon")


def test_the_old_data_was_backed_up_first(node: Any) -> None:
    sets = node.outside.check_output(f"ls {node.state_dir}/backups").split()
    assert sets
    manifest = json.loads(node.outside.file(f"{node.state_dir}/backups/{sets[-1]}/manifest.json").content_string)
    assert "cl_hive_comms.db" in json.dumps(manifest)
    events = [entry["event"] for entry in node.journal()]
    assert events[-1] == "confirmed"


def test_the_data_is_the_same(node: Any, rows: dict[str, list[Any]], answers: Any) -> None:
    assert rows == node.remembered("rows")
    assert answers() == node.remembered("answers")


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")
