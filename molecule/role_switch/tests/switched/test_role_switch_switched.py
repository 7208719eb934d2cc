"""After a good switch."""

from __future__ import annotations

from typing import Any


def test_the_fixture_runs_with_its_option(node: Any) -> None:
    assert list(node.plugins()) == ["hive-fixture"]
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"
    assert "hive-fixture-note=hello" in node.config().splitlines()


def test_what_runs_will_be_compared(node: Any) -> None:
    node.remember("before", {"plugins": node.plugins(), "lightningd": node.lightningd(), "config": node.config()})
