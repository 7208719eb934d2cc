"""Plugins that take their time to stop, die later, and controllers whose terminal hangs up."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.rig import NAME, REPOSITORY, TIMEOUTS, Rig
from waiting import wait_until

Stack = list[dict[str, Any]]
PAUSE = f"{NAME}-pause"
# What lightningd gives a plugin that wants to be told of its shutdown.
LIGHTNINGD_SECONDS = 30.0


@pytest.fixture
def old(shared_rig: Rig) -> Stack:
    stack = [shared_rig.item("0.1.0"), shared_rig.second()]
    shared_rig.end_deadman()
    shared_rig.run("reverted")
    shared_rig.settle(stack)
    return stack


def slow(rig: Rig, seconds: int) -> Stack:
    """A stack whose plugin needs so many seconds for its last words."""
    return [rig.item("0.3.0", "takes-its-time", options={PAUSE: seconds}), rig.second()]


def last_words(rig: Rig) -> int:
    path = rig.node.network_dir / "hive_fixture.db"
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT count(*) FROM fixture_starts WHERE version = 'last words'").fetchone()
    finally:
        connection.close()
    return int(found[0])


def test_nobody_is_ended_earlier_than_lightningd_would_unless_the_operator_says_so() -> None:
    assert Timeouts().stop > LIGHTNINGD_SECONDS
    assert Timeouts.from_params({"stop": 5}).stop == 5


def test_one_that_writes_until_it_stops_loses_nothing(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    rig.settle(slow(rig, 1))
    before = last_words(rig)
    outcome = rig.run("switched", old, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["downtime_ms"][NAME] >= 1000
    assert outcome["remarks"] == []
    assert last_words(rig) == before + 1
    rig.assert_runs(old)


def test_one_that_takes_longer_than_the_operator_allows_is_ended_and_it_is_said(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    rig.settle(slow(rig, 30))
    before, who = last_words(rig), rig.machine.identity()
    outcome = rig.run("switched", old, deadman_seconds=0.0, timeouts=replace(TIMEOUTS, stop=1.0))
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["remarks"] == [f"{NAME} did not stop by itself and was ended; what it had not written yet is lost"]
    assert any(entry["data"].get("ended") for entry in outcome["journal"])
    assert last_words(rig) == before, "what was written before is whole"
    assert rig.machine.identity() == who
    rig.assert_runs(old)


def test_the_way_back_waits_for_last_words_too(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    before = last_words(rig)
    assert rig.run("switched", slow(rig, 1))["phase"] == "switched"
    assert rig.run("reverted")["phase"] == "reverted"
    assert last_words(rig) == before + 1
    rig.assert_runs(old)


def test_dead_after_it_was_confirmed_the_node_says_so_and_the_next_run_starts_it(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    mortal = [rig.item("0.6.0", "dies-soon", options={f"{NAME}-life": 2}), old[1]]
    assert rig.run("switched", mortal, deadman_seconds=0.0)["phase"] == "confirmed"
    rig.wait_until_gone(NAME)
    problems = {problem["code"]: problem["message"] for problem in rig.observe()["problems"]}
    assert f"{NAME} should run and does not" in problems["config-drift"]
    # Going back needs nobody's verdict on what is broken.
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    rig.assert_runs(old)


@pytest.mark.parametrize("step", [Step.STOP, Step.START, Step.VERIFY], ids=lambda step: step.value)
def test_the_terminal_hangs_up_and_the_dead_man_does_not_care(shared_rig: Rig, old: Stack, step: Step) -> None:
    """As SSH does when it drops: the engine loses its terminal and is hung up, the dead-man has neither."""
    rig = shared_rig
    new = [rig.item("0.2.0"), old[1]]
    call = {"node": rig.node.as_params(), "state": "switched", "stack": new, "changes": {"deadman_seconds": 2.5}}
    seen = len(rig.node.journal_file.read_text().splitlines())
    master, terminal = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY / 'collections'}:{REPOSITORY / 'tests'}",
    }
    engine = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "faults.engine_call", json.dumps(call)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)

    def reached() -> bool:
        lines = rig.node.journal_file.read_text().splitlines()[seen:]
        return any('"event":"intent"' in line and f'"step":"{step.value}"' in line for line in lines)

    wait_until(reached, 30, f"the engine is at {step.value}", interval=0.001)
    os.close(master)
    assert engine.wait(timeout=30) != 0
    rig.wait_closed(40)
    entries = rig.state().last.entries  # type: ignore[union-attr]
    assert entries[-1]["event"] == "reverted"
    assert entries[-1]["data"]["by"] == "dead-man"
    rig.assert_runs(old)
