"""Releases that are bad, and one that takes lightningd with it."""

from __future__ import annotations

from functools import partial
from typing import Any

from waiting import wait_until


def test_three_bad_releases_at_once(operator: Any, stack: Any, before: dict[str, Any]) -> None:
    """One crashes at init, one hangs at getmanifest, one answers and dies later: the whole batch goes back."""
    bad = {"metal12": "0.3.0", "metal13": "0.4.0", "dock": "0.6.0"}
    rc, text = operator.rollout(stack(bad), hive_soak_seconds=5)
    assert rc != 0, text
    assert "exited" in text
    assert "getmanifest" in text
    for name, was in before.items():
        assert was.holds(), name
    assert {node["result"] for node in operator.report()["nodes"].values()} == {"reverted"}


def test_a_plugin_that_kills_lightningd(operator: Any, stack: Any, before: dict[str, Any]) -> None:
    """lightningd comes back, by its unit's Restart=on-failure or by the engine, without the plugin that killed it."""
    rc, text = operator.rollout(stack("0.7.0"))
    assert rc != 0, text
    for name, was in before.items():
        assert wait_until(partial(was.node.ask, "hive-fixture-status"), 30, f"{name} answers", 0.2)
        assert was.holds(restarted=True, quarantined="hive-fixture"), name
    restarts = {node["lightningd_restarts"] for node in operator.report()["nodes"].values()}
    assert 0 not in restarts, restarts

    # What lightningd died of is not tried again.
    rc, text = operator.rollout(stack("0.7.0"))
    assert rc != 0
    assert "quarantine" in text, text
