"""What a plan says of the monolith: whose place is taken, which rows move, what is in the way, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_adoption, _report_adoption
from ansible_collections.lightning_goats.hive.tests.unit.plugins.module_utils.plan_shapes import (
    ARCHON,
    COMMS,
    HIVE,
    Json,
    item,
    manifest,
    observation,
)

PATH = "/home/cln/bin/cl-hive/cl-hive.py"
POLICY: Json = {"fleet": "test", "rollout": "r1", "waves": [1], "min_free_bytes": 0}
TAKES = {"tables": ["nostr_state"], "signatures": ["nostr_key_derivation"], "in_place": False}
STACK = [item(COMMS), item(HIVE, replaces=[PATH])]
MANIFESTS = {
    one["artifact"]["sha256"]: one
    for one in (
        manifest(COMMS, adopts=TAKES),
        manifest(HIVE, adopts={"tables": [], "signatures": [], "in_place": True}, rpc_methods=["hive-status"]),
        manifest(HIVE, "2.10.0", foreign={"repository": "", "ref": ""}),
    )
}


def by_hand(path: str = PATH, **changes: Any) -> Json:
    """A node whose own configuration loads a monolith with rows."""
    plugin = {"path": path, "active": True, "dynamic": True, "ours": False, "name": path.rpartition("/")[2]}
    rows = {"nostr_state": 5, "did_credentials": 2}
    monolith = {"path": "/ln/cl_hive.db", "size": 2**20, "ours": False, "layout": "2.10.0", "tables": rows}
    adoption = {"monolith": monolith, "adopted": [], "since": 0.0, "handed_over": 0.0, "finished": False}
    seen = observation(plugins=[plugin], adoption={**adoption, **changes})
    seen["rpc_methods"]["hive-status"] = ""
    return seen


def settled(**changes: Any) -> Json:
    """The same node once our plugins have taken that place."""
    return observation(stack=STACK, adoption={**by_hand()["adoption"], "adopted": [COMMS, HIVE], **changes})


def plan(seen: Json, after: list[Json], **policy: Any) -> Json:
    return _plan.plan({"alpha": after}, {"alpha": seen}, MANIFESTS, {**POLICY, **policy})


def codes(result: Json) -> list[str]:
    return [refusal["code"] for refusal in result["refused"]]


def test_the_plan_says_who_stops_which_rows_move_and_what_stays() -> None:
    result = plan(by_hand(), STACK)
    assert codes(result) == []
    steps = "\n".join(result["nodes"]["alpha"]["steps"])
    assert f"stop {PATH} and keep it off" in steps
    assert "let cl-hive-comms take over 5 of nostr_state" in steps
    assert "let cl-hive go on with /ln/cl_hive.db (2.10.0)" in steps
    assert "stay untouched until finalize.yml" in steps
    # What is approved covers whose place is taken.
    assert result["digest"] != plan(by_hand(), [item(COMMS), item(HIVE, replaces=["/another"])])["digest"]


def test_a_plugin_in_the_way_is_refused_with_the_way_to_replace_it() -> None:
    result = plan(by_hand(), [item(COMMS), item(HIVE)])
    assert codes(result) == ["rpc-collision"]
    assert f'"hive_replaces": ["{PATH}"]' in result["refused"][0]["message"]


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ([PATH], {HIVE: [PATH]}),
        (["cl-hive.py"], {HIVE: [PATH]}),
        (["/opt/cl-hive-comms/cl_hive_comms.py"], {COMMS: ["/opt/cl-hive-comms/cl_hive_comms.py"]}),
        ([], {}),
    ],
)
def test_whose_place_is_taken_is_found_by_path_and_by_name(words: list[str], places: dict[str, list[str]]) -> None:
    stack, refusals = _plan_adoption.with_replaced("alpha", [item(COMMS), item(HIVE)], words, by_hand())
    assert refusals == []
    assert {one["name"]: one["replaces"] for one in stack if "replaces" in one} == places


@pytest.mark.parametrize(
    ("words", "stack", "code"),
    [
        ("cl-hive.py", [item(HIVE)], "bad-replaces"),
        (["no-such.py"], [item(HIVE)], "replaces-nothing"),
        ([PATH], [item(COMMS)], "replaces-nobody"),
    ],
)
def test_a_name_that_means_nothing_is_refused(words: Any, stack: list[Json], code: str) -> None:
    _, refusals = _plan_adoption.with_replaced("alpha", stack, words, by_hand())
    assert [refusal.code for refusal in refusals] == [code]


def test_a_file_name_that_two_plugins_have_is_refused_and_a_path_is_not() -> None:
    seen = by_hand()
    seen["plugins"].append({**seen["plugins"][0], "path": "/opt/other/cl-hive.py"})
    _, refusals = _plan_adoption.with_replaced("alpha", STACK, ["cl-hive.py"], seen)
    assert [refusal.code for refusal in refusals] == ["replaces-several"]
    assert f"{PATH} and /opt/other/cl-hive.py" in refusals[0].message
    stack, refusals = _plan_adoption.with_replaced("alpha", [item(HIVE)], [PATH], seen)
    assert (refusals, stack[0]["replaces"]) == ([], [PATH])


def test_a_plugin_that_comes_after_all_was_given_up_has_nothing_to_take_over() -> None:
    monolith = {**by_hand()["adoption"]["monolith"], "tables": {}}
    for finished, names in ((False, [COMMS]), (True, [])):
        seen = settled(monolith=monolith, adopted=[HIVE], handed_over=1.0, finished=finished)
        assert _plan_adoption.pending(seen, STACK, MANIFESTS, POLICY) == names


def test_what_was_replaced_stays_replaced_when_nobody_says_so_again() -> None:
    stack, _ = _plan_adoption.with_replaced("alpha", [item(COMMS), item(HIVE)], [], settled())
    assert stack == STACK
    assert plan(settled(), stack)["nodes"]["alpha"]["action"] == "none"


def test_rows_that_were_left_are_a_reason_to_run() -> None:
    seen = observation(stack=STACK, adoption=by_hand()["adoption"])
    assert plan(seen, STACK)["nodes"]["alpha"]["action"] == "adopt"
    assert plan(seen, STACK, adopt="no")["nodes"]["alpha"]["action"] == "none"


def test_without_room_for_the_rows_nothing_starts() -> None:
    seen = by_hand()
    seen["disk"]["lightning_free_bytes"] = 2**20
    assert codes(plan(seen, STACK)) == ["disk-full"]
    assert codes(plan(seen, STACK, adopt="no")) == []


@pytest.mark.parametrize("after", [[], [item(HIVE, "2.10.0")]], ids=["by hand", "as a release"])
def test_the_way_back_is_planned_until_the_tables_were_given_up(after: list[Json]) -> None:
    steps = "\n".join(plan(settled(), after)["nodes"]["alpha"]["steps"])
    assert "carry back to the monolith" in steps
    assert f"start {PATH} again" in steps
    refused = plan(settled(handed_over=1_700_000_000.0), after)
    assert codes(refused) == ["handed-over"]
    assert "2023-11-14" in refused["refused"][0]["message"]


def test_a_next_release_of_ours_is_no_way_back() -> None:
    seen = settled(handed_over=1_700_000_000.0)
    assert codes(plan(seen, [item(COMMS, options={f"{COMMS}-limit": 7}), STACK[1]])) == []


def test_the_report_says_what_moved_and_what_did_not() -> None:
    table = {"source": 5, "adopted": 4, "inserted": 1, "updated": 0, "deleted": 0, "quarantined": 1, "digest": "ab"}
    taken = {
        "tables": {"nostr_state": table},
        "identity": {"action": "carried", "pubkey": "cd" * 32},
        "quarantine": [{"table": "nostr_state", "key": "event:x", "reason": "value is not valid JSON"}],
    }
    facts = {"first_ms": 900.0, "delta_ms": 300.0, "delta_rows": 1, "adopted": {COMMS: taken}}
    told = "\n".join(_report_adoption.told(facts))
    assert "4 rows of the monolith were taken over in 900 ms while it worked" in told
    assert "put 1 rows of the monolith aside (nostr_state event:x: value is not valid JSON)" in told
    assert f"keeps its Nostr identity {'cd' * 8}" in told
    back = {"tables": {"nostr_state": {"inserted": 2}}, "left": [{"table": "x", "rows": 3, "reason": "no place"}]}
    told = "\n".join(_report_adoption.told({"carry_back_ms": 5.0, "carried_back": {ARCHON: back}}))
    assert "2 rows were carried back" in told
    assert "3 rows of x stay with cl-hive-archon" in told
    assert _report_adoption.told(None) == []
    assert _report_adoption.short(None) == ""
