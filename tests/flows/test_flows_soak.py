"""A rollout that takes days, in seconds: a stage soaks between the runs, and the next run judges it and goes on.

All that is known of it stands in the nodes; every run here is that of a controller that has seen nothing before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import probe_ring
from flows.flow_fleet import PLUGIN, Fleet, Outcome
from waiting import wait_until

pytestmark = pytest.mark.timeout(900)

SHORT = {
    "hive_canary_soak_minutes": 0.05,
    "hive_canary_soak_blocks": 0,
    "hive_canary_soak_forwards": 0,
    "hive_wave_soak_minutes": 0.05,
    "hive_wave_soak_blocks": 0,
    "hive_wave_soak_forwards": 0,
    "hive_soak_extend_minutes": 30,
    "hive_probe_interval_seconds": 1,
    "hive_approval_required": True,
}
LONG = {**SHORT, "hive_canary_soak_minutes": 60}


def approved(fleet: Fleet, **variables: Any) -> dict[str, Any]:
    """The variables with the approval of the plan that they make."""
    digest = fleet.bad("rollout", **variables).sentence("run again with -e hive_approved_plan=").rpartition("=")[2]
    return {**variables, "hive_approved_plan": digest}


def elsewhere(fleet: Fleet) -> dict[str, Any]:
    """Another controller: it has none of the reports and notes of the first."""
    number = len(list(fleet.root.glob("controller*")))
    fleet.reports_dir = fleet.root / f"controller{number}"
    fleet.reports_dir.mkdir()
    return {"hive_reports_dir": str(fleet.reports_dir)}


def when_soaked(fleet: Fleet, **variables: Any) -> Outcome:
    """Run until the stage is no longer soaking: on a slow machine the probe may need longer for its samples."""
    for _ in range(8):
        wait_until(lambda: time.time() > fleet.report["soaks"][-1]["come_back_at"], 120, "the time to come back")
        before = [soak["stage"] for soak in fleet.report["soaks"] if soak["state"] == "soaking"]
        outcome = fleet.run("rollout", **variables, **elsewhere(fleet))
        now = [soak["stage"] for soak in fleet.report["soaks"] if soak["state"] == "soaking"]
        if now != before:
            return outcome
    raise AssertionError(f"it soaks for ever: {fleet.report['soaks']}")


def samples(fleet: Fleet, node: str) -> int:
    """How often the probe of a node has looked since its stage was confirmed."""
    since = events(fleet, node, "confirmed")[-1]["time"]
    return len(probe_ring.samples_since(fleet.sandbox / node / "hive/probe.sqlite3", since))


def events(fleet: Fleet, node: str, event: str) -> list[dict[str, Any]]:
    return [entry for entry in fleet.journal(node) if entry["event"] == event]


def test_a_rollout_outlives_its_runs_and_its_controllers(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    pids = fleet.pids()
    wanted = approved(fleet, **SHORT)

    first = fleet.good("rollout", **wanted)
    report = fleet.report
    assert report["result"] == "soaking"
    assert "come back after" in first.text
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", ""]
    assert events(fleet, "bravo", "begin") == []

    second = when_soaked(fleet, **wanted)
    assert second.rc == 0, second.text
    assert {soak["stage"]: soak["state"] for soak in fleet.report["soaks"]} == {"canary": "soaked", "wave 1": "soaking"}
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", "0.1.0"]
    assert fleet.report["rollout"] == report["rollout"]
    assert fleet.report["plan_digest"] == report["plan_digest"] == wanted["hive_approved_plan"]
    assert fleet.report["result"] == "soaking"
    assert [entry["data"]["verdict"] for entry in events(fleet, "alpha", "soaked")] == ["healthy"]
    assert fleet.bad("finalize").sentence("so the rollout is not complete").startswith("alpha")

    third = when_soaked(fleet, **wanted)
    assert third.rc == 0, third.text
    assert (fleet.report["result"], fleet.pids()) == ("success", pids)


def test_a_canary_that_fails_its_soak_goes_back_and_its_plan_is_dead(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    pids = fleet.pids()
    wanted = approved(fleet, **LONG, hive_soak_self_revert=False)
    fleet.good("rollout", **wanted)
    since = len(events(fleet, "alpha", "confirmed"))
    fleet.fault("alpha", "log-broken", message="UNUSUAL: cannot write to the database", source=f"plugin-{PLUGIN}")
    path = next(p["name"] for p in fleet.cli("alpha", "plugin", "list")["plugins"] if PLUGIN in p["name"])
    fleet.cli("alpha", "plugin", "stop", path)
    wait_until(lambda: samples(fleet, "alpha") > 5, 120, "the probe has looked some times")

    outcome = fleet.bad("rollout", **wanted, **elsewhere(fleet))
    assert "canary: failing" in outcome.text
    assert fleet.report["result"] == "reverted"
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]
    assert len(events(fleet, "alpha", "confirmed")) == since + 1
    assert events(fleet, "alpha", "abandoned")[-1]["data"]["plan"] == wanted["hive_approved_plan"]
    assert events(fleet, "bravo", "begin") == []
    assert fleet.pids() == pids
    incidents = list((fleet.root / "registers/incidents").glob("*.yml"))
    assert len(incidents) == 1
    assert "alpha" in incidents[0].read_text(encoding="utf-8")
    # What was approved has been tried.
    assert "is not what would run now" in fleet.bad("rollout", **wanted).text
