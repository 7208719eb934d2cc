"""After the upgrade of two of the three: new code, old data, a backup, and nothing else touched."""

from __future__ import annotations

from typing import Any


def test_two_are_new_and_one_was_left_alone(node: Any) -> None:
    assert node.versions() == {"cl-hive-comms": "0.1.1", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.1"}
    before, now = node.remembered("plugins"), node.plugins()
    assert [name for name in now if now[name] == before[name]] == ["cl-hive-archon"]
    assert node.rpc("hive-status")["mode"] == "full"


def test_the_old_data_was_backed_up_first(node: Any) -> None:
    assert set(node.backups()[-1]["databases"]) == {"cl-hive-comms", "cl-hive-archon", "cl-hive"}
    assert node.journal()[-1]["event"] == "confirmed"


def test_the_data_is_the_same(node: Any) -> None:
    rows = node.remembered("rows")
    assert node.rows(*rows) == rows
    assert node.identities() == node.remembered("identities")


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")
