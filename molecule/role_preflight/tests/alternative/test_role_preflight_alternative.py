"""A preview of taking everything away: a plan, nothing to run, and nothing done."""

from __future__ import annotations

from typing import Any


def test_the_plan_takes_every_plugin_away(node: Any) -> None:
    plan = node.remembered("looked")["plan"]["nodes"][node.name]
    assert [item["name"] for item in plan["before"]] == ["cl-hive-comms", "cl-hive-archon", "cl-hive"]
    assert plan["after"] == []


def test_nothing_is_handed_on_and_nothing_done(node: Any) -> None:
    assert node.remembered("looked")["run"].get("nodes", {}) == {}
    assert sorted(node.versions()) == ["cl-hive", "cl-hive-archon", "cl-hive-comms"]
