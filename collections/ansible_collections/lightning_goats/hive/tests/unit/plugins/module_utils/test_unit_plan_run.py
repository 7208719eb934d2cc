"""What the plays after the plan get: stages, dead-man, what nodes write down, and when a rollout is at its end."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_rollout, _plan_run
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Shelf
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    COMMS,
    HIVE,
    Json,
    item,
    manifest,
    observation,
)

NODES = ("alpha", "bravo", "charlie")
STACK = [item(COMMS), item(HIVE)]
SOAK = {"minutes": 60.0, "blocks": 6, "forwards": 2, "extend_minutes": 30.0}
NONE = _plan_rollout.NO_SOAK
ARGS: Json = {
    "goal": "stack",
    "canary_soak": SOAK,
    "wave_soak": NONE,
    "soak_seconds": 10.0,
    "soak_self_revert": True,
    "allow_lightningd_restart": False,
    "deadman_seconds": 0,
    "failure_budget": 0,
    "commit": "stage",
    "form_fleet": True,
    "releases_dir": "var/releases",
    "maintenance_windows": [],
    "maintenance_timezone": "UTC",
}
SHELF = Shelf(
    "var/releases",
    {(name, "0.1.0"): {"manifest": manifest(name), "path": f"/shelf/{name}"} for name in (COMMS, HIVE)},
    {},
)
KNOWN = _plan_run.manifests(SHELF)


def planned(**args: Any) -> _plan_run.Run:
    """A new rollout of three nodes."""
    given = {**ARGS, **args}
    seen: dict[str, Json | None] = {node: observation(node) for node in NODES}
    policy = {"fleet": "test", "waves": [1, 1, 1], "min_free_bytes": 0, "terms": {}}
    plan = _plan.plan(dict.fromkeys(NODES, STACK), seen, KNOWN, policy)
    places = dict.fromkeys((*NODES, "away"), "/var/lib/hive")
    return _plan_run.Run(plan, "r1", None, dict.fromkeys(NODES, STACK), given, SHELF, seen, places, 30.0)


def handed(run: _plan_run.Run, *held: str, nothing: bool = False) -> Json:
    return _plan_run.handed_on(run, held, nothing)


def test_a_run_gets_the_stages_up_to_the_one_that_soaks() -> None:
    run = handed(planned())
    assert (run["hosts"], run["serial"], run["total"], run["ends"]) == (["alpha"], [1], 3, False)
    assert run["soaks"] == {"canary": SOAK}


def test_without_soaks_it_gets_all_and_comes_to_the_end() -> None:
    run = handed(planned(canary_soak=NONE))
    assert (run["hosts"], run["serial"], run["ends"]) == (list(NODES), [1, 1, 1], True)
    assert not handed(planned(canary_soak=NONE, wave_soak=SOAK))["ends"]


def test_a_preview_hands_on_nothing() -> None:
    run = handed(planned(), nothing=True)
    assert (run["hosts"], run["nodes"], run["soaking"], run["watched"], run["hive"]["forming"]) == (
        [],
        {},
        [],
        [],
        False,
    )


def test_a_node_writes_down_all_that_the_rollout_needs_to_go_on() -> None:
    run = planned()
    stage = handed(run)["nodes"]["alpha"]["stage"]
    assert (stage["plan"], stage["name"], stage["number"]) == (run.plan["digest"], "canary", 0)
    assert stage["action"] == "install"
    assert stage["soak"] == {**SOAK, "self_revert": True, "restarts_allowed": 0}
    steps = _plan.fingerprints(run.plan["nodes"])
    assert stage["waves"] == [{**wave, "steps": [steps[n] for n in wave["nodes"]]} for wave in run.plan["waves"]]


def test_what_was_interrupted_writes_down_what_was_planned() -> None:
    run = planned()
    run.plan["nodes"]["alpha"] = {**run.plan["nodes"]["alpha"], "action": "resume"}
    assert handed(run)["nodes"]["alpha"]["stage"]["action"] == "install"


def test_only_a_rollout_to_the_stack_of_the_inventory_soaks() -> None:
    run = handed(planned(goal="nothing"))
    assert run["hosts"] == list(NODES)
    assert [node["stage"] for node in run["nodes"].values()] == [None, None, None]


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        ({}, 140),
        ({"deadman_seconds": 900}, 900),
        ({"goal": "previous"}, 0),
        ({"commit": "fleet"}, 4 * 140),
        ({"commit": "fleet", "deadman_seconds": 900}, 900),
        ({"commit": "fleet", "deadman_seconds": 30}, 4 * 140),
    ],
)
def test_the_dead_man_outlives_what_is_watched(args: Json, seconds: int) -> None:
    run = planned(**args)
    assert _plan_run.deadman_seconds(run.plan, run.args) == seconds


def test_a_brake_is_looked_for_wherever_somebody_answers() -> None:
    run = planned()
    assert [place["node"] for place in handed(run)["watched"]] == [*NODES, "away"]
    run.plan["left"] = {"away": "it cannot be reached"}
    assert [place["node"] for place in handed(run)["watched"]] == list(NODES)


def test_a_rollout_that_goes_on_is_judged_beside_the_nodes_it_has_not_changed() -> None:
    run = planned()
    waves = handed(run)["nodes"]["alpha"]["stage"]["waves"]
    seen = copy.deepcopy(dict(run.observed))
    soak = {
        "rollout": "r1",
        "plan": run.plan["digest"],
        "stage": "canary",
        "number": 0,
        "waves": waves,
        "action": "install",
        "soak": SOAK,
        "since": 1000.0,
        "since_height": 7,
        "previous": [],
        "target": STACK,
        "state": "soaking",
    }
    seen["alpha"] = observation("alpha", STACK, soak=soak)
    going = _plan_rollout.under_way(seen)
    assert going is not None
    policy = {"fleet": "test", "min_free_bytes": 0, "terms": {}, "fleet_nodes": list(NODES)}
    plan = _plan_rollout.carry_on(going, dict.fromkeys(NODES, STACK), seen, KNOWN, policy)
    places = dict.fromkeys(NODES, "/var/lib/hive")
    stacks = dict.fromkeys(NODES, STACK)
    found = handed(_plan_run.Run(plan, "r1", going, stacks, run.args, SHELF, seen, places), "it waits")
    (stage,) = found["soaking"]
    assert (stage["name"], stage["nodes"], stage["soak"]) == ("canary", ["alpha"], SOAK)
    assert stage["about"] == {"plan": run.plan["digest"], "name": "canary", "number": 0}
    member = stage["members"]["alpha"]
    assert (member["since"], member["since_height"]) == (1000.0, 7)
    assert [item_["name"] for item_ in member["expected"]] == [COMMS, HIVE]
    assert [known["name"] for known in member["manifests"]] == [COMMS, HIVE]
    assert found["controls"] == ["bravo", "charlie"]
    assert (found["held"], found["hosts"], found["ends"]) == (["it waits"], ["bravo", "charlie"], True)
