"""After a restart of lightningd: everything comes back by lightningd's own configuration."""

from __future__ import annotations

from typing import Any


def test_it_was_a_restart(node: Any) -> None:
    assert node.lightningd() != node.remembered("lightningd")
    node.remember("lightningd", node.lightningd())


def test_the_plugins_came_back(node: Any, versions: dict[str, str]) -> None:
    assert versions == {"cl-hive-comms": "0.1.0", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.0"}
    node.remember("archon", node.plugins()["cl-hive-archon"])


def test_the_data_is_the_same(node: Any, rows: dict[str, list[Any]], answers: Any) -> None:
    assert rows == node.remembered("rows")
    assert answers() == node.remembered("answers")
