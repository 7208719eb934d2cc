"""A release or a node that turns out bad half-way: the batch goes back, the run fails, nobody else is touched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet
from waiting import wait_until

TIMEOUTS = {"getmanifest": 2, "init": 2}


def to(version: str) -> dict[str, Any]:
    return {"hive_release_versions": {PLUGIN: version}, "hive_timeouts": TIMEOUTS}


def stands_as_before(fleet: Fleet, pid: int, version: str = "0.1.0", node: str = "alpha") -> None:
    """The node runs what it ran, in the same lightningd, with nothing open."""
    assert fleet.version(node) == version
    assert fleet.pid(node) == pid
    assert not (fleet.sandbox / node / "hive/lock.json").exists()
    assert fleet.journal(node)[-1]["event"] != "switched"
    assert f"/{PLUGIN}/" in (fleet.sandbox / node / "lightning/hive.conf").read_text()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.2.0", "exited"),
        ("0.3.0", "getmanifest"),
        ("0.5.0", "reports failed"),
        ("0.7.0", "disabled itself"),
    ],
    ids=["crashes at init", "hangs at getmanifest", "is unhealthy", "disables itself"],
)
def test_a_release_that_does_not_start(running: Fleet, version: str, words: str) -> None:
    pid = running.pid("alpha")
    outcome = running.bad("rollout", **to(version))
    assert words in outcome.text, outcome.text
    stands_as_before(running, pid)
    report = running.report
    assert (report["result"], report["nodes"]["alpha"]["result"]) == ("reverted", "reverted")
    assert report["stages"][0]["verdict"]["verdict"] == "failing"
    assert report["nodes"]["alpha"]["lightningd_restarts"] == 0
    assert [item["version"] for item in report["nodes"]["alpha"]["after"]] == ["0.1.0"]
    assert any(words in reason for reason in report["reasons"])


def test_a_release_that_dies_while_it_is_watched(running: Fleet) -> None:
    pid = running.pid("alpha")
    outcome = running.bad("rollout", **to("0.6.0"), hive_soak_seconds=4)
    assert "verdict: failing" in outcome.text
    stands_as_before(running, pid)
    assert running.report["result"] == "reverted"
    assert PLUGIN in running.report["reasons"][0]


@pytest.mark.parametrize(
    ("fault", "words"), [("log-broken", "new BROKEN lines"), ("drop-channel", "channels lost")], ids=lambda v: v
)
def test_a_node_that_suffers_while_it_is_watched(start_fleet: Callable[..., Fleet], fault: str, words: str) -> None:
    fleet = start_fleet(2)
    fleet.good("rollout", "--limit", "alpha")
    pid = fleet.pid("alpha")
    run = fleet.start("rollout", **to("0.1.1"), hive_soak_seconds=3)
    wait_until(lambda: fleet.version("alpha") == "0.1.1", 120, "the canary runs the new release")
    fleet.fault("alpha", fault)
    outcome = run.end()
    assert outcome.rc != 0, outcome.text
    assert words in outcome.sentence("verdict: failing")
    stands_as_before(fleet, pid)
    report = fleet.report
    assert report["result"] == "reverted"
    assert {name: node["result"] for name, node in report["nodes"].items()} == {
        "alpha": "reverted",
        "bravo": "untouched",
    }
    assert fleet.version("bravo") == ""


def test_one_bad_node_takes_its_whole_batch_back(fleet: Fleet) -> None:
    pids = fleet.pids()
    fleet.fault("bravo", "refuse-plugin-start")
    outcome = fleet.bad("rollout", hive_waves=["100%"], hive_separate_channel_peers=False)
    assert "Stage 1 of 1, canary: " in outcome.text
    assert [fleet.version(node) for node in fleet.nodes] == ["", "", ""]
    assert fleet.pids() == pids
    report = fleet.report
    assert report["result"] == "reverted"
    assert {node["result"] for node in report["nodes"].values()} == {"reverted"}
    assert [node["after"] for node in report["nodes"].values()] == [[], [], []]

    # Put right, the same command goes through.
    fleet.fault("bravo", "clear")
    fleet.good("rollout", hive_waves=["100%"], hive_separate_channel_peers=False)
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", "0.1.0", "0.1.0"]


def test_a_lightningd_that_dies_is_started_again_on_the_old_stack(one_node: Fleet) -> None:
    one_node.good("rollout")
    one_node.fault("alpha", "die-on-plugin-start")
    outcome = one_node.bad("rollout", **to("0.1.1"))
    assert "started again" in outcome.text
    assert one_node.version("alpha") == "0.1.0"
    report = one_node.report["nodes"]["alpha"]
    assert (report["result"], report["lightningd_restarts"]) == ("reverted", 1)


def test_one_node_that_cannot_be_staged_holds_the_others(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    (fleet.inventory / "host_vars").mkdir()
    (fleet.inventory / "host_vars/alpha.yml").write_text("hive_python: /nonexistent/python3\n")
    fleet.bad("rollout")
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]
    assert [
        fleet.journal(node) for node in fleet.nodes if any(e["event"] == "begin" for e in fleet.journal(node))
    ] == []
    assert fleet.report["result"] == "refused"


# An interpreter that works until the node has been switched and sampled, and then no more: the node is lost.
LOST = """#!/bin/sh
if grep -q '"event":"switched"' {journal} 2>/dev/null; then
  if [ -e {sampled} ]; then echo "the node is gone" >&2; exit 1; fi
  touch {sampled}
fi
exec {python} "$@"
"""


def test_a_node_lost_before_it_is_confirmed_stops_the_next_stage(fleet: Fleet) -> None:
    """In a stage of two one is kept and the other is lost: the third is not touched, and the dead-man does its work."""
    wrapper = fleet.root / "python"
    journal = fleet.sandbox / "bravo/hive/journal.jsonl"
    wrapper.write_text(LOST.format(journal=journal, sampled=fleet.root / "sampled", python=sys.executable))
    wrapper.chmod(0o755)
    (fleet.inventory / "host_vars").mkdir()
    (fleet.inventory / "host_vars/bravo.yml").write_text(f"ansible_python_interpreter: {wrapper}\n")
    lost = {"hive_waves": [2], "hive_separate_channel_peers": False, "hive_deadman_seconds": 20}
    outcome = fleet.bad("rollout", **lost)
    assert "the node is gone" in outcome.text
    assert fleet.version("alpha") == "0.1.0"
    assert fleet.version("charlie") == ""
    report = fleet.report
    assert report["result"] == "failed"
    assert {name: node["result"] for name, node in report["nodes"].items()} == {
        "alpha": "confirmed",
        "bravo": "failed",
        "charlie": "untouched",
    }
    wait_until(lambda: fleet.version("bravo") == "", 60, "the dead-man takes bravo back")

    # The node answers again: the same command finishes the work.
    (fleet.inventory / "host_vars/bravo.yml").unlink()
    fleet.good("rollout")
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", "0.1.0", "0.1.0"]


def test_a_run_without_a_soak_looks_once(one_node: Fleet) -> None:
    outcome = one_node.good("rollout", hive_soak_seconds=0)
    assert "verdict: healthy: 1 samples" in outcome.text
