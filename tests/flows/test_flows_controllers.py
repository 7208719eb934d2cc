"""More than one controller, a dead one, one with another clock, and an engine that is killed under a living one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf
from waiting import wait_until

CLOCK = """import time
_real, _real_ns = time.time, time.time_ns
time.time = lambda: _real() + {seconds}
time.time_ns = lambda: _real_ns() + {seconds} * 10**9
"""


@pytest.fixture(scope="module")
def one(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node that runs 0.1.0; each test takes it to the other version, at last."""
    fleet = Fleet(tmp_path_factory.mktemp("one"), shelf)
    try:
        fleet.up(1)
        fleet.good("rollout")
        yield fleet
    finally:
        fleet.down()


def other(fleet: Fleet) -> str:
    """The version that the node does not run."""
    return {"0.1.0": "0.1.1", "0.1.1": "0.1.0"}[fleet.version("alpha")]


def to(version: str) -> dict[str, Any]:
    return {"hive_release_versions": {PLUGIN: version}}


def another(fleet: Fleet) -> dict[str, Any]:
    """Variables of a controller on another machine: it knows nothing of the reports and notes of the first."""
    return {"hive_reports_dir": str(fleet.root / "elsewhere")}


def closed(fleet: Fleet, version: str, pid: int) -> None:
    assert fleet.version("alpha") == version
    assert fleet.pid("alpha") == pid
    assert not (fleet.sandbox / "alpha/hive/lock.json").exists()
    assert fleet.journal("alpha")[-1]["event"] in ("confirmed", "reverted", "done", "accepted", "staged")


def test_two_controllers_at_once(one: Fleet) -> None:
    """The second is told who holds the node, changes nothing, and does not disturb the first."""
    version, pid = other(one), one.pid("alpha")
    first = one.start("rollout", **to(version), hive_soak_seconds=4, hive_deadman_seconds=600)
    wait_until(lambda: one.version("alpha") == version, 120, "the first has switched the node")
    first.tell(signal.SIGSTOP)
    before = [entry for entry in one.journal("alpha") if entry["event"] == "begin"]
    for playbook in ("rollout", "rollback"):
        second = one.bad(playbook, **another(one))
        assert "alpha is held by rollout" in second.sentence("wait for that run to end")
    assert [entry for entry in one.journal("alpha") if entry["event"] == "begin"] == before
    first.tell(signal.SIGCONT)
    outcome = first.end()
    assert outcome.rc == 0, outcome.text
    closed(one, version, pid)


def test_the_lock_of_a_dead_controller_is_broken_only_when_asked(one: Fleet) -> None:
    before, version, pid = one.version("alpha"), other(one), one.pid("alpha")
    run = one.start("rollout", **to(version), hive_soak_seconds=60, hive_deadman_seconds=600, hive_lock_ttl_seconds=1)
    wait_until(lambda: one.version("alpha") == version, 120, "the node is switched")
    run.kill()
    refused = one.bad("rollout", **to(before), **another(one))
    assert "has the stale lock of rollout" in refused.sentence("hive_break_lock=true")
    assert one.version("alpha") == version
    # Whoever breaks it first undoes what the dead one left, then goes its own way.
    one.good("rollout", **to(before), **another(one), hive_break_lock=True)
    closed(one, before, pid)
    # The dead one's machine comes back and takes up its run: it finds nothing of its own any more.
    one.good("rollout", **to(version))
    closed(one, version, pid)


@pytest.mark.parametrize("step", ["lock", "stop", "write", "verify"])
def test_the_engine_is_killed_under_a_living_controller(one: Fleet, step: str) -> None:
    """As the kernel does when memory is short: the run takes the node back and fails; the next one goes through."""
    before, version, pid = one.version("alpha"), other(one), one.pid("alpha")
    one.more_environment = {"HIVE_FAULTS": "1", "HIVE_FAILPOINT": f"{step}:kill-after"}
    try:
        outcome = one.bad("rollout", **to(version))
    finally:
        one.more_environment = {}
    assert "verdict: healthy" not in outcome.text
    assert one.report["result"] in ("failed", "reverted")
    closed(one, before, pid)
    one.good("rollout", **to(version))
    closed(one, version, pid)


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_controller_s_clock_is_an_hour_off(one: Fleet, tmp_path: Path, hours: int) -> None:
    """What is new on a node is told by the node's own clock: a broken line is seen, and an old one is no reason."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(seconds=hours * 3600))
    version, pid = other(one), one.pid("alpha")
    one.fault("alpha", "log-broken", message="an old trouble")
    path = one.host("alpha", ansible_python_interpreter=str(python))
    one.more_environment = {"PYTHONPATH": str(tmp_path)}
    try:
        one.good("rollout", **to(version))
        closed(one, version, pid)
        text = one.good("status").text
        assert "an hour" not in text
        run = one.start("rollout", **to(other(one)), hive_soak_seconds=3)
        wait_until(lambda: one.version("alpha") not in ("", version), 120, "the node is switched")
        one.fault("alpha", "log-broken", message="a new trouble")
        outcome = run.end()
    finally:
        one.more_environment = {}
        path.unlink()
        one.fault("alpha", "clear")
    assert outcome.rc != 0
    assert "a new trouble" in outcome.sentence("verdict: failing")
    assert "an old trouble" not in outcome.sentence("verdict: failing")
    closed(one, version, pid)
