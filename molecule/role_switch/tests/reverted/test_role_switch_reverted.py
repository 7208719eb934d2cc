"""After a switch to a release that crashes: as if it had not been."""

from __future__ import annotations

from typing import Any


def test_the_node_runs_what_it_ran_before(node: Any) -> None:
    now = {"plugins": node.plugins(), "lightningd": node.lightningd(), "config": node.config()}
    assert now == node.remembered("before")
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"


def test_the_journal_says_so(node: Any) -> None:
    assert [entry["event"] for entry in node.journal() if entry["rollout"] == "second"][-1] == "reverted"
