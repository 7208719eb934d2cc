"""A node that goes back by itself while no controller is there, and the run that finds it so."""

from __future__ import annotations

from collections.abc import Callable

from flows.flow_fleet import PLUGIN, Fleet
from flows.test_flows_soak import LONG, approved, events
from waiting import wait_until


def test_a_canary_that_went_back_by_itself_is_a_failed_stage(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    pids = fleet.pids()
    wanted = approved(fleet, **LONG)
    fleet.good("rollout", **wanted)
    assert fleet.report["result"] == "soaking"
    path = next(p["name"] for p in fleet.cli("alpha", "plugin", "list")["plugins"] if PLUGIN in p["name"])
    fleet.cli("alpha", "plugin", "stop", path)
    wait_until(lambda: events(fleet, "alpha", "self-reverted"), 180, "the node has gone back")
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]

    outcome = fleet.bad("rollout", **wanted)
    assert "does not run, in 3 looks in a row" in outcome.text
    assert fleet.report["result"] != "success"
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]
    assert events(fleet, "bravo", "begin") == []
    assert len(list((fleet.root / "registers/incidents").glob("*.yml"))) == 1
    # Once is enough: its probe leaves it at that.
    assert len(events(fleet, "alpha", "self-reverted")) == 1
    assert fleet.pids() == pids
