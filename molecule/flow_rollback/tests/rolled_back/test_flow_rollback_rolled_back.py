"""After the code rollback: the previous stack, and the data untouched."""

from __future__ import annotations

from typing import Any


def test_the_previous_stack_runs(node: Any) -> None:
    assert node.versions() == {"cl-hive-comms": "0.1.0", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.0"}
    assert node.plugins()["cl-hive-archon"] == node.remembered("plugins")["cl-hive-archon"]


def test_the_data_is_the_same(node: Any) -> None:
    rows = node.remembered("rows")
    assert node.rows(*rows) == rows
    assert node.identities() == node.remembered("identities")


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")
