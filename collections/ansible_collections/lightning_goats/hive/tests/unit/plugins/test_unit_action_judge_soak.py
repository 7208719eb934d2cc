"""What follows for other stages that soak when one fails: its plan is dead, and nobody judges them any more."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.action import hive_judge_soak
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts

Json = dict[str, Any]


def stage(name: str, state: str, *nodes: str, **more: Any) -> Json:
    verdict = {"failed": "failing", "soaked": "healthy"}.get(state, "inconclusive")
    reasons = [{"node": "", "check": "progress", "verdict": verdict, "detail": "30 of 60 minutes so far"}]
    progress = {"minutes": [30, 60]}
    return {
        "name": name,
        "state": state,
        "verdict": verdict,
        "nodes": list(nodes),
        "reasons": reasons,
        "progress": progress,
        "samples": 30,
        "come_back_at": 5000,
        "remaining_seconds": 60,
        "soaked": [],
        "back": [],
        "msg": f"{name}: {state}",
        **more,
    }


@pytest.mark.parametrize("state", ["soaking", "paused"])
def test_what_still_soaks_under_a_plan_that_failed_goes_back_with_it(state: str) -> None:
    failed = stage("wave 1", "failed", "b", "c", back=["b", "c"])
    found = hive_judge_soak.together([stage("canary", state, "a"), failed])
    assert [(one["state"], one["back"]) for one in found] == [("failed", ["a"]), ("failed", ["b", "c"])]
    assert found[0]["msg"].startswith("canary: failing: its plan is dead, because wave 1 failed")
    assert found[0]["come_back_at"] == 0
    assert found[1] == failed


def test_a_node_whose_probe_looks_less_often_than_the_others_is_judged_at_its_own_pace() -> None:
    variables: Json = {"a": {"hive_probe_interval_seconds": 300}, "b": {"hive_probe_interval_seconds": 60}, "c": {}}
    hosts = _plan_hosts.Hosts({"hostvars": variables, "ansible_play_hosts_all": list(variables)})
    paces = [
        hive_judge_soak.pace(hosts, stage("canary", "soaking", *nodes), {"interval_seconds": 60.0})
        for nodes in (["a", "b"], ["b", "c"], [])
    ]
    assert [one["interval_seconds"] for one in paces] == [300.0, 60.0, 60.0]


def test_what_has_soaked_stays_and_without_a_failure_nothing_changes() -> None:
    healthy = stage("canary", "soaked", "a", soaked=["a"])
    assert hive_judge_soak.together([healthy, stage("wave 1", "failed", "b", back=["b"])])[0] == healthy
    both = [healthy, stage("wave 1", "soaking", "b")]
    assert hive_judge_soak.together(both) == both
