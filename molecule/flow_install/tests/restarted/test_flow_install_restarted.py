"""After a restart of lightningd: everything comes back by lightningd's own configuration."""

from __future__ import annotations

from typing import Any


def test_it_was_a_restart(node: Any) -> None:
    assert node.lightningd() != node.remembered("lightningd")


def test_the_plugins_came_back(node: Any) -> None:
    assert node.versions() == {"cl-hive-comms": "0.1.0", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.0"}
    assert node.rpc("hive-client-policy")["policy"]["preset"] == "conservative"


def test_the_data_is_the_same(node: Any) -> None:
    rows = node.remembered("rows")
    assert node.rows(*rows) == rows
    assert node.identities() == node.remembered("identities")
