"""The ways to stop a rollout from outside: a brake on any node, a pause, and giving it up for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flows.flow_fleet import Fleet, Shelf
from waiting import wait_until

# The samples last longer than anybody would wait for a brake, so they are taken in parts.
WATCHED = {"hive_soak_seconds": 60, "hive_probe_interval_seconds": 1, "hive_deadman_seconds": 600}
SOAKING = {"hive_canary_soak_minutes": 60, "hive_approval_required": True}


@pytest.fixture(scope="module")
def two(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes without plugins at first; the tests of this module come one after the other."""
    fleet = Fleet(tmp_path_factory.mktemp("two"), shelf)
    try:
        fleet.up(2)
        yield fleet
    finally:
        fleet.down()


def versions(fleet: Fleet) -> list[str]:
    return [fleet.version(node) for node in fleet.nodes]


def test_a_file_on_a_node_that_is_not_its_turn_takes_everything_back_at_once(two: Fleet) -> None:
    pids = two.pids()
    run = two.start("rollout", **WATCHED)
    wait_until(lambda: two.watched("alpha", "0.1.0"), 240, "the canary is switched and watched")
    (two.sandbox / "bravo/hive/brake").touch()
    outcome = run.end()
    assert outcome.rc != 0, outcome.text
    sentence = outcome.sentence("The brake of bravo is set")
    assert "playbooks/brake.yml -e hive_brake_state=absent" in sentence
    assert versions(two) == ["", ""]
    assert two.journal("alpha")[-1]["event"] == "reverted"
    assert two.pids() == pids
    assert two.report["result"] == "braked"


def test_while_it_is_set_nothing_begins_and_one_command_releases_it(two: Fleet) -> None:
    assert "The brake of bravo is set" in two.bad("rollout").text
    two.good("brake", hive_brake_state="absent")
    assert not (two.sandbox / "bravo/hive/brake").exists()

    two.good("pause", hive_pause_reason="until Monday")
    refused = two.bad("rollout")
    assert "until Monday" in refused.sentence("alpha is paused")
    assert versions(two) == ["", ""]
    two.good("resume")
    assert not list(two.sandbox.glob("*/hive/pause"))


def test_a_rollout_that_is_given_up_goes_back_and_stays_dead(two: Fleet) -> None:
    digest = two.bad("rollout", **SOAKING).sentence("run again with -e hive_approved_plan=").rpartition("=")[2]
    wanted: dict[str, Any] = {**SOAKING, "hive_approved_plan": digest}
    two.good("rollout", **wanted)
    assert versions(two) == ["0.1.0", ""]

    outcome = two.good("abort", hive_abort_reason="nobody wants it")
    assert "is given up: alpha goes back" in outcome.text
    assert versions(two) == ["", ""]
    told = [entry for entry in two.journal("alpha") if entry["event"] == "abandoned"]
    assert [entry["data"] for entry in told] == [{"plan": digest, "summary": "nobody wants it"}]
    assert "is not what would run now" in two.bad("rollout", **wanted).text
    assert "no rollout is under way" in two.good("abort").text
    assert not (two.sandbox / "alpha/lightning/hive.conf").exists()
