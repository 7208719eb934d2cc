"""After a switch that nobody confirms, with no Ansible and no session left: the node goes back by itself."""

from __future__ import annotations

from typing import Any

from waiting import wait_until


def events(node: Any) -> list[str]:
    return [entry["event"] for entry in node.journal() if entry["rollout"] == "third"]


def test_the_dead_man_reverts(node: Any) -> None:
    assert "switched" in events(node)
    assert wait_until(lambda: events(node)[-1] == "reverted", 60, f"the dead-man of {node.name} reverts", interval=0.5)


def test_the_node_runs_what_it_ran_before(node: Any) -> None:
    now = {"plugins": node.plugins(), "lightningd": node.lightningd(), "config": node.config()}
    assert now == node.remembered("before")
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"


def test_what_was_written_while_it_ran_is_kept(node: Any) -> None:
    assert [version for version, _ in node.rows("hive-fixture")["hive-fixture"]] == ["0.1.0", "0.1.0", "0.2.0", "0.1.0"]
