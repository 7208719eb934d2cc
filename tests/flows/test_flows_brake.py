"""The ways to stop a rollout from outside: a brake on any node, a pause, and giving it up for good."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flows.flow_fleet import Fleet, Shelf
from waiting import wait_until

pytestmark = pytest.mark.timeout(900)

# The samples last longer than anybody would wait for a brake, so they are taken in parts.
WATCHED = {"hive_soak_seconds": 60, "hive_probe_interval_seconds": 1, "hive_deadman_seconds": 600}
TWO_OF_THREE = {"hive_waves": [2, 1], "hive_separate_channel_peers": False}
SOAKING = {"hive_canary_soak_minutes": 60, "hive_approval_required": True}


@pytest.fixture(scope="module")
def three(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three nodes without plugins at first; the tests of this module come one after the other."""
    fleet = Fleet(tmp_path_factory.mktemp("three"), shelf)
    try:
        fleet.up(3)
        yield fleet
    finally:
        fleet.down()


def versions(fleet: Fleet) -> list[str]:
    return [fleet.version(node) for node in fleet.nodes]


def test_a_file_on_a_node_that_is_not_its_turn_takes_everything_back_at_once(three: Fleet) -> None:
    pids = three.pids()
    run = three.start("rollout", **WATCHED, **TWO_OF_THREE)
    for node in ("alpha", "bravo"):
        wait_until(partial(three.watched, node, "0.1.0"), 240, f"{node} is switched and watched")
    (three.sandbox / "charlie/hive/brake").touch()
    outcome = run.end()
    assert outcome.rc != 0, outcome.text
    sentence = outcome.sentence("The brake of charlie is set")
    assert "playbooks/brake.yml -e hive_brake_state=absent" in sentence
    assert versions(three) == ["", "", ""]
    assert [three.journal(node)[-1]["event"] for node in ("alpha", "bravo")] == ["reverted", "reverted"]
    assert not [entry for entry in three.journal("charlie") if entry["event"] == "begin"]
    assert three.pids() == pids
    assert three.report["result"] == "braked"


def test_while_it_is_set_nothing_begins_and_one_command_releases_it(three: Fleet) -> None:
    assert "The brake of charlie is set" in three.bad("rollout").text
    three.good("brake", hive_brake_state="absent")
    assert not (three.sandbox / "charlie/hive/brake").exists()

    three.good("pause", hive_pause_reason="until Monday")
    refused = three.bad("rollout")
    assert "until Monday" in refused.sentence("alpha is paused")
    assert versions(three) == ["", "", ""]
    three.good("resume")
    assert not list(three.sandbox.glob("*/hive/pause"))


def test_a_rollout_that_is_given_up_goes_back_and_stays_dead(three: Fleet) -> None:
    digest = three.bad("rollout", **SOAKING).sentence("run again with -e hive_approved_plan=").rpartition("=")[2]
    wanted: dict[str, Any] = {**SOAKING, "hive_approved_plan": digest}
    three.good("rollout", **wanted)
    assert versions(three) == ["0.1.0", "", ""]

    outcome = three.good("abort", hive_abort_reason="nobody wants it")
    assert "is given up: alpha goes back" in outcome.text
    assert versions(three) == ["", "", ""]
    told = [entry for entry in three.journal("alpha") if entry["event"] == "abandoned"]
    assert [entry["data"] for entry in told] == [{"plan": digest, "summary": "nobody wants it"}]
    assert "is not what would run now" in three.bad("rollout", **wanted).text
    assert "no rollout is under way" in three.good("abort").text
    assert not (three.sandbox / "alpha/lightning/hive.conf").exists()
