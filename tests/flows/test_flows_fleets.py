"""Fleets of all sizes, parts of them, and what a failed stage leaves for the next attempt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf, descendants
from waiting import wait_until


@pytest.fixture(scope="module")
def two(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes without plugins at first; the tests of this module come one after the other."""
    fleet = Fleet(tmp_path_factory.mktemp("two"), shelf)
    fleet.up(2)
    yield fleet
    fleet.down()


@pytest.fixture(scope="module")
def single(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node that runs 0.1.0."""
    fleet = Fleet(tmp_path_factory.mktemp("single"), shelf)
    try:
        fleet.up(1)
        # Larger than the fleet: the one node is the canary, and there is nothing after it.
        text = fleet.good("rollout", hive_waves=[5, "50%", 100]).text
        assert "Stage 1 of 1, canary: alpha" in text
        yield fleet
    finally:
        fleet.down()


def to(version: str) -> dict[str, Any]:
    return {"hive_release_versions": {PLUGIN: version}}


def versions(fleet: Fleet) -> list[str]:
    return [fleet.version(node) for node in fleet.nodes]


def test_an_empty_group(shelf: Shelf, two: Fleet) -> None:
    empty = Fleet(two.root / "empty", shelf)
    empty.inventory.mkdir(parents=True)
    (empty.inventory / "hosts.yml").write_text("hive_nodes:\n  hosts: {}\nothers:\n  hosts:\n    mail:\n")
    assert "has no host in group hive_nodes" in empty.bad("rollout").sentence("name the right one with -i")


def test_a_limit_that_leaves_nobody(two: Fleet) -> None:
    extra = two.inventory / "others.yml"
    extra.write_text("others:\n  hosts:\n    mail:\n")
    try:
        outcome = two.bad("rollout", "--limit", "mail")
    finally:
        extra.unlink()
    assert "has no host in group hive_nodes within --limit mail" in outcome.text
    assert versions(two) == ["", ""]


def test_an_approval_of_the_fleet_is_none_of_a_part_and_the_other_way_round(two: Fleet) -> None:
    """With --limit other nodes come in other stages: what runs is what was approved, or nothing."""
    strict = {"hive_approval_required": True}
    whole = two.bad("rollout", **strict).sentence("hive_approved_plan=").rpartition("=")[2]
    part = two.bad("rollout", "--limit", "bravo", **strict).sentence("hive_approved_plan=").rpartition("=")[2]
    assert whole != part
    for arguments, digest in ((("--limit", "bravo"), whole), ((), part)):
        refused = two.bad("rollout", *arguments, **strict, hive_approved_plan=digest)
        assert "is not what would run now" in refused.text
    assert versions(two) == ["", ""]
    two.good("rollout", "--limit", "bravo", **strict, hive_approved_plan=part)
    assert versions(two) == ["", "0.1.0"]
    assert two.journal("alpha") == []


def test_a_fleet_that_is_all_canary(two: Fleet) -> None:
    """Both ends of a channel in one stage only when the operator says so; judged together, kept together."""
    assert (
        "Stage 1 of 1, canary: alpha, bravo"
        in two.good("rollout", **to("0.1.1"), hive_waves=["100%"], hive_separate_channel_peers=False).text
    )
    assert versions(two) == ["0.1.1", "0.1.1"]


def test_a_canary_that_goes_back_stops_the_run_and_the_retry_starts_clean(two: Fleet) -> None:
    begun = [entry for entry in two.journal("bravo") if entry["event"] == "begin"]
    pids = two.pids()
    outcome = two.bad("rollout", **to("0.6.0"), hive_soak_seconds=4)
    assert "verdict: failing" in outcome.text
    assert "Stage 2 of" not in outcome.text
    assert [entry for entry in two.journal("bravo") if entry["event"] == "begin"] == begun
    failed = two.report
    assert {node: facts["result"] for node, facts in failed["nodes"].items()} == {
        "alpha": "reverted",
        "bravo": "untouched",
    }
    outcome = two.good("rollout", **to("0.1.0"))
    assert "verdict: failing" not in outcome.text
    report = two.report
    assert report["rollout"] != failed["rollout"]
    assert (report["result"], report["reasons"]) == ("success", [])
    assert [stage["verdict"]["verdict"] for stage in report["stages"]] == ["healthy", "healthy"]
    assert versions(two) == ["0.1.0", "0.1.0"]
    assert two.pids() == pids


def test_a_node_killed_while_it_is_watched_is_no_success(single: Fleet) -> None:
    pid = single.pid("alpha")
    run = single.start("rollout", **to("0.1.1"), hive_soak_seconds=12)
    # Its version answers already while the switch still verifies; a death then is the switch's to report.
    wait_until(lambda: single.watched("alpha", "0.1.1"), 120, "the node is switched and watched")
    os.kill(pid, signal.SIGKILL)
    outcome = run.end()
    assert outcome.rc != 0, outcome.text
    assert "verdict: failing" in outcome.text
    assert "verdict: healthy" not in outcome.text
    wait_until(lambda: single.version("alpha") == "0.1.0", 60, "lightningd is back with the old release")
    assert single.pid("alpha") != pid
    assert single.report["result"] in ("reverted", "failed")
    assert not (single.sandbox / "alpha/hive/lock.json").exists()


def test_dead_after_it_was_confirmed_status_says_so_and_the_way_back_asks_no_canary(single: Fleet) -> None:
    """The soak was too short for what this release does; the rollback is not judged, and does not wait."""
    mortal = [{"name": PLUGIN, "version": "0.6.0", "options": {f"{PLUGIN}-life": 600}}]
    pid = single.pid("alpha")
    single.good("rollout", hive_stack=mortal)
    # Its own clock would run on a busy machine while the soak is still to come.
    (plugin,) = (found for found in descendants(pid) if PLUGIN in Path(f"/proc/{found}/cmdline").read_text())
    os.kill(plugin, signal.SIGKILL)
    wait_until(lambda: single.version("alpha") == "", 60, "the plugin has died")
    assert "hive-fixture should run and does not" in single.run("status").text
    single.fault("alpha", "log-broken", message="what a judge would not let pass")
    outcome = single.good("rollback", hive_soak_seconds=900)
    assert "verdict" not in outcome.text
    assert "samples" not in outcome.text
    assert single.version("alpha") == "0.1.0"
    assert single.pid("alpha") == pid
