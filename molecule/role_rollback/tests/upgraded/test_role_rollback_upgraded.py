"""Before the rollback."""

from __future__ import annotations

from typing import Any


def test_the_next_release_runs(node: Any) -> None:
    assert node.rpc("hive-fixture-status")["version"] == "0.2.0"
    assert node.remember("lightningd", node.lightningd())["pid"] > 0
