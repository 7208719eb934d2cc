"""What every fault begins with."""

from __future__ import annotations

from typing import Any


def test_the_fixture_runs(node: Any) -> None:
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"
    assert node.journal()[-1]["event"] == "confirmed"
